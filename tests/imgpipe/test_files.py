"""imgpipe.files: written whole or not at all."""

import hashlib

import pytest

from imgpipe.files import replacing, sha256_of_file


def test_a_file_appears_only_when_complete(tmp_path):
    path = tmp_path / "new/folder/file.txt"
    with replacing(path) as temporary:
        temporary.write_text("whole")
        assert not path.exists()
    assert path.read_text() == "whole"
    assert [p.name for p in path.parent.iterdir()] == ["file.txt"]


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_an_error_leaves_what_was_there(tmp_path, kind):
    path = tmp_path / "result"
    with replacing(path) as temporary:
        if kind == "folder":
            temporary.mkdir()
            (temporary / "a").write_text("old")
        else:
            temporary.write_text("old")
    with pytest.raises(RuntimeError), replacing(path) as temporary:
        if kind == "folder":
            temporary.mkdir()
        else:
            temporary.write_text("half")
        raise RuntimeError
    kept = path / "a" if kind == "folder" else path
    assert kept.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["result"]


def test_a_folder_is_replaced_whole(tmp_path):
    path = tmp_path / "result"
    for name in ("a", "b"):
        with replacing(path) as temporary:
            temporary.mkdir()
            (temporary / name).touch()
    assert [p.name for p in path.iterdir()] == ["b"]


def test_sum_of_a_file(tmp_path):
    (tmp_path / "x").write_bytes(b"abc")
    assert sha256_of_file(tmp_path / "x") == hashlib.sha256(b"abc").hexdigest()
