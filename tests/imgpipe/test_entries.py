"""imgpipe.entries: whatever holds the files, the same list of names and bytes."""

import bz2
import copy
import errno
import gzip
import io
import lzma
import os
import stat
import struct
import tarfile
import time
import tracemalloc
import unicodedata
import zipfile
from pathlib import Path

import pytest

from imgpipe import archives, entries
from imgpipe.entries import open_entries
from imgpipe.image_tree import write_image_archive
from tiny import write_tar, write_zip

FILES = {"cats/1.jpg": b"one", "dogs/ü/2.jpg": b"", "notes.txt": b"three"}


def write_folder(folder, files):
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


def read(tmp_path, *paths):
    scratch = tmp_path / "scratch"
    scratch.mkdir(exist_ok=True)
    with open_entries(list(paths), scratch) as entries:
        content = {}
        for entry in entries:
            with entry.open() as file:
                content[entry.name] = file.read()
            assert entry.size == len(content[entry.name])
        assert list(content) == sorted(content)
        return content


@pytest.mark.parametrize("compression", ["", "gz", "bz2", "xz"])
def test_a_tar(tmp_path, compression):
    assert read(tmp_path, write_tar(tmp_path / "a", FILES, compression)) == FILES


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_a_zip(tmp_path, method):
    assert read(tmp_path, write_zip(tmp_path / "a", FILES, method)) == FILES


def test_a_folder(tmp_path):
    assert read(tmp_path, write_folder(tmp_path / "a", FILES)) == FILES


def test_several_paths_stand_side_by_side(tmp_path):
    one = write_zip(tmp_path / "a.zip", {"train/a.jpg": b"1"})
    other = write_tar(tmp_path / "b.tar", {"test/b.jpg": b"2"})
    plain = tmp_path / "c.csv"
    plain.write_bytes(b"3")
    assert read(tmp_path, one, other, plain) == {
        "c.csv": b"3",
        "test/b.jpg": b"2",
        "train/a.jpg": b"1",
    }


def test_what_systems_leave_behind_is_left_out(tmp_path):
    litter = ["__MACOSX/cats/._1.jpg", "cats/.DS_Store", "cats/Thumbs.db", ".git/config", "a/.b/c"]
    files = FILES | dict.fromkeys(litter, b"x")
    assert read(tmp_path, write_folder(tmp_path / "a", files)) == FILES
    assert read(tmp_path, write_zip(tmp_path / "a.zip", files)) == FILES


def test_litter_is_left_out_before_its_name_is_judged(tmp_path):
    """A Mac's folder with an icon of its own, as its Finder packs it."""
    litter = ["cats/Icon\r", "__MACOSX/cats/._Icon\r", "a/.b\n/c", ".x" * 600, "__MACOSX/\n/"]
    files = FILES | dict.fromkeys(litter, b"")
    assert read(tmp_path, write_zip(tmp_path / "a.zip", files)) == FILES
    assert read(tmp_path, write_tar(tmp_path / "a.tar", files)) == FILES
    assert read(tmp_path, write_folder(tmp_path / "a", FILES | {"cats/Icon\r": b""})) == FILES
    for name in ("../a.jpg", "a/../../b.jpg", "cats/icon\r"):
        with pytest.raises(ValueError, match="is no name of a file within it"):
            read(tmp_path, write_zip(tmp_path / "b.zip", FILES | {name: b""}))


def test_names_are_composed_and_without_backslashes(tmp_path):
    decomposed = unicodedata.normalize("NFD", "é")
    files = {f"{decomposed}/1.jpg": b"", "b\\2.jpg": b"", "./c/3.jpg": b""}
    assert set(read(tmp_path, write_tar(tmp_path / "a.tar", files))) == {
        "é/1.jpg",
        "b/2.jpg",
        "c/3.jpg",
    }


def test_utf8_names_in_a_zip_that_does_not_say_so(tmp_path):
    path = write_zip(tmp_path / "a.zip", {"猫/1.jpg": b""})
    content = bytearray(path.read_bytes())
    for signature, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        start = content.index(signature) + offset
        flags = int.from_bytes(content[start : start + 2], "little") & ~0x800
        content[start : start + 2] = flags.to_bytes(2, "little")
    path.write_bytes(content)
    assert set(read(tmp_path, path)) == {"猫/1.jpg"}


