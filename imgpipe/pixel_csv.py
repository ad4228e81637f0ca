"""Images as CSV: a header `label,pixel1,pixel2,…`, then a line of whole numbers an image."""

import io
import warnings
from collections.abc import Iterator
from math import isqrt
from typing import BinaryIO

import numpy as np

from imgpipe.wording import word_error

_LONGEST_LINE = 1 << 20  # bytes
_NUMBERS = b'0123456789+-.eE", \t\r\n'  # what lines may consist of
_BLOCK = 8 << 20  # bytes parsed at once, give or take a line


def parse_pixel_csv(file: BinaryIO, name: str) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Turn a CSV file into images and labels, block by block.

    Args:
        file: the CSV file, of any length; row by row the pixels of square grey images.
        name: of the file, for errors.

    Yields:
        uint8 (n, side, side) and uint8 (n,), of the next n images.

    Raises:
        ValueError: another header, a line that is too short or too long, or a value that is no
            whole number from 0 to 255.
    """
    count = 0
    try:
        for header, body in _blocks(file):
            images, labels = _parse_block(header, body)
            count += len(labels)
            yield images, labels
    except (ValueError, OverflowError, Warning) as error:
        raise ValueError(
            f"{name}: is not a CSV file of images, label,pixel1,… with whole numbers from 0 to 255 "
            f"({word_error(error)}); mend or remove it"
        ) from None
    if not count:
        raise ValueError(f"{name}: holds no images; fetch it again")


def _parse_block(header: bytes, body: bytes) -> tuple[np.ndarray, np.ndarray]:
    import pandas as pd  # a third of a second, which the other formats save

    with warnings.catch_warnings():
        # Of a line that is too long pandas drops the rest, with a warning; of a number beyond
        # all types, as 1e400, NumPy makes another, with a warning.
        warnings.simplefilter("error", pd.errors.ParserWarning)
        warnings.simplefilter("error", RuntimeWarning)
        block = io.BytesIO(header + body)
        lines = pd.read_csv(block, index_col=False, dtype=np.int64, encoding="utf-8-sig")
    side = _side_of(list(lines.columns))
    if other := body.translate(None, _NUMBERS):  # pandas takes True for 1
        raise ValueError(f"{other[:1]!r} is no part of a number")
    values = lines.to_numpy()
    wrong = values[(values < 0) | (values > 255)]
    if wrong.size:
        raise ValueError(f"{wrong[0]} is not in 0 to 255")
    return values[:, 1:].astype(np.uint8).reshape(-1, side, side), values[:, 0].astype(np.uint8)


def _blocks(file: BinaryIO) -> Iterator[tuple[bytes, bytes]]:
    """Cut a CSV file into blocks of lines, each given with the header.

    A parser that is given the whole file would first read a line of any length.
    """
    header = file.readline(_LONGEST_LINE)
    if b"\r" in header.rstrip(b"\r\n"):
        raise ValueError("its lines end with CR alone; save it with LF or CRLF line ends")
    lines, size, line = [], 0, header
    while len(line) < _LONGEST_LINE and (line := file.readline(_LONGEST_LINE)):
        lines.append(line)
        size += len(line)
        if size >= _BLOCK:
            yield header, b"".join(lines)
            lines, size = [], 0
    if len(line) >= _LONGEST_LINE:
        raise ValueError(f"a line is longer than {_LONGEST_LINE:,} bytes")
    if size or not header.strip():
        yield header, b"".join(lines)


def _side_of(columns: list[str]) -> int:
    """Check the header; return the side of the square images."""
    pixels = len(columns) - 1
    if columns != ["label", *(f"pixel{n}" for n in range(1, pixels + 1))] or pixels < 1:
        raise ValueError(f"its header begins with {','.join(columns[:3])[:80]}")
    side = isqrt(pixels)
    if side * side != pixels:
        raise ValueError(f"{pixels} pixels make no square image")
    return side
