"""What a source holds, file by file, whether it is a folder, an archive or a few files."""

import contextlib
import functools
import lzma
import os
import shutil
import stat
import tarfile
import tempfile
import unicodedata
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import BinaryIO

# What systems leave behind in folders and archives.
_LITTER = ("__MACOSX", "Thumbs.db", "desktop.ini")
_ARCHIVE_SUFFIXES = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz")
# What the standard library raises where compressed bytes or an archive's lists are damaged.
_DAMAGE = (
    EOFError,
    NotImplementedError,
    lzma.LZMAError,
    tarfile.TarError,
    zipfile.BadZipFile,
    zlib.error,
)


@dataclass(frozen=True)
class Entry:
    """One file of a source.

    Attributes:
        name: its path within the source, "/" between the parts, composed Unicode (NFC).
        size: in bytes.
        opener: opens it for reading; `open` does so with clear errors.
    """

    name: str
    size: int
    opener: Callable[[], BinaryIO]

    @contextlib.contextmanager
    def open(self) -> Iterator[BinaryIO]:
        """Open the file for reading.

        Raises:
            ValueError: its bytes, or those of the archive that holds it, are damaged.
        """
        with _named_damage(f"{self.name}: cannot be read"), self.opener() as file:
            yield file


@contextlib.contextmanager
def _named_damage(what: str) -> Iterator[None]:
    """Turn the standard library's word on damaged bytes into an error that begins with `what`."""
    try:
        yield
    except (*_DAMAGE, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise  # the disk's or the system's word, not a decompressor's
        raise ValueError(f"{what} ({error}); fetch or make it again") from None


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
            elif path.name.lower().endswith(_ARCHIVE_SUFFIXES):
                raise ValueError(f"{path}: is not a whole archive; fetch or make it again")
            else:
                entries.append(_file_entry(path, path.name, path))
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
            entries.append(_file_entry(path, relative, folder))
    return entries


def _list_zip(path: Path, stack: contextlib.ExitStack) -> list[Entry]:
    with _named_damage(f"{path}: is not a whole zip archive"):
        archive = stack.enter_context(zipfile.ZipFile(path))
    entries = []
    for member in archive.infolist():
        if member.is_dir():
            continue
        if stat.S_ISLNK(member.external_attr >> 16):
            raise ValueError(f"{member.filename} in {path}: is a link; put the file itself there")
        if member.flag_bits & 0x1:
            raise ValueError(f"{member.filename} in {path}: is encrypted; give it decrypted")
        opener = functools.partial(archive.open, member)
        entries.append(Entry(_clean(_zip_name(member), path), member.file_size, opener))
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
    except (*_DAMAGE, OSError):  # a damaged compressed file fails in ways of its own
        return False


def _list_tar(path: Path, scratch: Path, stack: contextlib.ExitStack) -> list[Entry]:
    with _named_damage(f"{path}: is not a whole tar archive"):
        archive = stack.enter_context(tarfile.TarFile(_uncompressed(path, scratch)))
        members = archive.getmembers()
        # A list that is cut between two members reads like a shorter one, but for its last block.
        archive.fileobj.seek(archive.offset)
        if archive.fileobj.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
            raise tarfile.ReadError("its end is missing")
    entries = []
    for member in members:
        if member.isdir():
            continue
        if not member.isfile():
            raise ValueError(
                f"{member.name} in {path}: is a link or device; put the file itself there"
            )
        opener = functools.partial(archive.extractfile, member)
        entries.append(Entry(_clean(member.name, path), member.size, opener))
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


def _file_entry(path: Path, name: str, holder: Path) -> Entry:
    opener = functools.partial(path.open, "rb")
    return Entry(_clean(name, holder), path.stat().st_size, opener)


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