@pytest.mark.parametrize("name", ["../a.jpg", "/a.jpg", "x/../../a.jpg", "C:/a.jpg", "a\n.jpg"])
@pytest.mark.parametrize("write", [write_zip, write_tar])
def test_names_that_lead_out_are_refused(tmp_path, write, name):
    path = write(tmp_path / "a", {name: b""})
    with pytest.raises(ValueError, match="is no name of a file within it"):
        read(tmp_path, path)


def test_two_files_of_one_name_are_refused(tmp_path):
    one = write_zip(tmp_path / "a.zip", {"x/1.jpg": b"1"})
    other = write_zip(tmp_path / "b.zip", {"x/1.jpg": b"2"})
    with pytest.raises(ValueError, match=r"x/1\.jpg: stands twice in .*a\.zip and .*b\.zip"):
        read(tmp_path, one, other)


def test_links_are_refused(tmp_path):
    link = zipfile.ZipInfo("a/1.jpg")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr(link, "/etc/passwd")
    with pytest.raises(ValueError, match=r"a/1\.jpg in .*a\.zip: is a link"):
        read(tmp_path, tmp_path / "a.zip")

    member = tarfile.TarInfo("a/1.jpg")
    member.type, member.linkname = tarfile.SYMTYPE, "/etc/passwd"
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        archive.addfile(member)
    with pytest.raises(ValueError, match=r"a/1\.jpg in .*a\.tar: is a link or device"):
        read(tmp_path, tmp_path / "a.tar")

    folder = write_folder(tmp_path / "folder", FILES)
    (folder / "more").symlink_to(tmp_path)
    with pytest.raises(ValueError, match="more: is a link to a folder, which is not followed"):
        read(tmp_path, folder)


def test_encrypted_members_are_refused(tmp_path):
    path = write_zip(tmp_path / "a.zip", {"a/1.jpg": b"1"})
    content = bytearray(path.read_bytes())
    content[content.index(b"PK\x01\x02") + 8] |= 1
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"a/1\.jpg in .*: is encrypted"):
        read(tmp_path, path)


MANY = {f"a/{n}.jpg": bytes(range(256)) * 40 for n in range(20)}


@pytest.mark.parametrize("compression", ["", "gz", "bz2", "xz"])
@pytest.mark.parametrize("kept", [0.2, 0.6, 0.95])
def test_a_truncated_tar(tmp_path, compression, kept):
    path = write_tar(tmp_path / f"a.tar.{compression}".rstrip("."), MANY, compression)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * kept)])
    with pytest.raises(ValueError, match=r"a\.tar.*: is not a whole (tar )?archive"):
        read(tmp_path, path)


def test_a_tar_that_is_cut_between_two_members(tmp_path):
    """All that is there reads well: only the missing end tells."""
    path = write_tar(tmp_path / "a.tar", MANY)
    path.write_bytes(path.read_bytes()[: 3 * (512 + 10240)])
    with pytest.raises(ValueError, match=r"a\.tar: is not a whole tar archive .*end is missing"):
        read(tmp_path, path)


@pytest.mark.parametrize("compression", ["", "gz", "bz2", "xz"])
@pytest.mark.parametrize("damage", ["zeros", "another tar", "one byte"])
def test_what_follows_the_end_of_a_tar_is_not_lost_unseen(tmp_path, compression, damage):
    """A block of zeros ends the list of members, wherever it stands."""
    content = write_tar(tmp_path / "a", MANY).read_bytes()
    if damage == "zeros":
        start = 3 * (512 + 10240)
        content = content[:start] + bytes(512) + content[start + 512 :]
    else:
        content += content if damage == "another tar" else bytes(3 << 20) + b"x"
    path = write_packed(tmp_path / "a.tar", content, compression)
    with pytest.raises(
        ValueError, match=r"a\.tar: is not a whole tar archive .*give each by itself"
    ):
        read(tmp_path, path)


