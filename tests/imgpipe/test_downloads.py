"""imgpipe.downloads: whatever the source, the pinned bytes or an error."""

import gzip
import hashlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace

import pytest

from imgpipe import downloads
from imgpipe.downloads import download, fetch_files

CONTENT = {"one": b"first" * 1000, "two": b"second"}
SUMS = {name: hashlib.sha256(data).hexdigest() for name, data in CONTENT.items()}


def source(**keys):
    return SimpleNamespace(**{"folder": None, "url": None, "debian_package": None} | keys)


@pytest.fixture
def raw(tmp_path):
    folder = tmp_path / "work/raw"
    folder.mkdir(parents=True)
    return folder


@pytest.fixture
def given(tmp_path):
    """A folder with one file plain and the other gzipped."""
    folder = tmp_path / "given"
    folder.mkdir()
    (folder / "one").write_bytes(CONTENT["one"])
    (folder / "two.gz").write_bytes(gzip.compress(CONTENT["two"]))
    return folder


@pytest.fixture
def server(given):
    """A web server with the files gzipped; `behave` makes it misbehave."""
    state = SimpleNamespace(behave="well", requests=0)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            state.requests += 1
            body = gzip.compress(CONTENT[self.path.strip("/").removesuffix(".gz")])
            if state.behave == "missing":
                self.send_error(404)
                return
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body if state.behave == "well" else body[: len(body) // 2])
            if state.behave == "stalled":
                time.sleep(3)

        def log_message(self, *_):
            pass

    httpd = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=httpd.serve_forever, daemon=True).start()
    state.url = f"http://127.0.0.1:{httpd.server_port}/"
    yield state
    httpd.shutdown()


def check(raw):
    assert {p.name: p.read_bytes() for p in raw.iterdir()} == CONTENT
    assert [p.name for p in raw.parent.iterdir()] == ["raw"]


def test_a_folder(raw, given):
    assert str(given) in fetch_files([str(given)], SUMS, raw)
    check(raw)


def test_a_list_of_files(raw, given):
    fetch_files([[str(given / "one"), str(given / "two.gz")]], SUMS, raw)
    check(raw)


def test_an_address(raw, server):
    assert fetch_files([source(url=server.url)], SUMS, raw) == server.url
    check(raw)


@pytest.mark.parametrize("behave", ["missing", "truncated"])
def test_the_next_source_is_tried_and_nothing_of_the_failed_one_stays(raw, server, given, behave):
    server.behave = behave
    fetch_files([source(url=server.url), source(folder=str(given))], SUMS, raw)
    check(raw)
    assert server.requests == 2  # the first file's, asked for and downloaded; no other


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda given: (given / "one").write_bytes(b"other"), "has the SHA-256 sum"),
        (lambda given: (given / "one").unlink(), "one not there (nor as .gz)"),
        (lambda given: (given / "two.gz").write_bytes(b"no gzip"), "Not a gzipped file"),
        (
            lambda given: (given / "two.gz").write_bytes(gzip.compress(CONTENT["two"])[:-9]),
            "ended before",
        ),
    ],
)
def test_a_bad_source_is_refused_with_its_reason(raw, given, damage, reason):
    damage(given)
    with pytest.raises(ValueError) as caught:
        fetch_files([str(given), source(folder="/nowhere")], SUMS, raw)
    message = str(caught.value)
    assert reason in message
    assert "folder /nowhere: no such folder" in message
    assert "To use a copy of your own" in message
    assert not list(raw.iterdir())


def test_an_address_that_cannot_be_resolved(raw, given):
    fetch_files([source(url="https://host.invalid/"), str(given)], SUMS, raw)
    check(raw)


def test_a_silent_address_is_given_up(raw, given, monkeypatch):
    monkeypatch.setattr(downloads, "ANSWER_SECONDS", 0.2)

    with socket.create_server(("127.0.0.1", 0)) as listening:
        url = f"http://127.0.0.1:{listening.getsockname()[1]}/"
        with pytest.raises(ValueError, match="no answer within"):
            fetch_files([source(url=url)], SUMS, raw)


def test_a_killed_download_leaves_nothing_that_looks_complete(tmp_path, server):
    server.behave = "stalled"
    script = (
        "import sys; from pathlib import Path; from types import SimpleNamespace\n"
        "from imgpipe.downloads import fetch_files\nfrom imgpipe.files import replacing\n"
        "source = SimpleNamespace(folder=None, url=sys.argv[1], debian_package=None)\n"
        "with replacing(Path(sys.argv[2])) as folder:\n"
        f"    folder.mkdir(); fetch_files([source], {SUMS!r}, folder)\n"
    )
    raw = tmp_path / "data/raw"
    process = subprocess.Popen([sys.executable, "-c", script, server.url, str(raw)])
    deadline = time.monotonic() + 30
    while server.requests < 2 and time.monotonic() < deadline:  # asked for, then downloaded
        time.sleep(0.05)
    assert server.requests == 2
    time.sleep(0.2)
    process.kill()
    assert process.wait() == -signal.SIGKILL
    assert not raw.exists()
    assert all(path.name.startswith(".raw.") for path in raw.parent.iterdir())


def test_a_download_with_another_hash_is_refused_and_removed(server, tmp_path):
    target = tmp_path / "one.gz"
    with pytest.raises(ValueError, match="hash"):
        download(server.url + "one.gz", target, "sha256:" + "0" * 64)
    assert not target.exists()


@pytest.fixture
def debian(given, tmp_path, monkeypatch):
    """Stand-ins for apt-get, whose script the test gives, and dpkg-deb, which unpacks `given`."""
    tools = tmp_path / "tools"
    tools.mkdir()
    monkeypatch.setenv("PATH", f"{tools}{os.pathsep}{os.environ['PATH']}")

    def write(apt_get):
        unpack = f'mkdir -p "$3/usr/share" && cp {given}/* "$3/usr/share/"'
        for name, script in (("apt-get", apt_get), ("dpkg-deb", unpack)):
            (tools / name).write_text(f"#!/bin/sh\n{script}\n")
            (tools / name).chmod(0o755)

    return write


def test_a_debian_package_comes_through_private_folders(raw, debian, tmp_path):
    debian(
        f'printf "%s\\n" "$@" >> {tmp_path}/calls; '
        'case "$*" in *" download "*) touch package.deb;; esac'
    )
    fetch_files([source(debian_package="dataset-x")], SUMS, raw)
    check(raw)
    calls = (tmp_path / "calls").read_text()
    assert "-c\n" in calls  # the settings that keep the system's hooks out
    for key in ("Dir::State=", "Dir::State::status=", "Dir::Cache="):
        assert f"-o{key}{raw.parent}" in calls
    assert "dataset-x" in calls


def test_apt_errors_are_told(raw, debian):
    debian("echo 'E: Unable to locate package dataset-x'; exit 100")
    with pytest.raises(ValueError, match="Unable to locate package dataset-x"):
        fetch_files([source(debian_package="dataset-x")], SUMS, raw)


def test_a_failed_update_is_forgiven_if_the_package_comes(raw, debian):
    """Another repository of the machine may be out of order."""
    debian('case "$*" in *" update "*) echo "E: other"; exit 100;; *) touch package.deb;; esac')
    fetch_files([source(debian_package="dataset-x")], SUMS, raw)
    check(raw)


def test_without_apt(raw, monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ValueError, match="not Debian or Ubuntu"):
        fetch_files([source(debian_package="dataset-x")], SUMS, raw)
