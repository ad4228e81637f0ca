"""imgpipe.entries: whatever holds the files, the same list of names and bytes."""

import errno
import io
import stat
import tarfile
import unicodedata
import zipfile

import pytest

from imgpipe.entries import open_entries
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


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_LZMA])
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


def test_a_truncated_zip(tmp_path):
    path = write_zip(tmp_path / "a.zip", MANY)
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(ValueError, match=r"a\.zip: is not a whole archive"):
        read(tmp_path, path)


@pytest.mark.parametrize("method", ["STORED", "DEFLATED", "BZIP2", "LZMA"])
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
        entries[0].open(),
    ):
        raise OSError(errno.ENOSPC, "No space left on device")


def test_a_missing_path(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere: no such file or folder"):
        read(tmp_path, tmp_path / "nowhere")


def test_entries_of_a_compressed_tar_open_in_any_order(tmp_path):
    files = {f"{n:03d}": bytes([n]) * 700 for n in range(50)}
    path = write_tar(tmp_path / "a.tgz", files, "gz")
    with open_entries([path], tmp_path) as entries:
        for entry in reversed(entries):
            with entry.open() as file:
                assert isinstance(file, io.IOBase) and file.read() == files[entry.name]
