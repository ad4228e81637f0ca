"""From image files of any kind to what a model takes, and from its answer to classes."""

from collections.abc import Iterable
from pathlib import Path
from typing import BinaryIO

import numpy as np

from imgpipe.contract import Contract
from imgpipe.images import decode_image, fit_images

MOST_EXAMPLES = 20


def load_images(files: Iterable[tuple[Path | BinaryIO, str]], contract: Contract) -> np.ndarray:
    """Decode image files just as `preprocess` does.

    Args:
        files: each with its name for errors.
        contract: of the model that they are for.

    Returns:
        uint8 (n, height, width, channels), in the contract's size and channels.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: a file cannot be decoded as an image.
    """
    size = contract.image_size
    decoded = (decode_image(file, name, at_least=size) for file, name in files)
    return fit_images(decoded, image_size=size, channels=contract.channels)


def rank_classes(row: np.ndarray, class_names: list[str], top: int) -> dict[str, float]:
    """Return the `top` most probable classes with their probabilities, best first.

    Raises:
        ValueError: the model gives something else than numbers.
    """
    if not np.isfinite(row).all():
        raise ValueError(
            "data/model: gives probabilities that are no numbers, as after a training that "
            "diverged; train with a lower learning_rate"
        )
    order = np.argsort(-row, kind="stable")[:top]
    return {class_names[label]: round(float(row[label]), 6) for label in order}


def choose_examples(
    images: np.ndarray, labels: np.ndarray, contract: Contract
) -> dict[str, np.ndarray]:
    """Choose an image of each class, to show what a model was trained on.

    Args:
        images: uint8 (n, height, width, channels), may be a memory map.
        labels: integers (n,).
        contract: of the model.

    Returns:
        Class to its first image, of the first twenty classes; nothing if the images are not such
        as the model takes, and so another's.
    """
    classes, rows = np.unique(labels, return_index=True)
    names = contract.class_names
    shape = (*contract.image_size, contract.channels)
    if images.shape[1:] != shape or len(classes) != len(names):
        return {}
    return {
        name: np.array(images[row]) for name, row in zip(names[:MOST_EXAMPLES], rows, strict=False)
    }
