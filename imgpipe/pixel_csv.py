"""Images as CSV: a header `label,pixel1,pixel2,…`, then a line of whole numbers an image."""

import warnings
from math import isqrt
from typing import BinaryIO

import numpy as np

_LINES = 2000  # parsed at once


def parse_pixel_csv(file: BinaryIO, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Turn a CSV file into images and labels.

    Args:
        file: the CSV file; row by row the pixels of square grey images.
        name: of the file, for errors.

    Returns:
        uint8 (n, side, side) and uint8 (n,).

    Raises:
        ValueError: another header, a line that is too short or too long, or a value that is no
            whole number from 0 to 255.
    """
    import pandas as pd  # a third of a second, which the other formats save

    images, labels = [], []
    try:
        with warnings.catch_warnings():
            # Of a line that is too long pandas drops the rest, with a warning.
            warnings.simplefilter("error", pd.errors.ParserWarning)
            for lines in pd.read_csv(
                file, chunksize=_LINES, index_col=False, dtype=np.int64, encoding="utf-8-sig"
            ):
                side = _side_of(list(lines.columns))
                values = lines.to_numpy()
                wrong = values[(values < 0) | (values > 255)]
                if wrong.size:
                    raise ValueError(f"{wrong[0]} is not in 0 to 255")
                labels.append(values[:, 0].astype(np.uint8))
                images.append(values[:, 1:].astype(np.uint8).reshape(-1, side, side))
    except (ValueError, OverflowError, pd.errors.ParserWarning) as error:
        reason = " ".join(str(error).split())
        raise ValueError(
            f"{name}: is not a CSV file of images, label,pixel1,… with whole numbers from 0 to 255 "
            f"({reason})"
        ) from None
    if not sum(map(len, labels)):
        raise ValueError(f"{name}: holds no images")
    return np.concatenate(images), np.concatenate(labels)


def _side_of(columns: list[str]) -> int:
    """Check the header; return the side of the square images."""
    pixels = len(columns) - 1
    if columns != ["label", *(f"pixel{n}" for n in range(1, pixels + 1))] or pixels < 1:
        raise ValueError(f"its header begins with {','.join(columns[:3])}")
    side = isqrt(pixels)
    if side * side != pixels:
        raise ValueError(f"{pixels} pixels make no square image")
    return side
