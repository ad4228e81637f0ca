"""imgpipe.weights: only the file that is meant."""

import hashlib

import pytest

from imgpipe import weights
from imgpipe.weights import find_weights
from tiny import make_settings


def test_no_weights():
    assert find_weights(make_settings()) is None


def test_a_file_is_known_by_its_sum(tmp_path):
    path = tmp_path / "own.weights.h5"
    path.write_bytes(b"weights")
    right = hashlib.sha256(b"weights").hexdigest()
    assert find_weights(make_settings(weights=str(path), weights_sha256=right)) == path
    path.write_bytes(b"changed")
    with pytest.raises(ValueError, match=r"has the SHA-256 sum .* but backbone\.weights_sha256"):
        find_weights(make_settings(weights=str(path), weights_sha256=right))
    path.unlink()
    with pytest.raises(FileNotFoundError, match="no such file"):
        find_weights(make_settings(weights=str(path), weights_sha256=right))


def test_imagenet_weights_come_from_the_cache_once_they_are_there(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    md5 = f"md5:{hashlib.md5(b'weights').hexdigest()}"
    monkeypatch.setitem(weights.IMAGENET_FILES, "vgg16", ("https://host.invalid/x.h5", md5))
    with pytest.raises(OSError, match="give a copy of your own"):
        find_weights(make_settings(weights="imagenet"))
    (tmp_path / "imgpipe").mkdir(exist_ok=True)
    (tmp_path / "imgpipe/x.h5").write_bytes(b"weights")
    assert find_weights(make_settings(weights="imagenet")).read_bytes() == b"weights"