@pytest.mark.parametrize("compression", ["", "gz", "bz2", "xz"])
@pytest.mark.parametrize("zeros", [0, 1, 700, 3 << 20])
def test_a_tar_ends_with_any_number_of_zeros(tmp_path, compression, zeros):
    content = write_tar(tmp_path / "a", FILES).read_bytes().rstrip(b"\0")
    content += bytes(-len(content) % 512 + 512 + zeros)
    assert read(tmp_path, write_packed(tmp_path / "a.tar", content, compression)) == FILES


def write_packed(path, content, compression):
    pack = {"": bytes, "gz": gzip.compress, "bz2": bz2.compress, "xz": lzma.compress}[compression]
    path.write_bytes(pack(content))
    return path


def test_a_truncated_zip(tmp_path):
    path = write_zip(tmp_path / "a.zip", MANY)
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(ValueError, match=r"a\.zip: is not a whole archive"):
        read(tmp_path, path)


@pytest.mark.parametrize("method", ["STORED", "DEFLATED"])
def test_damaged_bytes_in_a_zip(tmp_path, method):
    path = write_zip(tmp_path / "a.zip", MANY, getattr(zipfile, f"ZIP_{method}"))
    content = bytearray(path.read_bytes())
    for place in (60, 61, 70):  # within the first member
        content[place] ^= 0xFF
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"^a/0\.jpg: cannot be read .*fetch or make it again"):
        read(tmp_path, path)


def test_a_full_disk_is_not_called_a_damaged_archive(tmp_path):
    path = write_zip(tmp_path / "a.zip", MANY)
    with (
        open_entries([path], tmp_path) as entries,
        pytest.raises(OSError, match="No space left"),
        next(iter(entries)).open(),
    ):
        raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize(
    ("name", "start", "kind"),
    [
        ("a.7z", b"7z\xbc\xaf\x27\x1c\0\4", "7z"),
        ("a.rar", b"Rar!\x1a\x07\x01\0", "rar"),
        ("a.tar.zst", b"\x28\xb5\x2f\xfd\x04", "zst"),
        ("photos", b"Rar!\x1a\x07\0", "rar"),
        ("a.tar.LZMA", lzma.compress(b"x", lzma.FORMAT_ALONE), "lzma"),
    ],
)
def test_archives_of_another_kind_are_named(tmp_path, name, start, kind):
    (tmp_path / name).write_bytes(start)
    told = f"{name}: is packed as {kind}, which is not read; unpack it, or give it as zip or tar$"
    with pytest.raises(ValueError, match=told):
        read(tmp_path, tmp_path / name)


