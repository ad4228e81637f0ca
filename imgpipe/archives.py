"""Zip and tar archives from anywhere: listed without being believed.

Nothing is ever extracted under a name that an archive gives. What is guarded here is memory, time
and disk: an archive's own lists and sizes may lie.
"""

import contextlib
import errno
import functools
import io
import itertools
import lzma
import stat
import struct
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from imgpipe.wording import shorten, word_error

MOST_FILES = 1_000_000  # in a source
# What unpacks to more than this, and to so many times its size, was made to fill a disk.
_LEAST_BOMB, _BOMB_FACTOR = 64 << 20, 200
# Bytes: what zipfile makes of a million files takes 490 MB and their names, 600 MB with this many
# (870 MB if each has an emoji, for which Python takes four bytes a character).
_LARGEST_ZIP_LIST = 128 << 20
_ZIP_HEADER_SIZE = 30  # bytes before a member's name and content
_LONGEST_ZIP_END = 76 + 22 + (1 << 16)  # bytes: ZIP64's records, the end record, a comment
_UNREAL_KINDS = (stat.S_IFLNK, stat.S_IFCHR, stat.S_IFBLK, stat.S_IFIFO, stat.S_IFSOCK)
# Headers that tell more about the member after them: long names, times, owners.
_TAR_EXTENSIONS = (
    tarfile.XHDTYPE,
    tarfile.XGLTYPE,
    tarfile.SOLARIS_XHDTYPE,
    tarfile.GNUTYPE_LONGNAME,
    tarfile.GNUTYPE_LONGLINK,
)
_MOST_TAR_EXTENSIONS, _LARGEST_TAR_EXTENSION = 8, 256 << 10  # before one member; bytes
_MOST_GLOBAL_HEADERS = 100  # each is kept for all members that follow
# What the standard library raises where compressed bytes or an archive's lists are damaged.
_DAMAGE = (
    EOFError,
    NotImplementedError,
    lzma.LZMAError,
    tarfile.TarError,
    zipfile.BadZipFile,
    zlib.error,
)


Opener = Callable[[Any, int], BinaryIO]  # from a place in a source, and a size, to a file


class Member(NamedTuple):
    """One file or folder of an archive, under the name that the archive gives it."""

    name: str
    size: int  # in bytes
    is_folder: bool
    place: Any  # of its content, for the archive's opener


@contextlib.contextmanager
def named_damage(what: str, errors: tuple[type[Exception], ...] = _DAMAGE) -> Iterator[None]:
    """Turn the standard library's word on damaged bytes into an error that begins with `what`."""
    try:
        yield
    except (*errors, OSError) as error:
        of_system = isinstance(error, OSError) and error.errno not in (None, errno.EINVAL)
        if of_system or isinstance(error, PermissionError):
            raise  # the disk's or the system's word, not a decompressor's
        raise ValueError(f"{what} ({word_error(error)}); fetch or make it again") from None


def unpack(source: BinaryIO, target: BinaryIO, packed_size: int, name: str) -> None:
    """Copy what a decompressor gives, up to what an honest file can hold.

    Raises:
        ValueError: it is more; `target` then holds a part of it.
    """
    size = 0
    while block := source.read(1 << 20):
        size += len(block)
        _refuse_bomb(size, packed_size, name)
        target.write(block)


def _refuse_bomb(size: int, packed_size: int, name: str) -> None:
    if size > max(_LEAST_BOMB, _BOMB_FACTOR * packed_size):
        raise ValueError(
            f"{name}: unpacks to over {_BOMB_FACTOR} times its {packed_size:,} bytes, as only a "
            "file made to fill a disk does; if it is what you mean, give it uncompressed"
        )


def list_zip(path: Path, stack: contextlib.ExitStack) -> tuple[Iterator[Member], Opener]:
    """List a zip archive's members.

    Args:
        path: of the archive.
        stack: keeps the archive open for the opener.

    Returns:
        The members, one after the other, and what opens one.

    Raises:
        ValueError: it is damaged, has too many members, encrypted ones, links, such as share
            bytes, or such as are compressed beyond reason or in another way than by deflate.
    """
    reader = stack.enter_context(_ZipReader(io.FileIO(path)))
    archive = None
    with named_damage(f"{path}: is not a whole zip archive", (Exception,)):
        try:
            archive = stack.enter_context(zipfile.ZipFile(reader))
        except zipfile.BadZipFile:
            if not reader.list_is_too_long:
                raise
    if archive is None:
        raise too_many_files(path)
    members = archive.infolist()
    _refuse_other_count(reader, len(members), path)
    _refuse_shared_bytes(members, archive.start_dir, path)
    unpacked_size = sum(member.file_size for member in members)
    _refuse_bomb(unpacked_size, sum(member.compress_size for member in members), str(path))
    checked = (_check_zip_member(member, path, place) for place, member in enumerate(members))
    return checked, functools.partial(_open_zip_member, archive, members)


