"""Arrays on disk that are written and read in blocks, whatever their size."""

from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from imgpipe.files import replacing

SUBSETS = ("train", "val", "test")
BLOCK_IMAGES = 256  # held in memory at once


def blocks(count: int, size: int = BLOCK_IMAGES) -> Iterator[slice]:
    """Cut `count` items into slices of at most `size`."""
    for start in range(0, count, size):
        yield slice(start, min(start + size, count))


def write_array(path: Path, shape: tuple, dtype: type, parts: Iterable[np.ndarray]) -> None:
    """Write a .npy file part by part.

    Each part goes through a memory map of its own, closed before the next: pages that were
    written do not pile up in this process's memory. The file appears under its name only once
    it is complete.

    Args:
        path: the .npy file.
        shape: of the whole array.
        dtype: of the whole array.
        parts: arrays that follow one another along the first axis.

    Raises:
        ValueError: the parts do not add up to `shape`.
    """
    with replacing(path) as temporary:
        np.lib.format.open_memmap(temporary, mode="w+", dtype=dtype, shape=shape)
        start = 0
        for part in parts:
            if part.shape[1:] != shape[1:] or start + len(part) > shape[0]:
                raise ValueError(f"{path}: a part of shape {part.shape} at {start} exceeds {shape}")
            if len(part):
                array = np.lib.format.open_memmap(temporary, mode="r+")
                array[start : start + len(part)] = part
                del array
            start += len(part)
        if start != shape[0]:
            raise ValueError(f"{path}: {start} rows were written where {shape[0]} were announced")


def open_array(path: Path) -> np.ndarray:
    """Open a .npy file as a read-only memory map; refuse pickled objects.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is not a .npy file, or it is truncated.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path}: not found; dvc repro makes it")
    try:
        return np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, OSError, EOFError) as error:
        raise ValueError(
            f"{path}: is not a whole .npy file ({error}); remove it and run dvc repro"
        ) from None
