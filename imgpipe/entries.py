"""What a source holds, file by file, whether it is a folder, an archive or a few files."""

import contextlib
import os
import shutil
import stat
import tarfile
import tempfile
import unicodedata
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import BinaryIO

# What systems leave behind in folders and archives.
_LITTER = ("__MACOSX", "Thumbs.db", "desktop.ini")


@dataclass(frozen=True)
class Entry:
    """One file of a source.

    Attributes:
        name: its path within the source, "/" between the parts, composed Unicode (NFC).
        size: in bytes.
        open: opens it for reading.
    """

    name: str
    size: int
    open: Callable[[], BinaryIO]


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
        ValueError: an archive is damaged, encrypted, or holds links or names that lead out of it;
            a folder holds links to folders; two files have one name.
    """
    with contextlib.ExitStack() as stack:
        entries = []
        for path in paths:
            if path.is_dir():
                entries += _list_folder(path)
            elif not path.exists():
                raise FileNotFoundError(f"{path}: no such file or folder")
            elif zipfile.is_zipfile(path):
                entries += _list_zip(path, stack)
            elif _is_tar(path):
                entries += _list_tar(path, scratch, stack)
            else:
                entries.append(Entry(_clean(path.name, path), path.stat().st_size, _opener(path)))
        entries = [entry for entry in entries if not _is_litter(entry.name)]
        entries.sort(key=lambda entry: entry.name)
        for one, other in pairwise(entries):
            if one.name == other.name:
                raise ValueError(
                    f"{one.name}: stands twice in {_together(paths)}; rename or remove one"
                )
        yield entries


def _list_folder(folder: Path) -> list[Entry]:
    entries = []
    for place, subfolders, files in os.walk(folder):
        subfolders[:] = [name for name in subfolders if not _is_litter(name)]
        for name in subfolders:
            if Path(place, name).is_symlink():
                raise ValueError(
                    f"{Path(place, name)}: is a link to a folder, which is not followed; put the "
                    "folder itself there"
                )
        for name in files:
            path = Path(place, name)
            if not path.is_file():
                raise ValueError(f"{path}: is no regular file; remove it")
            relative = path.relative_to(folder).as_posix()
            entries.append(Entry(_clean(relative, folder), path.stat().st_size, _opener(path)))
    return entries


def _list_zip(path: Path, stack: contextlib.ExitStack) -> list[Entry]:
    try:
        archive = stack.enter_context(zipfile.ZipFile(path))
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
        raise ValueError(f"{path}: is not a whole zip archive ({error})") from None
    entries = []
    for member in archive.infolist():
        if member.is_dir():
            continue
        if stat.S_ISLNK(member.external_attr >> 16):
            raise ValueError(f"{member.filename} in {path}: is a link; put the file itself there")
        if member.flag_bits & 0x1:
            raise ValueError(f"{member.filename} in {path}: is encrypted; give it decrypted")

        def open_member(member=member):
            try:
                return archive.open(member)
            except (zipfile.BadZipFile, NotImplementedError) as error:
                raise ValueError(f"{member.filename} in {path}: cannot be read ({error})") from None

        entries.append(Entry(_clean(_zip_name(member), path), member.file_size, open_member))
    return entries


def _zip_name(member: zipfile.ZipInfo) -> str:
    """Read a member's name as UTF-8 where it is, though the archive does not say so."""
    if member.flag_bits & 0x800:
        return member.filename
    try:
        return member.filename.encode("cp437").decode("utf-8")
    except UnicodeError:
        return member.filename


def _is_tar(path: Path) -> bool:
    try:
        return tarfile.is_tarfile(path)
    except (OSError, EOFError):  # a damaged compressed file fails in ways of its own
        return False


def _list_tar(path: Path, scratch: Path, stack: contextlib.ExitStack) -> list[Entry]:
    try:
        archive = stack.enter_context(tarfile.TarFile(_uncompressed(path, scratch)))
        members = archive.getmembers()
    except (tarfile.TarError, OSError, EOFError, ValueError) as error:
        raise ValueError(f"{path}: is not a whole tar archive ({error})") from None
    entries = []
    for member in members:
        if member.isdir():
            continue
        if not member.isfile():
            raise ValueError(
                f"{member.name} in {path}: is a link or device; put the file itself there"
            )
        entries.append(
            Entry(
                _clean(member.name, path),
                member.size,
                lambda member=member: archive.extractfile(member),
            )
        )
    return entries


def _uncompressed(path: Path, scratch: Path) -> Path:
    """Give the tar itself: only uncompressed can its members be read in any order."""
    with contextlib.suppress(tarfile.ReadError), tarfile.open(path, "r:"):
        return path
    with (
        tarfile.open(path, "r:*") as archive,
        tempfile.NamedTemporaryFile(dir=scratch, suffix=".tar", delete=False) as copy,
    ):
        archive.fileobj.seek(0)
        shutil.copyfileobj(archive.fileobj, copy, 1 << 20)
    return Path(copy.name)


def _opener(path: Path) -> Callable[[], BinaryIO]:
    return lambda: path.open("rb")


def _clean(name: str, holder: Path) -> str:
    """Bring a name into one form; refuse one that leads out of its holder."""
    cleaned = unicodedata.normalize("NFC", name.replace("\\", "/"))
    steps = cleaned.removeprefix("./").split("/")
    if {"", ".", ".."} & set(steps) or ":" in steps[0] or not cleaned.isprintable():
        raise ValueError(f"{name!r} in {holder}: is no name of a file within it; rename it")
    try:
        cleaned.encode()
    except UnicodeEncodeError:
        raise ValueError(f"{name!r} in {holder}: is no name in UTF-8; rename it") from None
    return "/".join(steps)


def _is_litter(name: str) -> bool:
    return any(step.startswith(".") or step in _LITTER for step in name.split("/"))


def _together(paths: list[Path]) -> str:
    return " and ".join(map(str, paths))