def test_a_missing_path(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere: no such file or folder"):
        read(tmp_path, tmp_path / "nowhere")


def test_entries_of_a_compressed_tar_open_in_any_order(tmp_path):
    files = {f"{n:03d}": bytes([n]) * 700 for n in range(50)}
    path = write_tar(tmp_path / "a.tgz", files, "gz")
    with open_entries([path], tmp_path) as entries:
        for entry in reversed(list(entries)):
            with entry.open() as file:
                assert isinstance(file, io.IOBase) and file.read() == files[entry.name]


@pytest.mark.parametrize(
    ("one", "other", "told"),
    [
        ("Cats/1.jpg", "cats/2.jpg", "Cats and cats"),
        ("a/1.jpg", "a/1.JPG", "a/1.JPG and a/1.jpg"),
        ("x/É/1.jpg", "x/é/2.jpg", "x/É and x/é"),
    ],
)
def test_names_that_differ_only_by_case_are_refused(tmp_path, one, other, told):
    files = {one: b"1", other: b"2"}
    sources = [
        [write_zip(tmp_path / "a.zip", files)],
        [write_tar(tmp_path / "a.tar", files)],
        [write_folder(tmp_path / "a", files)],
        [write_zip(tmp_path / "1.zip", {one: b""}), write_tar(tmp_path / "2.tar", {other: b""})],
    ]
    for paths in sources:
        with pytest.raises(ValueError, match=f"^{told}: differ only in upper .*; rename one$"):
            read(tmp_path, *paths)


def test_a_file_and_a_folder_of_one_name_are_refused(tmp_path):
    path = write_zip(tmp_path / "a.zip", {"a/b.jpg": b"1", "a/b.jpg/c.jpg": b"2"})
    with pytest.raises(ValueError, match=r"a/b\.jpg: is a file and a folder"):
        read(tmp_path, path)


@pytest.mark.parametrize("write", [write_zip, write_tar, write_folder])
def test_too_many_files(tmp_path, monkeypatch, write):
    monkeypatch.setattr(archives, "MOST_FILES", 3)
    monkeypatch.setattr(entries, "MOST_FILES", 3)
    files = {f"a/{n}.jpg": b"" for n in range(4)}
    few = write(tmp_path / "few", dict(list(files.items())[:3]))
    assert len(read(tmp_path, few)) == 3
    with pytest.raises(ValueError, match="many: holds more than 3 files; leave out"):
        read(tmp_path, write(tmp_path / "many", files))
    with pytest.raises(ValueError, match="more: holds more than 3 files; leave out"):
        read(tmp_path, few, write(tmp_path / "more", {"b/1.jpg": b""}))


def test_a_zip_of_millions_is_refused_before_it_is_listed(tmp_path):
    """A list entry takes 50 bytes in the archive and a thousand in memory."""
    record = write_zip(tmp_path / "one", {"a": b""}).read_bytes()
    start, end = record.index(b"PK\x01\x02"), record.index(b"PK\x05\x06")
    entry, count = record[start:end], 1_000_001
    # Its end says that there is one, which is not asked so early.
    last = record[end : end + 12] + struct.pack("<LLH", len(entry) * count, start, 0)
    (tmp_path / "a.zip").write_bytes(record[:start] + entry * count + last)
    tracemalloc.start()
    with pytest.raises(ValueError, match="holds more than 1,000,000 files"):
        read(tmp_path, tmp_path / "a.zip")
    assert tracemalloc.get_traced_memory()[1] < 4 * len(entry) * count
    tracemalloc.stop()


def test_a_zip_of_long_names_by_the_hundred_thousand_is_refused_before_it_is_listed(tmp_path):
    """Each name is held as long as the archive is open: half of this would take half a gigabyte."""
    record = write_zip(tmp_path / "one", {"a" * 1020: b""}).read_bytes()
    start, end = record.index(b"PK\x01\x02"), record.index(b"PK\x05\x06")
    entry, count = record[start:end], 250_000
    last = record[end : end + 12] + struct.pack("<LLH", len(entry) * count, start, 0)
    with (tmp_path / "a.zip").open("wb") as file:
        file.write(record[:start])
        file.writelines([entry] * count)
        file.write(last)
    tracemalloc.start()
    with pytest.raises(ValueError, match=r"a\.zip: holds more than 1,000,000 files"):
        read(tmp_path, tmp_path / "a.zip")
    assert tracemalloc.get_traced_memory()[1] < 300 << 20
    tracemalloc.stop()


def listed(name, **changes):
    member = zipfile.ZipInfo(name)
    for key, value in changes.items():
        setattr(member, key, value)
    return member


def test_zip_members_that_share_their_bytes_are_refused(tmp_path):
    """One megabyte, listed a thousand times, would be a gigabyte."""
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("a/1.jpg", bytes(1000))
        for n in range(2, 5):
            copy = copy_of(archive.infolist()[0], f"a/{n}.jpg")
            archive.filelist.append(copy)
    with pytest.raises(ValueError, match=r"a/\d\.jpg in .*a\.zip: shares its bytes with another"):
        read(tmp_path, tmp_path / "a.zip")


def copy_of(member, name):
    other = copy.copy(member)
    other.filename = name
    return other


def test_a_zip_that_unpacks_to_too_much_is_refused(tmp_path):
    path = write_zip(tmp_path / "a.zip", {"a/1.jpg": bytes(70 << 20)}, zipfile.ZIP_DEFLATED)
    with pytest.raises(ValueError, match=r"a\.zip: unpacks to over 200 times its [\d,]+ bytes"):
        read(tmp_path, path)
    parts = {f"a/{n}.jpg": bytes(10 << 20) for n in range(7)}
    path = write_zip(tmp_path / "b.zip", parts, zipfile.ZIP_DEFLATED)
    with pytest.raises(ValueError, match=r"b\.zip: unpacks to over 200 times"):
        read(tmp_path, path)
    some = {"a/1.jpg": bytes(60 << 20)}  # a black picture may be so
    assert read(tmp_path, write_zip(tmp_path / "c.zip", some, zipfile.ZIP_DEFLATED)) == some


@pytest.mark.parametrize("compression", ["gz", "bz2", "xz"])
def test_a_tar_that_unpacks_to_too_much_is_refused_and_leaves_nothing(tmp_path, compression):
    path = write_tar(tmp_path / "a.tar", {"a/1.jpg": bytes(80 << 20)}, compression)
    with pytest.raises(ValueError, match=r"a\.tar: unpacks to over 200 times .* uncompressed$"):
        read(tmp_path, path)
    assert not list((tmp_path / "scratch").iterdir())


def test_a_compressed_tar_leaves_no_copy(tmp_path):
    read(tmp_path, write_tar(tmp_path / "a.tgz", FILES, "gz"))
    assert not list((tmp_path / "scratch").iterdir())


def test_a_zip_member_that_holds_more_than_it_says(tmp_path):
    """Only as much is unpacked as is asked for, whatever the list of members says."""
    path = write_zip(tmp_path / "a.zip", {"a/1.jpg": bytes(40 << 20)}, zipfile.ZIP_DEFLATED)
    path.write_bytes(path.read_bytes().replace(struct.pack("<L", 40 << 20), struct.pack("<L", 9)))
    tracemalloc.start()
    with pytest.raises(ValueError, match=r"^a/1\.jpg: cannot be read"):
        store_raw_like(tmp_path, path)
    assert tracemalloc.get_traced_memory()[1] < 10 << 20
    tracemalloc.stop()


def store_raw_like(tmp_path, path):
    with open_entries([path], tmp_path) as found:
        files = [(f"whole/{entry.name}", entry) for entry in found]
        write_image_archive(files, tmp_path / "out.tar", tmp_path / "out.csv")


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_other_compressions_of_a_zip_are_refused(tmp_path, method):
    """Zipfile unpacks each of their blocks in one piece, of any size."""
    path = write_zip(tmp_path / "a.zip", FILES, method)
    with pytest.raises(ValueError, match=r"is compressed by method \d+; only deflate is read"):
        read(tmp_path, path)


@pytest.mark.parametrize(
    ("name", "changes", "content", "message"),
    [
        ("a/\x00b.jpg", {}, b"", "is no name of a file within it"),
        ("a/" + "b" * 2000, {}, b"", "is longer than 1,024 characters"),
        ("a" * 65_000, {}, b"", "is longer than 1,024 characters"),
        ("a/b.jpg/", {}, b"content", "is a folder by its name, with content"),
        ("../a/", {}, b"", "is no name of a file within it"),
        ("/", {}, None, None),
        ("", {}, b"", "is no name of a file within it"),
        ("a/1.jpg", {"external_attr": (stat.S_IFBLK | 0o644) << 16}, b"", "is a link or device"),
        ("a/1.jpg", {"external_attr": (stat.S_IFIFO | 0o644) << 16}, b"", "is a link or device"),
    ],
)
def test_odd_members_of_a_zip(tmp_path, name, changes, content, message):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        member = listed(name or "x", **changes)
        member.filename = name  # ZipInfo would cut it at a zero byte
        with archive.open(member, "w") as file:
            file.write(content or b"")
    if message is None:
        assert read(tmp_path, tmp_path / "a.zip") == {}
    else:
        with pytest.raises(ValueError, match=message) as caught:
            read(tmp_path, tmp_path / "a.zip")
        assert len(str(caught.value)) < 400


def tar_header(name, size, kind=tarfile.REGTYPE, **changes):
    member = tarfile.TarInfo(name)
    member.size, member.type = size, kind
    for key, value in changes.items():
        setattr(member, key, value)
    return member.tobuf(tarfile.GNU_FORMAT)


END = bytes(1024)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (tar_header("x", 3 << 30, tarfile.XHDTYPE) + END, "a header of 3,221,225,472 bytes"),
        (tar_header("x", 3 << 30, tarfile.GNUTYPE_LONGNAME) + END, "a header of 3,221,225,472"),
        (tar_header("x", -1024, tarfile.XGLTYPE) + END, "a header of -1,024 bytes"),
        (tar_header("x", 0, tarfile.XHDTYPE) * 2000 + END, "headers without a member"),
        (tar_header("x", -1024) * 2 + END, "a member is longer than the archive"),
        (tar_header("x", 1 << 40) + END, "a member is longer than the archive"),
        (tar_header("x", 0, tarfile.GNUTYPE_SPARSE) + END, "sparse members"),
        (
            tar_header("x", 512, tarfile.XHDTYPE)
            + b"22 GNU.sparse.major=1\n22 GNU.sparse.minor=0\n".ljust(512, b"\0")
            + tar_header("x", 512)
            + END,
            "sparse members",
        ),
        (
            tar_header("x", 512, tarfile.XHDTYPE)
            + b"18 size=-99999999\n".ljust(512, b"\0")
            + tar_header("x", 0)
            + END,
            "a member is longer than the archive",
        ),
        (
            (
                tar_header("x", 4096, tarfile.XGLTYPE)
                + b"".join(b"11 k%03d=vv\n" % n for n in range(300)).ljust(4096, b"\0")
                + tar_header("x", 0)
                + END
            ),
            "more than 100 global headers",
        ),
        (
            tar_header("x", 512, tarfile.XGLTYPE)
            + b"9 size=3\n".ljust(512, b"\0")
            + tar_header("x", 512)
            + b"content".ljust(512, b"\0")
            + END,
            "a global header that sets the size of all members",
        ),
    ],
)
@pytest.mark.parametrize("follows_a_member", [False, True])
def test_tar_headers_that_lie(tmp_path, content, reason, follows_a_member):
    """As the first member they also decide whether the file counts as a tar at all."""
    first = tar_header("a/1.jpg", 0) if follows_a_member else b""
    (tmp_path / "a.tar").write_bytes(first + content)
    with pytest.raises(ValueError, match=r"a\.tar: is not a whole (tar )?archive") as caught:
        read(tmp_path, tmp_path / "a.tar")
    assert not follows_a_member or reason in str(caught.value)