class _ZipReader(io.BufferedReader):
    """The file under a ZipFile, which reads its list in one piece and believes every word of it.

    A list of too many members reads as if it were cut off: told by the signature that each begins
    with, before there is an object for each.
    """

    list_is_too_long = False

    def read(self, size: int | None = -1) -> bytes:
        if size is not None and size > _LARGEST_ZIP_LIST:
            size = _LARGEST_ZIP_LIST
        content = super().read(size)
        if content.count(b"PK\x01\x02") > MOST_FILES or len(content) == _LARGEST_ZIP_LIST:
            self.list_is_too_long = True
            return b""
        return content


def _refuse_other_count(file: BinaryIO, count: int, path: Path) -> None:
    """Refuse a list that has another number of members than the zip's end says: one is damaged."""
    file.seek(max(0, file.seek(0, io.SEEK_END) - _LONGEST_ZIP_END))
    content = file.read()
    end = content.rfind(b"PK\x05\x06")
    wide = end - 76  # where ZIP64's records, if there are any, begin
    if wide >= 0 and content.startswith(b"PK\x06\x06", wide):
        (said,) = struct.unpack_from("<Q", content, wide + 32)
    else:
        (said,) = struct.unpack_from("<H", content, end + 10)
        said += count >> 16 << 16  # without ZIP64 some programs, macOS's too, drop what is above
    if said != count:
        raise ValueError(
            f"{path}: is not a whole zip archive (its list has {count:,} members where its end "
            f"says {said:,}); fetch or make it again"
        )


def _refuse_shared_bytes(members: list[zipfile.ZipInfo], end: int, path: Path) -> None:
    """Refuse members that overlap: a few bytes, listed a thousand times, would fill a disk."""
    members = sorted(members, key=lambda member: member.header_offset)
    following = itertools.islice(members, 1, None)
    starts = itertools.chain((member.header_offset for member in following), [end])
    for member, next_start in zip(members, starts, strict=False):
        last = member.header_offset + _ZIP_HEADER_SIZE + member.compress_size
        if member.header_offset < 0 or last > next_start:
            raise ValueError(
                f"{shorten(member.orig_filename)} in {path}: shares its bytes with another member "
                "or with the list of members; fetch or make it again"
            )


def _check_zip_member(member: zipfile.ZipInfo, path: Path, place: int) -> Member:
    name = _zip_name(member)
    where = f"{shorten(name)} in {path}"
    is_folder = name.replace("\\", "/").endswith("/")
    if stat.S_IFMT(member.external_attr >> 16) in _UNREAL_KINDS:
        raise ValueError(f"{where}: is a link or device; put the file itself there")
    if member.flag_bits & 0x1:
        raise ValueError(f"{where}: is encrypted; give it decrypted")
    if is_folder and member.file_size:
        raise ValueError(f"{where}: is a folder by its name, with content; fetch or make it again")
    if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        # What zipfile unpacks of the others at once knows no limit.
        raise ValueError(
            f"{where}: is compressed by method {member.compress_type}; only deflate is read, so "
            "make the archive again with an ordinary zip, or as a tar"
        )
    _refuse_bomb(member.file_size, member.compress_size, where)
    return Member(name, member.file_size, is_folder, place)


def _zip_name(member: zipfile.ZipInfo) -> str:
    """Read a member's name as UTF-8 where it is, though the archive does not say so."""
    name = member.orig_filename  # `filename` ends at a zero byte
    if member.flag_bits & 0x800:
        return name
    try:
        return name.encode("cp437").decode("utf-8")
    except UnicodeError:
        return name


def _open_zip_member(
    archive: zipfile.ZipFile, members: list[zipfile.ZipInfo], place: int, size: int
) -> BinaryIO:
    try:
        return archive.open(members[place])
    except ValueError as error:  # a local header that is not what the list says
        raise zipfile.BadZipFile(str(error)) from None


def is_zip(path: Path) -> bool:
    """Tell whether a file ends like a zip archive."""
    try:
        return zipfile.is_zipfile(path)
    except zipfile.BadZipFile:  # one of several disks
        return True


def is_tar(path: Path) -> bool:
    """Tell whether a file begins like a tar archive with a member, compressed or not."""
    try:
        with tarfile.open(path, _tar_mode(path), tarinfo=_TarMember) as archive:
            return archive.next() is not None
    except Exception:  # damaged bytes fail in ways of their own, and too many to list
        return False


def _tar_mode(path: Path) -> str:
    """Tell how a tar is compressed: trying would unpack, for minutes, what is no archive."""
    with path.open("rb") as file:
        start = file.read(6)
    for begin, mode in ((b"\x1f\x8b", "r:gz"), (b"BZh", "r:bz2"), (b"\xfd7zXZ\0", "r:xz")):
        if start.startswith(begin):
            return mode
    return "r:"


