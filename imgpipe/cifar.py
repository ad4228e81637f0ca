"""CIFAR-10's binary files: one byte of label and 3,072 bytes of pixels an image."""

import numpy as np

_SIDE, _CHANNELS, _CLASSES = 32, 3, 10
_RECORD = 1 + _SIDE * _SIDE * _CHANNELS


def parse_cifar(content: bytes, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Turn a binary batch into images and labels.

    Args:
        content: of the file.
        name: of the file, for errors.

    Returns:
        uint8 (n, 32, 32, 3) and uint8 (n,).

    Raises:
        ValueError: the length is no multiple of a record's, or zero; a label is none of the ten.

    Source: A. Krizhevsky, "The CIFAR-10 dataset", section "Binary version".
    """
    if not content or len(content) % _RECORD:
        raise ValueError(
            f"{name}: has {len(content)} bytes, not a multiple of the {_RECORD} of an image in "
            "CIFAR-10's binary format; fetch it again"
        )
    records = np.frombuffer(content, np.uint8).reshape(-1, _RECORD)
    wrong = np.flatnonzero(records[:, 0] >= _CLASSES)
    if wrong.size:
        raise ValueError(
            f"{name}: image {wrong[0]} has the label {records[wrong[0], 0]}, more than the "
            f"{_CLASSES - 1} that CIFAR-10 has; fetch it again"
        )
    planes = records[:, 1:].reshape(-1, _CHANNELS, _SIDE, _SIDE)  # red, green, blue
    return np.ascontiguousarray(planes.transpose(0, 2, 3, 1)), records[:, 0].copy()
