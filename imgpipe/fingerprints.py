"""Fingerprints of images: one for the very pixels, one for what they look like."""

import functools
import hashlib
import itertools
from collections.abc import Callable, Iterable, Iterator
from math import prod

import numpy as np
import pandas as pd
from PIL import Image

from imgpipe.images import to_picture

_SIDE, _KEPT = 32, 8  # of the image that the cosine transform sees; of the frequencies that count
_STACK_SIZE = 1 << 20  # values of images that are shrunk at once


def fingerprint_rows(read: Callable, rows: np.ndarray) -> pd.DataFrame:
    """Fingerprint some of a dataset's images: `read` as raw_reader makes it, and row numbers."""
    return fingerprint_images(read(rows))


def fingerprint_images(images: Iterable[np.ndarray | ValueError]) -> pd.DataFrame:
    """Fingerprint each image.

    Args:
        images: each uint8 (height, width, 1 or 3), or the reason why it cannot be had.

    Returns:
        One row an image: sha256 (of the pixels, 64 hexadecimal digits), perceptual_hash (uint64),
        error (the reason, or ""; then the other two are "" and 0).
    """
    rows, small = [], []
    # map, unlike a loop, has let go of images when it asks for the next.
    for alike_rows, alike_small in map(_fingerprint_alike, _gather_alike(images)):
        rows += alike_rows
        small.append(alike_small)
    table = pd.DataFrame(rows, columns=["sha256", "error"])
    table.insert(1, "perceptual_hash", hash_perceptually(np.concatenate(small)))
    return table


def _fingerprint_alike(images: list[np.ndarray] | list[ValueError]) -> tuple[list, np.ndarray]:
    """Return the sums and errors of images of one shape, and the images shrunk."""
    if isinstance(images[0], ValueError):
        rows = [("", str(error)) for error in images]
        return rows, np.zeros((len(images), _SIDE, _SIDE), np.uint8)
    rows = [(hashlib.sha256(np.ascontiguousarray(x)).hexdigest(), "") for x in images]
    return rows, _shrink(images)


def _gather_alike(images: Iterable[np.ndarray | ValueError]) -> Iterator[list]:
    """Gather images of one shape that follow one another, at most _STACK_SIZE values at once."""
    for shape, group in itertools.groupby(images, lambda image: getattr(image, "shape", ())):
        most = max(1, _STACK_SIZE // prod(shape))
        take = functools.partial(itertools.islice, group, most)
        yield from iter(lambda take=take: list(take()), [])


def _shrink(images: list[np.ndarray]) -> np.ndarray:
    """Shrink images of one shape, (height, width, 1 or 3), to uint8 (n, 32, 32), grey.

    They are resized as one tall picture, which saves the time that Pillow takes for each. No pixel
    is mixed of two images: 32 of them lie exactly on each, and boxes end where pixels do. Pillow
    rounds after each direction, and takes first the one that saves more, which depends on how many
    images there are; so it gets them one by one.
    """
    picture = to_picture(np.concatenate(images) if len(images) > 1 else images[0])
    small = picture if picture.mode == "L" else picture.convert("L")
    height = _SIDE * len(images)
    for size in ((small.width, height), (_SIDE, height)):
        small = small.resize(size, Image.Resampling.BOX)
    return np.asarray(small).reshape(-1, _SIDE, _SIDE)


def hash_perceptually(images: np.ndarray) -> np.ndarray:
    """Hash what images look like: similar ones differ in few bits.

    Args:
        images: uint8 (n, 32, 32), grey.

    Returns:
        uint64 (n,): a bit for each of the 64 lowest frequencies of the cosine transform, set where
        it lies above their median.

    Source: C. Zauner 2010, "Implementation and Benchmarking of Perceptual Image Hash Functions",
    section 3.2.1.
    """
    # The cosine transform's rows of the lowest frequencies, up to a factor.
    waves = np.cos(np.pi / _SIDE * np.outer(np.arange(_KEPT), np.arange(_SIDE) + 0.5))
    low = (waves @ images.astype(np.float64) @ waves.T).reshape(len(images), -1)
    low = low.round(3)  # so that the last bits of the arithmetic decide nothing
    bits = low > np.median(low, axis=1, keepdims=True)
    return np.packbits(bits, axis=1).view(np.uint64)[:, 0]