def list_tar(
    path: Path, scratch: Path, stack: contextlib.ExitStack
) -> tuple[Iterator[Member], Opener]:
    """List a tar archive's members.

    Args:
        path: of the archive.
        scratch: an existing folder for a compressed tar's uncompressed copy, a file without name.
        stack: keeps the archive open for the opener.

    Returns:
        The members, one after the other, and what opens one.

    Raises:
        ValueError: it is damaged, has too many members, links, devices, sparse members, or
            unpacks beyond reason.
    """
    what = f"{path}: is not a whole tar archive"
    with named_damage(what):
        file = _uncompressed(path, scratch, stack)
    with named_damage(what, (Exception,)):
        archive = stack.enter_context(tarfile.TarFile(fileobj=file, tarinfo=_TarMember))
    return _check_tar_members(archive, path), functools.partial(_open_tar_member, archive)


def _check_tar_members(archive: tarfile.TarFile, path: Path) -> Iterator[Member]:
    members = _read_tar_list(archive)
    for number in itertools.count():
        with named_damage(f"{path}: is not a whole tar archive", (Exception,)):
            member = next(members, None)
        if member is None:
            return
        if number == MOST_FILES:
            raise too_many_files(path)
        if member.place is None:
            raise ValueError(
                f"{shorten(member.name)} in {path}: is a link or device; put the file itself there"
            )
        yield member


def _read_tar_list(archive: tarfile.TarFile) -> Iterator[Member]:
    """Go through the members; those that are neither file nor folder get no place."""
    end = archive.fileobj.seek(0, io.SEEK_END)
    while (member := archive.next()) is not None:
        archive.members.clear()  # a million of them take a gigabyte
        if member.size < 0 or member.offset_data + (member.size if member.isreg() else 0) > end:
            raise tarfile.ReadError("a member is longer than the archive")
        if len(archive.pax_headers) > _MOST_GLOBAL_HEADERS:
            raise tarfile.ReadError(f"it has more than {_MOST_GLOBAL_HEADERS} global headers")
        if "size" in archive.pax_headers:  # each file would be cut to it
            raise tarfile.ReadError("it has a global header that sets the size of all members")
        place = member.offset_data if member.isfile() or member.isdir() else None
        yield Member(member.name, member.size, member.isdir(), place)
    # A list that is cut between two members reads like a shorter one, but for its last block; and
    # so does one in which a block of zeros, which ends it, has taken a member's place.
    archive.fileobj.seek(archive.offset)
    if archive.fileobj.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
        raise tarfile.ReadError("its end is missing")
    while block := archive.fileobj.read(1 << 20):
        if block.strip(b"\0"):
            raise tarfile.ReadError(
                "more follows its end; if it is several archives in one file, give each by itself"
            )


def _open_tar_member(archive: tarfile.TarFile, start: int, size: int) -> BinaryIO:
    member = tarfile.TarInfo()
    member.offset_data, member.size = start, size
    return archive.extractfile(member)


class _TarMember(tarfile.TarInfo):
    """A member whose headers are looked at before tarfile does what they say.

    tarfile reads a header of any size into memory, follows one header to the next as deep as it
    goes, and reads a sparse member's map, of any length, while it lists.
    """

    @classmethod
    def fromtarfile(cls, archive: tarfile.TarFile) -> tarfile.TarInfo:
        file = archive.fileobj
        start = file.tell()
        for _ in range(_MOST_TAR_EXTENSIONS + 1):
            block = file.read(tarfile.BLOCKSIZE)
            kind = block[156:157]
            if kind == tarfile.GNUTYPE_SPARSE:
                raise tarfile.ReadError("it has sparse members; make it without --sparse")
            if kind not in _TAR_EXTENSIONS:
                break
            size = cls.frombuf(block, archive.encoding, archive.errors).size
            if not 0 <= size <= _LARGEST_TAR_EXTENSION:
                raise tarfile.ReadError(f"it has a header of {size:,} bytes")
            if b"GNU.sparse." in file.read(size):
                raise tarfile.ReadError("it has sparse members; make it without --sparse")
            file.seek(-size % tarfile.BLOCKSIZE, io.SEEK_CUR)
        else:
            raise tarfile.ReadError("it has headers without a member")
        file.seek(start)
        return super().fromtarfile(archive)


def _uncompressed(path: Path, scratch: Path, stack: contextlib.ExitStack) -> BinaryIO:
    """Open the tar itself: only uncompressed can its members be read in any order."""
    mode = _tar_mode(path)
    if mode == "r:":
        return stack.enter_context(path.open("rb"))
    with tarfile.open(path, mode, tarinfo=_TarMember) as archive:
        copy = stack.enter_context(tempfile.TemporaryFile(dir=scratch))  # noqa: SIM115
        archive.fileobj.seek(0)
        unpack(archive.fileobj, copy, path.stat().st_size, str(path))
    copy.seek(0)
    return copy


def too_many_files(holder: Path) -> ValueError:
    """Word the error about a source of more than MOST_FILES files."""
    return ValueError(
        f"{holder}: holds more than {MOST_FILES:,} files; leave out those that are not needed"
    )
