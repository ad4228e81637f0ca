"""Arrays on disk that are written and read in blocks, whatever their size."""

import io
import json
import mmap
import os
from collections.abc import Callable, Iterable, Iterator
from math import prod
from pathlib import Path
from typing import BinaryIO

import numpy as np

from imgpipe.files import replacing, write_json

SUBSETS = ("train", "val", "test")
BLOCK_IMAGES = 256  # held in memory at once
TABLE_ROWS = 1 << 14  # of a table of all images, held in memory at once


def blocks(count: int, size: int = BLOCK_IMAGES) -> Iterator[slice]:
    """Cut `count` items into slices of at most `size`."""
    for start in range(0, count, size):
        yield slice(start, min(start + size, count))


def write_array(path: Path, shape: tuple, dtype: type, parts: Iterable[np.ndarray]) -> None:
    """Write a .npy file part by part; it appears under its name only once it is complete.

    Args:
        path: the .npy file.
        shape: of the whole array.
        dtype: of the whole array.
        parts: arrays that follow one another along the first axis.

    Raises:
        ValueError: the parts do not add up to `shape`.
    """
    with replacing(path) as temporary, temporary.open("wb") as file:
        _write_header(file, shape, dtype)
        for _ in _write_parts(file, path, shape, dtype, 0, parts):
            pass


def continue_array(
    path: Path, shape: tuple, dtype: type, parts_from: Callable[[int], Iterable[np.ndarray]]
) -> int:
    """Write a .npy file part by part, after those that an earlier, killed call has finished.

    A note beside the file tells how many rows are on the disk for certain. Whether they are still
    the rows that are wanted, the caller must know.

    Args:
        path: the .npy file, incomplete until this returns.
        shape: of the whole array.
        dtype: of the whole array.
        parts_from: takes the number of rows that are there, gives the parts that follow them.

    Returns:
        How many rows this call has written.

    Raises:
        ValueError: the parts do not add up to `shape`.
    """
    note = path.with_name(f"{path.name}.rows")
    done = _count_finished_rows(path, note)
    if not done:
        note.unlink(missing_ok=True)  # one without its array would vouch for the new one's rows
    with path.open("r+b" if done else "wb") as file:
        if not done:
            _write_header(file, shape, dtype)
        file.seek(_header_length(shape, dtype) + done * _row_length(shape, dtype))
        file.truncate()
        for rows in _write_parts(file, path, shape, dtype, done, parts_from(done)):
            file.flush()
            os.fsync(file.fileno())
            write_json(rows, note)
    return shape[0] - done


def _count_finished_rows(path: Path, note: Path) -> int:
    if not (path.is_file() and note.is_file()):
        return 0
    return json.loads(note.read_text())


def _write_header(file: BinaryIO, shape: tuple, dtype: type) -> None:
    description = {"descr": np.dtype(dtype).str, "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(file, description)


def _header_length(shape: tuple, dtype: type) -> int:
    header = io.BytesIO()
    _write_header(header, shape, dtype)
    return len(header.getvalue())


def _row_length(shape: tuple, dtype: type) -> int:
    return prod(shape[1:]) * np.dtype(dtype).itemsize


def _write_parts(file: BinaryIO, path: Path, shape: tuple, dtype: type, done: int, parts):
    """Write parts at the end of a file; yield the number of rows after each.

    Written, not copied into a memory map: a full disk is then an error and no bus error, and the
    pages do not count as this process's memory.
    """
    for part in parts:
        if part.shape[1:] != shape[1:] or done + len(part) > shape[0]:
            raise ValueError(f"{path}: a part of shape {part.shape} at {done} exceeds {shape}")
        file.write(np.ascontiguousarray(part, dtype))
        done += len(part)
        yield done
    if done != shape[0]:
        raise ValueError(f"{path}: {done} rows were written where {shape[0]} were announced")


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


def take_rows(array: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Return `array[rows]`; long rows of a memory map are read from its file instead.

    What is read through a map counts as this process's memory for as long as it has the map, in the
    end the whole file.

    Args:
        array: as open_array returns it, or one in memory.
        rows: integers (n,).

    Raises:
        ValueError: the file has been cut since it was opened.
    """
    is_whole_map = isinstance(array.base, mmap.mmap) and array.flags.c_contiguous
    length = array.strides[0]
    if not is_whole_map or length < mmap.PAGESIZE:  # a part's offset tells where the whole begins
        return array[rows]
    taken = np.empty((len(rows), *array.shape[1:]), array.dtype)
    with Path(array.filename).open("rb", buffering=0) as file:
        for place, row in zip(taken, rows.tolist(), strict=True):
            if os.preadv(file.fileno(), [place], array.offset + row * length) != length:
                raise ValueError(f"{array.filename}: is not a whole .npy file any more")
    return taken
