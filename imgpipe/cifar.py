"""CIFAR-10's binary files: one byte of label and 3,072 bytes of pixels an image."""

from collections.abc import Iterator
from typing import BinaryIO

import numpy as np

_SIDE, _CHANNELS, _CLASSES = 32, 3, 10
_RECORD = 1 + _SIDE * _SIDE * _CHANNELS
_BLOCK = 1024  # images parsed at once


def parse_cifar(file: BinaryIO, name: str) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Turn a binary batch into images and labels, block by block.

    Args:
        file: the batch, of any length.
        name: of the file, for errors.

    Yields:
        uint8 (n, 32, 32, 3) and uint8 (n,), of the next n images.

    Raises:
        ValueError: the length is no multiple of a record's, or zero; a label is none of the ten.

    Source: A. Krizhevsky, "The CIFAR-10 dataset", section "Binary version".
    """
    size = 0
    while content := file.read(_BLOCK * _RECORD):
        first = size // _RECORD
        size += len(content)
        if size % _RECORD:
            break
        records = np.frombuffer(content, np.uint8).reshape(-1, _RECORD)
        wrong = np.flatnonzero(records[:, 0] >= _CLASSES)
        if wrong.size:
            raise ValueError(
                f"{name}: image {first + wrong[0]} has the label {records[wrong[0], 0]}, more than "
                f"the {_CLASSES - 1} that CIFAR-10 has; fetch it again"
            )
        planes = records[:, 1:].reshape(-1, _CHANNELS, _SIDE, _SIDE)  # red, green, blue
        yield np.ascontiguousarray(planes.transpose(0, 2, 3, 1)), records[:, 0].copy()
    if not size or size % _RECORD:
        raise ValueError(
            f"{name}: has {size} bytes, not a multiple of the {_RECORD} of an image in "
            "CIFAR-10's binary format; fetch it again"
        )
