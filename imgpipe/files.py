"""Files on disk: written whole or not at all, and known by their sums."""

import contextlib
import errno
import fcntl
import hashlib
import json
import os
import re
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path


@contextlib.contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """Give a temporary path to write a file or folder at; rename it to `path` on success.

    The temporary place is a hidden folder beside `path`, so nothing is copied and no reader ever
    sees a part. On any error it is removed and `path` stays as it was; what a killed process left
    in it is removed by the next one. The bytes are on the disk before the name is: not even a
    power cut leaves a part under it. Two processes must not write one path at once (stages hold a
    lock).
    """
    path = Path(path)
    folder = path.with_name(f".{path.name}.part")
    remove(folder)
    folder.mkdir(parents=True)
    try:
        temporary = folder / path.name
        yield temporary
        _sync(temporary)
        if path.is_dir() or path.is_symlink():
            path.rename(folder / f"{path.name}.old")
        temporary.replace(path)
        _sync_folder(path.parent)
    finally:
        remove(folder)


def remove(path: Path) -> None:
    """Remove a file, link or folder, if there is one."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _sync(path: Path) -> None:
    """Wait until the bytes of a file, or of all files of a folder, are on the disk."""
    for file in [path, *path.rglob("*")]:
        if file.is_file() and not file.is_symlink():
            with file.open("rb") as opened:
                os.fsync(opened.fileno())


def _sync_folder(folder: Path) -> None:
    """Wait until the names in a folder are on the disk."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def holding(path: Path, busy: str | None = None) -> Iterator[None]:
    """Hold a lock that ends with the process, however it ends.

    Args:
        path: of the lock's file, which stays behind.
        busy: what to say if another process holds it; None to wait for that one.

    Raises:
        OSError: another process holds it; the message is `busy`.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | (0 if busy is None else fcntl.LOCK_NB))
        except BlockingIOError:
            raise OSError(busy) from None
        yield


def find_unreadable(place: Path) -> tuple[Path, str] | None:
    """Find what no one could read in a folder, hidden files included, or the place itself.

    Who reads a pipe waits for ever, and a device may never end.

    Returns:
        Its path, and what is wrong with it; None where all is well.
    """
    if not place.is_dir():
        return _judge(place)
    failed = []
    for folder, subfolders, files in os.walk(place, onerror=failed.append):
        for name in [*files, *(sub for sub in subfolders if not sub.isprintable())]:
            if found := _judge(Path(folder, name)):
                return found
    return (Path(failed[0].filename), f"{failed[0].strerror}") if failed else None


def _judge(path: Path) -> tuple[Path, str] | None:
    try:
        path.name.encode()
        if path.is_dir() or path.is_file():
            return None if os.access(path, os.R_OK) else (path, "may not be read")
        return path, "is a link to nothing" if path.is_symlink() else "is no regular file"
    except UnicodeEncodeError:
        return path, "is no name in UTF-8"
    except OSError as error:  # a link to itself
        return path, f"cannot be looked up ({error.strerror})"


def is_disk_full(error: BaseException) -> bool:
    """Tell whether an error says that there is no room for a file."""
    full = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
    # NumPy tells how many values of an array it could not write, and not why.
    from_numpy = re.fullmatch(r"\d+ requested and \d+ written", str(error))
    return isinstance(error, OSError) and (error.errno in full or bool(from_numpy))


def sha256_of_file(path: Path) -> str:
    """Return the SHA-256 sum of a file's bytes as 64 hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_table(table, path: Path) -> None:
    """Write a pandas table without its index as CSV."""
    write_long_table([table], path)


def write_long_table(blocks: Iterable, path: Path) -> None:
    """Write a table as write_table does, of which there are only so many rows at a time.

    Args:
        blocks: pandas tables of the same columns, at least one.
        path: the CSV file.
    """
    with replacing(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        for number, block in enumerate(blocks):
            header = number == 0
            block.to_csv(file, header=header, index=False, float_format="%.6f", lineterminator="\n")


def write_json(content, path: Path) -> None:
    """Write JSON, names in any script as they are."""
    with replacing(path) as temporary:
        text = json.dumps(content, indent=2, ensure_ascii=False) + "\n"
        temporary.write_text(text, encoding="utf-8")
