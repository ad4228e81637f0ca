"""Placing many vectors on a plane, to look at which of them lie together."""

import numpy as np
from PIL import Image

from imgpipe.images import to_picture
from imgpipe.stage import progress_bar

MOST_POINTS = 10_000
LARGEST_SIDE = 32  # pixels; of images that are compared by their pixels
_COMPONENTS = 50  # that t-SNE gets: the rest is noise, and slow
_SHOWN_EVERY = 10  # iterations


def choose_rows(count: int, limit: int = MOST_POINTS) -> np.ndarray:
    """Choose rows of a table evenly, all of them where there are not too many.

    Returns:
        int64 (min(count, limit),), ascending.
    """
    return np.linspace(0, count - 1, min(count, limit)).round().astype(np.int64)


def flatten_images(images: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Turn images into vectors of their pixels.

    Args:
        images: uint8 (n, height, width, 1 or 3), may be a memory map.
        rows: integers (m,), which of them.

    Returns:
        float32 (m, dimensions), from 0 to 1. Images of more than 32 pixels a side are shrunk.
    """
    height, width = images.shape[1:3]
    scale = min(1, LARGEST_SIDE / max(height, width))
    size = max(1, round(width * scale)), max(1, round(height * scale))
    vectors = np.empty((len(rows), size[0] * size[1] * images.shape[3]), np.float32)
    for vector, row in zip(vectors, rows, strict=True):
        small = to_picture(images[row]).resize(size, Image.Resampling.BOX)
        vector[:] = np.asarray(small, np.float32).ravel() / 255
    return vectors


def find_components(vectors: np.ndarray) -> np.ndarray:
    """Rotate vectors so that the directions in which they vary most come first (PCA).

    Args:
        vectors: float (n, dimensions).

    Returns:
        float32 (n, 50), or fewer columns where n or dimensions is smaller, but at least two.
    """
    from sklearn.decomposition import PCA  # a second, which those who only choose rows save

    vectors = np.asarray(vectors, np.float32)
    if not np.ptp(vectors, axis=0).any():
        return np.zeros((len(vectors), 2), np.float32)
    count = min(_COMPONENTS, *vectors.shape)
    # Of two ways, the one that is fast for the longer side; both are exact.
    solver = "covariance_eigh" if len(vectors) > vectors.shape[1] else "full"
    components = PCA(count, svd_solver=solver).fit_transform(vectors)
    return np.pad(components, ((0, 0), (0, max(0, 2 - count)))).astype(np.float32)


def place_neighbours(components: np.ndarray) -> np.ndarray:
    """Place vectors on a plane so that near ones stay near (t-SNE).

    Args:
        components: float32 (n, 2 or more), as find_components makes them.

    Returns:
        float32 (n, 2); the first two components themselves for fewer than five vectors.

    Source: van der Maaten & Hinton 2008, "Visualizing Data using t-SNE"; the start from the first
    components, Kobak & Berens 2019, "The art of using t-SNE for single-cell transcriptomics".
    """
    from joblib import cpu_count  # as scikit-learn, which openTSNE imports, does: slowly
    from openTSNE import TSNE

    start = components[:, :2]
    if len(components) < 5:
        return start
    start = start * (1e-4 / max(float(start[:, 0].std()), 1e-12))
    phases = {"early_exaggeration_iter": 250, "n_iter": 500}
    with progress_bar(total=sum(phases.values()), unit=" iterations", desc="t-SNE") as bar:

        def show(*_):
            bar.update(_SHOWN_EVERY)

        tsne = TSNE(
            perplexity=min(30, (len(components) - 1) / 3),
            initialization=start.astype(np.float64),
            neighbors="exact",
            n_jobs=cpu_count() if len(components) > 1000 else 1,
            callbacks=show,
            callbacks_every_iters=_SHOWN_EVERY,
            **phases,
        )
        return np.asarray(tsne.fit(components), np.float32)
