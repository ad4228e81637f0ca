"""imgpipe.weights: only the file that is meant."""

import hashlib
import subprocess
import sys
import threading

import pytest

from https_server import serving
from imgpipe import downloads, weights
from imgpipe.weights import find_weights
from tiny import make_settings

CONTENT = b"weights" * 1000
MD5 = hashlib.md5(CONTENT).hexdigest()


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


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "imgpipe"


@pytest.fixture
def site(monkeypatch, cache):
    """A web server that has the weights of VGG16."""
    monkeypatch.setattr(downloads, "RETRY_SECONDS", 0)
    with serving(monkeypatch) as site:
        site.files["/x.h5"] = CONTENT
        monkeypatch.setitem(weights.IMAGENET_FILES, "vgg16", (site.url + "x.h5", MD5))
        yield site


def test_imagenet_weights_come_from_the_cache_once_they_are_there(cache, monkeypatch):
    monkeypatch.setitem(weights.IMAGENET_FILES, "vgg16", ("https://host.invalid/x.h5", MD5))
    with pytest.raises(OSError, match="give a copy of your own"):
        find_weights(make_settings(weights="imagenet"))
    cache.mkdir(exist_ok=True)
    (cache / "x.h5").write_bytes(CONTENT)
    assert find_weights(make_settings(weights="imagenet")).read_bytes() == CONTENT


def test_imagenet_weights_are_downloaded_once(site, cache):
    for _ in range(2):
        assert find_weights(make_settings(weights="imagenet")) == cache / "x.h5"
    assert len(site.requests) == 1
    assert sorted(path.name for path in cache.iterdir()) == ["x.h5", "x.h5.lock"]


def test_damaged_imagenet_weights_are_fetched_anew(site, cache):
    cache.mkdir()
    (cache / "x.h5").write_bytes(CONTENT[:-1])
    assert find_weights(make_settings(weights="imagenet")).read_bytes() == CONTENT


def test_other_imagenet_weights_are_refused_and_removed(site, cache):
    site.files["/x.h5"] = b"other"
    with pytest.raises(OSError, match=rf"MD5 sum .* where {MD5} is pinned\); give a copy"):
        find_weights(make_settings(weights="imagenet"))
    assert [path.name for path in cache.iterdir()] == ["x.h5.lock"]


SCRIPT = """
import sys
from imgpipe import weights
from tiny import make_settings
weights.IMAGENET_FILES["vgg16"] = tuple(sys.argv[1:])
print(len(weights.find_weights(make_settings(weights="imagenet")).read_bytes()))
"""


def start(site):
    command = [sys.executable, "-c", SCRIPT, site.url + "x.h5", MD5]
    return subprocess.Popen(command, stdout=subprocess.PIPE, env=None, text=True)


def wait_for(holds):
    waiting = threading.Event()
    for _ in range(1000):
        if holds():
            return
        waiting.wait(0.02)
    raise AssertionError("it did not happen within 20 s")


def test_two_processes_download_once(site, cache, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", "tests/support")
    site.stalled, site.drops = threading.Event(), [1000]
    one = start(site)
    wait_for(lambda: site.requests and site.requests[0].sent == 1000)
    other = start(site)
    with pytest.raises(subprocess.TimeoutExpired):
        other.wait(1)
    site.stalled.set()
    assert [process.communicate(timeout=10)[0] for process in (one, other)] == ["7000\n"] * 2
    assert [request.range for request in site.requests] == [None, "bytes=1000-"]


def test_a_killed_download_is_continued(site, cache, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", "tests/support")
    site.stalled, site.drops, part = threading.Event(), [1000], cache / "x.h5.part"
    process = start(site)
    wait_for(lambda: part.exists() and part.stat().st_size == 1000)
    process.kill()
    process.communicate()
    assert find_weights(make_settings(weights="imagenet")).read_bytes() == CONTENT
    assert [request.sent for request in site.requests] == [1000, len(CONTENT) - 1000]
