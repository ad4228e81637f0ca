"""What a source holds, file by file, whether it is a folder, an archive or a few files."""

import contextlib
import functools
import os
import sqlite3
import unicodedata
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
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
from imgpipe.database import temporary_database
from imgpipe.wording import shorten

# What systems leave behind in folders and archives; the last is the icon of a Mac's folder.
_LITTER = ("__MACOSX", "Thumbs.db", "desktop.ini", "Icon\r")
_ARCHIVE_SUFFIXES = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz")
# How archives begin that are not read, whatever their names.
_OTHER_ARCHIVES = {
    b"7z\xbc\xaf\x27\x1c": "7z",
    b"Rar!\x1a\x07": "rar",
    b"\x28\xb5\x2f\xfd": "zst",
}
_LONGEST_NAME = 1024  # characters


@dataclass(frozen=True, slots=True)
class Entry:
    """One file of a source.

    Attributes:
        name: its path within the source, "/" between the parts, composed Unicode (NFC).
        size: in bytes.
        opener: of the source, which opens what is at a place; `open` does so with clear errors.
        place: in the source, a number or a text.
    """

    name: str
    size: int
    opener: Opener
    place: Any

    @contextlib.contextmanager
    def open(self) -> Iterator[BinaryIO]:
        """Open the file for reading.

        Raises:
            PermissionError: it may not be read.
            ValueError: its bytes, or those of the archive that holds it, are damaged.
        """
        with (
            named_damage(f"{self.name}: cannot be read"),
            self.opener(self.place, self.size) as file,
        ):
            yield file


class Entries:
    """The files of a source, sorted by name.

    There may be a million of them, so they stand in a database.
    """

    def __init__(self, database: sqlite3.Connection):
        self._openers = []
        self._database = database
        database.execute("CREATE TABLE files (name, size, source, place)")
        database.create_function("fold_case", 1, _fold_case, deterministic=True)

    def __len__(self) -> int:
        return self._database.execute("SELECT count(*) FROM files").fetchone()[0]

    def __iter__(self) -> Iterator[Entry]:
        return map(self._entry, self._database.execute("SELECT * FROM files ORDER BY name"))

    def sorted_by(self, key: Callable[[str], str | None]) -> Iterator[tuple[str, Entry]]:
        """Give what `key` makes of each name, and the entry, sorted; leave out where it is None."""
        self._database.create_function("key", 1, key, deterministic=True)
        for found, *file in self._database.execute("SELECT key(name), * FROM files ORDER BY 1, 2"):
            if found is not None:
                yield found, self._entry(file)

    def add(self, files: Iterable[tuple[str, int, Any]], opener: Opener, holder: Path) -> None:
        """Take in the files of one path, but for what systems leave behind.

        Args:
            files: name as it is there, size and place.
            opener: opens what is at a place.
            holder: the path.

        Raises:
            ValueError: a name leads out of it, or is too long.
        """
        source = len(self._openers)
        self._openers.append(opener)
        rows = (
            (_clean(name, holder), size, source, place)
            for name, size, place in files
            if not _is_litter(name)  # first: such a name may be one that would be refused
        )
        self._database.executemany("INSERT INTO files VALUES (?, ?, ?, ?)", rows)

    def refuse_one_place(self, where: str) -> None:
        """Refuse files of one name, and what many disks cannot keep apart.

        That is, paths that are one but for upper and lower case: an archive that holds both gives
        other images after it was unpacked on such a disk.
        """
        self._database.execute("CREATE INDEX by_name ON files (name)")
        twice = self._database.execute(
            "SELECT name FROM files GROUP BY name HAVING count(*) > 1 ORDER BY name"
        ).fetchone()
        if twice:
            raise ValueError(f"{twice[0]}: stands twice in {where}; rename or remove one")
        self._database.execute("CREATE TABLE folders (name)")
        folders = ((name,) for name in self._find_folders())
        self._database.executemany("INSERT INTO folders VALUES (?)", folders)
        alike = self._database.execute(
            "SELECT min(name), max(name) FROM "
            "(SELECT name FROM files UNION ALL SELECT name FROM folders) "
            "GROUP BY fold_case(name) HAVING count(*) > 1 ORDER BY 2"
        ).fetchone()
        if alike and alike[0] == alike[1]:
            raise ValueError(f"{alike[0]}: is a file and a folder, in {where}; rename one")
        if alike:
            one, other = map(shorten, alike)
            raise ValueError(
                f"{one} and {other}: differ only in upper and lower case, in {where}; rename one"
            )

    def _find_folders(self) -> set[str]:
        """Find the folders that files are in, and those around them; there are few."""
        folders = set()
        for (name,) in self._database.execute("SELECT name FROM files"):
            folder = name.rpartition("/")[0]
            while folder and folder not in folders:
                folders.add(folder)
                folder = folder.rpartition("/")[0]
        return folders

    def _entry(self, file: tuple[str, int, int, Any]) -> Entry:
        name, size, source, place = file
        return Entry(name, size, self._openers[source], place)


