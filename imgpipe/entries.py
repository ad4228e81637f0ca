"""What a source holds, file by file, whether it is a folder, an archive or a few files."""

import contextlib
import functools
import os
import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, BinaryIO, NoReturn

from imgpipe.archives import (
    MOST_FILES,
    Member,
    Opener,
    is_tar,
    is_zip,
    list_tar,
    list_zip,
    named_damage,
    too_many_files,
)
from imgpipe.wording import shorten

# What systems leave behind in folders and archives.
_LITTER = ("__MACOSX", "Thumbs.db", "desktop.ini")
_ARCHIVE_SUFFIXES = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz")
_LONGEST_NAME = 1024  # characters


@dataclass(frozen=True, slots=True)
class Entry:
    """One file of a source.

    Attributes:
        name: its path within the source, "/" between the parts, composed Unicode (NFC).
        size: in bytes.
        opener: of the source, which opens what is at a place; `open` does so with clear errors.
        place: in the source. There may be a million entries: each has no more than this.
    """

    name: str
    size: int
    opener: Opener
    place: Any

    @contextlib.contextmanager
    def open(self) -> Iterator[BinaryIO]:
        """Open the file for reading.

        Raises:
            ValueError: its bytes, or those of the archive that holds it, are damaged.
        """
        with (
            named_damage(f"{self.name}: cannot be read"),
            self.opener(self.place, self.size) as file,
        ):
            yield file


@contextlib.contextmanager
def open_entries(paths: list[Path], scratch: Path) -> Iterator[list[Entry]]:
    """List the files that some folders, archives and plain files hold, sorted by name.

    What the system itself puts into folders (hidden files, __MACOSX, Thumbs.db) is left out. The
    files of several paths stand side by side, as if they came from one.

    Args:
        paths: folders, zip or tar archives (compressed or not), or other files.
        scratch: an existing folder for a compressed tar's uncompressed copy.

    Yields:
        The entries, which can be opened until the context ends.

    Raises:
        FileNotFoundError: a path does not exist.
        ValueError: an archive is damaged, encrypted, made to fill a disk, or holds links or names
            that lead out of it; a folder holds links to folders; two files have one name, or names
            that differ only by case; there are more than MOST_FILES files.
    """
    with contextlib.ExitStack() as stack:
        entries = []
        for path in paths:
            entries += _list_path(path, scratch, stack)
            if len(entries) > MOST_FILES:
                raise too_many_files(path)
        entries = [entry for entry in entries if not _is_litter(entry.name)]
        entries.sort(key=lambda entry: entry.name)
        for one, other in pairwise(entries):
            if one.name == other.name:
                raise ValueError(
                    f"{one.name}: stands twice in {_together(paths)}; rename or remove one"
                )
        _refuse_one_place([entry.name for entry in entries], _together(paths))
        yield entries


def _list_path(path: Path, scratch: Path, stack: contextlib.ExitStack) -> list[Entry]:
    if path.is_dir():
        return _list_folder(path)
    if not path.exists():
        raise FileNotFoundError(f"{path}: no such file or folder")
    if not path.is_file():
        raise ValueError(f"{path}: is no regular file; name a file or folder")
    # A tar may well end with a zip archive, which makes it one to zipfile.
    if is_tar(path):
        return _enter(*list_tar(path, scratch, stack), path)
    if is_zip(path):
        return _enter(*list_zip(path, stack), path)
    if path.name.lower().endswith(_ARCHIVE_SUFFIXES):
        raise ValueError(f"{path}: is not a whole archive; fetch or make it again")
    opener = functools.partial(_open_file, path.parent)
    return [Entry(_clean(path.name, path), path.stat().st_size, opener, path.name)]


def _open_file(folder: Path, name: str, size: int) -> BinaryIO:
    return (folder / name).open("rb")


def _enter(members: Iterable[Member], opener: Opener, archive: Path) -> list[Entry]:
    """Check all names of an archive, and keep its files."""
    entries = []
    for member in members:
        if not member.is_folder:
            name = _clean(member.name, archive)
            entries.append(Entry(name, member.size, opener, member.place))
        elif member.name.strip("./"):  # "./" is the archive's own top
            _clean(member.name.removesuffix("/"), archive)
    return entries


def _list_folder(folder: Path) -> list[Entry]:
    entries, opener = [], functools.partial(_open_file, folder)
    for inner, subfolders, files in os.walk(folder, onerror=_fail):
        subfolders[:] = [name for name in subfolders if not _is_litter(name)]
        for name in subfolders:
            if Path(inner, name).is_symlink():
                raise ValueError(
                    f"{Path(inner, name)}: is a link to a folder, which is not followed; put the "
                    "folder itself there"
                )
            _clean(Path(inner, name).relative_to(folder).as_posix(), folder)
        for name in files:
            path = Path(inner, name)
            if not path.is_file():
                raise ValueError(f"{path}: is no regular file; remove it")
            place = path.relative_to(folder).as_posix()
            cleaned = _clean(place, folder)
            place = cleaned if cleaned == place else place  # one text instead of two
            entries.append(Entry(cleaned, path.stat().st_size, opener, place))
        if len(entries) > MOST_FILES:
            raise too_many_files(folder)
    return entries


def _fail(error: OSError) -> NoReturn:
    raise error  # a folder that cannot be read must not count as an empty one


def _clean(name: str, holder: Path) -> str:
    """Bring a name into one form; refuse one that leads out of its holder."""
    if len(name) > _LONGEST_NAME:
        raise ValueError(
            f"{shorten(name)} in {holder}: is longer than {_LONGEST_NAME:,} characters; rename it"
        )
    cleaned = unicodedata.normalize("NFC", name.replace("\\", "/"))
    steps = cleaned.removeprefix("./").split("/")
    if {"", ".", ".."} & set(steps) or ":" in steps[0] or not cleaned.isprintable():
        raise ValueError(
            f"{shorten(name)!r} in {holder}: is no name of a file within it; rename it"
        )
    try:
        cleaned.encode()
    except UnicodeEncodeError:
        raise ValueError(f"{shorten(name)!r} in {holder}: is no name in UTF-8; rename it") from None
    return "/".join(steps)


def _refuse_one_place(names: list[str], where: str) -> None:
    """Refuse what many disks cannot keep apart: paths that are one but for upper and lower case.

    An archive that holds both gives other images after it was unpacked on such a disk.
    """
    folders = set()
    for name in names:
        folder = name.rpartition("/")[0]
        while folder and folder not in folders:
            folders.add(folder)
            folder = folder.rpartition("/")[0]
    spellings = {}
    for path in [*names, *sorted(folders)]:
        folded = unicodedata.normalize("NFC", path.lower())
        other = spellings.setdefault(path if folded == path else folded, path)
        if other != path:
            raise ValueError(
                f"{shorten(other)} and {shorten(path)}: differ only in upper and lower case, in "
                f"{where}; rename one"
            )
    for name in names:
        if name in folders:
            raise ValueError(f"{name}: is a file and a folder, in {where}; rename one")


def _is_litter(name: str) -> bool:
    return any(step.startswith(".") or step in _LITTER for step in name.split("/"))


def _together(paths: list[Path]) -> str:
    return " and ".join(map(str, paths))