def test_devices_in_a_tar_are_refused(tmp_path):
    content = tar_header("a/1.jpg", 0, tarfile.BLKTYPE) + END
    (tmp_path / "a.tar").write_bytes(content)
    with pytest.raises(ValueError, match=r"a/1\.jpg in .*a\.tar: is a link or device"):
        read(tmp_path, tmp_path / "a.tar")


def test_a_tar_that_ends_with_a_zip_is_a_tar(tmp_path):
    inner = write_zip(tmp_path / "inner", {"x/other.jpg": b"other"}).read_bytes()
    path = write_tar(tmp_path / "a", {"a/1.jpg": b"1", "b/inner.zip": inner})
    assert set(read(tmp_path, path)) == {"a/1.jpg", "b/inner.zip"}


def test_the_top_folder_of_an_archive_is_no_odd_name(tmp_path):
    (tmp_path / "a.tar").write_bytes(
        tar_header("./", 0, tarfile.DIRTYPE) + tar_header("./a/1.jpg", 0) + END
    )
    assert set(read(tmp_path, tmp_path / "a.tar")) == {"a/1.jpg"}


def test_what_is_neither_file_nor_folder(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ValueError, match="pipe: is no regular file"):
        read(tmp_path, tmp_path / "pipe")


@pytest.mark.parametrize("forbidden", ["a", "a/dogs", "a/cats/1.jpg", "a.zip", "a.tar"])
def test_what_may_not_be_read_is_named(tmp_path, monkeypatch, forbidden):
    """Tests may run as root, who may read everything."""
    write_zip(tmp_path / "a.zip", FILES)
    write_tar(tmp_path / "a.tar", FILES)
    write_folder(tmp_path / "a", FILES)

    def refusing(function):
        def call(path, *arguments, **options):
            if str(path) == str(tmp_path / forbidden):
                raise PermissionError(errno.EACCES, "Permission denied", str(path))
            return function(path, *arguments, **options)

        return call

    monkeypatch.setattr(os, "scandir", refusing(os.scandir))
    monkeypatch.setattr("pathlib.Path.open", refusing(Path.open))
    told = f"^{tmp_path / forbidden}: cannot be read for want of permission; make it readable"
    with pytest.raises(PermissionError, match=told):
        read(tmp_path, tmp_path / (forbidden if "." in forbidden[:3] else "a"))