@contextlib.contextmanager
def open_entries(paths: list[Path], scratch: Path) -> Iterator[Entries]:
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
        PermissionError: a file or folder may not be read.
        ValueError: an archive is of another kind, damaged, encrypted, made to fill a disk, or holds
            links or names that lead out of it; a folder holds links to folders; two files have one
            name, or names that differ only by case; there are more than MOST_FILES files.
        OSError: there is no room for temporary files.
    """
    with contextlib.ExitStack() as stack:
        entries = Entries(stack.enter_context(temporary_database()))
        for path in paths:
            with named_permission():
                entries.add(*_list_path(path, scratch, stack), path)
            if len(entries) > MOST_FILES:
                raise too_many_files(path)
        entries.refuse_one_place(" and ".join(map(str, paths)))
        yield entries


@contextlib.contextmanager
def named_permission() -> Iterator[None]:
    """Turn the system's word on what may not be read into an error that says what to do."""
    try:
        yield
    except PermissionError as error:
        raise PermissionError(
            f"{error.filename}: cannot be read for want of permission; make it readable (chmod "
            "-R u+rX, or its owner)"
        ) from None


def _list_path(
    path: Path, scratch: Path, stack: contextlib.ExitStack
) -> tuple[Iterable[tuple[str, int, Any]], Opener]:
    """List a path's files by name, size and place; return what opens one, too."""
    if path.is_dir():
        return _list_folder(path), functools.partial(_open_file, path)
    if not path.exists():
        raise FileNotFoundError(f"{path}: no such file or folder")
    if not path.is_file():
        raise ValueError(f"{path}: is no regular file; name a file or folder")
    # A tar may well end with a zip archive, which makes it one to zipfile.
    if is_tar(path):
        members, opener = list_tar(path, scratch, stack)
        return _check_members(members, path), opener
    _refuse_other_archive(path)
    if is_zip(path):
        members, opener = list_zip(path, stack)
        return _check_members(members, path), opener
    if path.name.lower().endswith(_ARCHIVE_SUFFIXES):
        raise ValueError(f"{path}: is not a whole archive; fetch or make it again")
    file = (path.name, path.stat().st_size, path.name)
    return [file], functools.partial(_open_file, path.parent)


def _refuse_other_archive(path: Path) -> None:
    with path.open("rb") as file:
        start = file.read(max(map(len, _OTHER_ARCHIVES)))
    kinds = [kind for begin, kind in _OTHER_ARCHIVES.items() if start.startswith(begin)]
    if path.suffix.lower() == ".lzma":  # which begins with no mark of its own
        kinds.append("lzma")
    if kinds:
        raise ValueError(
            f"{path}: is packed as {kinds[0]}, which is not read; unpack it, or give it as zip or "
            "tar"
        )


def _open_file(folder: Path, name: str, size: int) -> BinaryIO:
    with named_permission():
        return (folder / name).open("rb")


def _check_members(members: Iterable[Member], archive: Path) -> Iterator[tuple[str, int, Any]]:
    """Check the folders' names of an archive, and keep its files."""
    for member in members:
        if not member.is_folder:
            yield member.name, member.size, member.place
        elif member.name.strip("./") and not _is_litter(member.name):  # "./" is the archive itself
            _clean(member.name.removesuffix("/"), archive)


def _list_folder(folder: Path) -> Iterator[tuple[str, int, str]]:
    count = 0
    for inner, subfolders, files in os.walk(folder, onerror=_fail):
        subfolders[:] = [name for name in subfolders if not _is_litter(name)]
        for name in subfolders:
            if Path(inner, name).is_symlink():
                raise ValueError(
                    f"{Path(inner, name)}: is a link to a folder, which is not followed; put the "
                    "folder itself there"
                )
            _clean(Path(inner, name).relative_to(folder).as_posix(), folder)
        count += len(files)
        if count > MOST_FILES:
            raise too_many_files(folder)
        for name in files:
            path = Path(inner, name)
            if not path.is_file():
                raise ValueError(f"{path}: is no regular file; remove it")
            place = path.relative_to(folder).as_posix()
            yield place, path.stat().st_size, place


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


def _fold_case(path: str) -> str:
    return unicodedata.normalize("NFC", path.lower())


def _is_litter(name: str) -> bool:
    steps = set(name.replace("\\", "/").split("/")) - {".", ".."}  # which lead somewhere
    return any(step.startswith(".") or step in _LITTER for step in steps)
