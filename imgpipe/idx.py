"""The IDX format of MNIST and its kin: a header, then one array of unsigned bytes."""

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

_UNSIGNED_BYTE = 0x08
_MOST_DIMENSIONS = 4  # images, height, width, channels


def open_idx(path: Path) -> np.ndarray:
    """Open an IDX file of unsigned bytes as a read-only memory map.

    Args:
        path: an uncompressed IDX file.

    Returns:
        uint8, in the shape that the header states.

    Raises:
        ValueError: not an IDX file of unsigned bytes, or its length is not what its header says.

    Source: format description on the MNIST page, Y. LeCun, C. Cortes, C. Burges.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        magic = file.read(4)
        if len(magic) < 4 or magic[:2] != b"\0\0" or magic[2] != _UNSIGNED_BYTE or not magic[3]:
            raise ValueError(f"{path}: is not an IDX file of unsigned bytes; fetch it again")
        if magic[3] > _MOST_DIMENSIONS:
            raise ValueError(
                f"{path}: has {magic[3]} dimensions by its IDX header, more than the "
                f"{_MOST_DIMENSIONS} that images may have; fetch it again"
            )
        header = file.read(4 * magic[3])
    if len(header) < 4 * magic[3]:
        raise ValueError(f"{path}: ends within its IDX header; fetch it again")
    shape = tuple(int(n) for n in np.frombuffer(header, dtype=">u4"))
    offset = 4 + len(header)
    expected = offset + int(np.prod(shape, dtype=object))
    if size != expected:
        raise ValueError(
            f"{path}: has {size} bytes where its IDX header {shape} asks for {expected}; "
            "fetch it again"
        )
    if expected == offset:
        raise ValueError(f"{path}: holds nothing, its IDX header says {shape}; fetch it again")
    return np.memmap(path, dtype=np.uint8, mode="r", offset=offset, shape=shape)


def write_idx(path: Path, array: np.ndarray) -> None:
    """Write a uint8 array as an IDX file."""
    with appending_idx(path) as append:
        append(array)


@contextlib.contextmanager
def appending_idx(path: Path) -> Iterator[Callable[[np.ndarray], None]]:
    """Write an IDX file block by block: the whole array need not be in memory.

    Yields:
        A function that takes uint8 (n, …), the next block; all must have one shape but for n.
    """
    count, shape = 0, None
    with path.open("wb") as file:

        def append(block: np.ndarray) -> None:
            nonlocal count, shape
            if shape is None:
                shape = block.shape[1:]
                file.write(_make_header(0, shape))
            count += len(block)
            file.write(np.ascontiguousarray(block, np.uint8))

        yield append
        file.seek(0)
        file.write(_make_header(count, shape))  # now that the count is known


def _make_header(count: int, shape: tuple[int, ...]) -> bytes:
    dimensions = (count, *shape)
    return bytes([0, 0, _UNSIGNED_BYTE, len(dimensions)]) + np.array(dimensions, ">u4").tobytes()