def test_folders_nested_beyond_reason(tmp_path):
    deep = tmp_path / "a"
    for _ in range(700):
        deep.mkdir()
        deep = deep / "d"
    with pytest.raises(ValueError, match="is longer than 1,024 characters"):
        read(tmp_path, tmp_path / "a")


def test_a_large_file_of_zeros_is_no_archive_and_is_not_unpacked(tmp_path):
    """It begins like an empty tar, and like a file of the first lzma, which takes minutes."""
    path = tmp_path / "test_batch.bin"
    with path.open("wb") as file:
        file.truncate(300 << 20)
    started = time.monotonic()
    with open_entries([path], tmp_path) as found:
        assert [(entry.name, entry.size) for entry in found] == [("test_batch.bin", 300 << 20)]
    assert time.monotonic() - started < 2


def set_count(content, count):
    """Have a zip's end record say another number of members."""
    end = content.rindex(b"PK\x05\x06")
    return content[: end + 8] + struct.pack("<HH", count, count) + content[end + 12 :]


@pytest.mark.parametrize("said", [0, 1, 19, 21, 60_000])
@pytest.mark.parametrize("comment", [b"", b"a comment"])
def test_a_zip_whose_end_says_another_number_of_members(tmp_path, said, comment):
    path = write_zip(tmp_path / "a.zip", MANY)
    with zipfile.ZipFile(path, "a") as archive:
        archive.comment = comment
    path.write_bytes(set_count(path.read_bytes(), said))
    told = rf"a\.zip: is not a whole zip archive .*has 20 members where its end says {said:,}\)"
    with pytest.raises(ValueError, match=told):
        read(tmp_path, path)


def test_a_zip_of_more_members_than_its_end_can_count(tmp_path):
    """ZIP64's record counts them; without it, as macOS writes them, the end counts modulo 65,536."""
    count = (1 << 16) + 3
    path = write_zip(tmp_path / "a.zip", {f"{n}": b"" for n in range(count)})
    content = path.read_bytes()
    wide = content.rindex(b"PK\x06\x06")
    other = content[: wide + 32] + struct.pack("<Q", count + 1) + content[wide + 40 :]
    without = content[:wide] + set_count(content[content.rindex(b"PK\x05\x06") :], 3)
    for whole in (content, without):
        path.write_bytes(whole)
        with open_entries([path], tmp_path) as found:
            assert len(found) == count
    path.write_bytes(other)
    with pytest.raises(ValueError, match=r"has 65,539 members where its end says 65,540"):
        read(tmp_path, path)


def test_a_part_of_a_zip_on_several_disks(tmp_path):
    path = write_zip(tmp_path / "a.zip", FILES)
    content = path.read_bytes()
    end = content.index(b"PK\x05\x06")
    locator = b"PK\x06\x07" + struct.pack("<LQL", 1, 0, 2)
    path.write_bytes(content[:end] + locator + content[end:])
    with pytest.raises(ValueError, match=r"a\.zip: is not a whole zip archive .*multiple disks"):
        read(tmp_path, path)


def test_one_member_that_unpacks_to_too_much_among_others(tmp_path):
    files = {"a/1.jpg": os.urandom(1 << 20), "a/2.jpg": bytes(70 << 20)}
    path = write_zip(tmp_path / "a.zip", files, zipfile.ZIP_DEFLATED)
    with pytest.raises(ValueError, match=r"a/2\.jpg in .*a\.zip: unpacks to over 200 times"):
        read(tmp_path, path)


def test_a_local_header_that_is_no_utf8(tmp_path):
    path = write_zip(tmp_path / "a.zip", {"ü/1.jpg": b"1"})
    content = path.read_bytes()
    path.write_bytes(content.replace("ü".encode(), b"\xff\xff", 1))
    with pytest.raises(ValueError, match=r"^ü/1\.jpg: cannot be read .*codec can't decode"):
        read(tmp_path, path)
