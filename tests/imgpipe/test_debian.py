"""imgpipe.debian: a package through apt's own folders, and apt's word where it does not come."""

import os
import signal
import subprocess
import sys
import time

import pytest

from imgpipe.debian import unpack_package


@pytest.fixture
def unpack(tmp_path, monkeypatch):
    """Unpack a package with stand-ins for apt-get, whose script the test gives, and dpkg-deb."""
    tools = tmp_path / "tools"
    tools.mkdir()
    monkeypatch.setenv("PATH", f"{tools}{os.pathsep}{os.environ['PATH']}")

    def call(apt_get):
        scripts = {"apt-get": apt_get, "dpkg-deb": 'mkdir -p "$3" && touch "$3/one"'}
        for name, script in scripts.items():
            (tools / name).write_text(f"#!/bin/sh\n{script}\n")
            (tools / name).chmod(0o755)
        folder = unpack_package("dataset-x", tmp_path / "folder", 10)
        return [path.name for path in folder.iterdir()]

    return call


DOWNLOAD = 'case "$*" in *" download "*) touch package.deb;; esac'


def test_a_package_comes_through_private_folders(unpack, tmp_path):
    assert unpack(f'printf "%s\\n" "$@" >> {tmp_path}/calls; {DOWNLOAD}') == ["one"]
    calls = (tmp_path / "calls").read_text()
    assert "-c\n" in calls  # the settings that keep the system's hooks out
    for key in ("Dir::State=", "Dir::State::status=", "Dir::Cache="):
        assert f"-o{key}{tmp_path}/folder" in calls
    assert "dataset-x" in calls


def test_errors_are_told(unpack):
    with pytest.raises(OSError, match="Unable to locate package dataset-x"):
        unpack("echo 'E: Unable to locate package dataset-x'; exit 100")


def test_a_failed_update_is_forgiven_if_the_package_comes(unpack):
    """Another repository of the machine may be out of order."""
    assert unpack(f'case "$*" in *" update "*) echo "E: x"; exit 100;; esac; {DOWNLOAD}')


def test_without_apt(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(FileNotFoundError, match="not Debian or Ubuntu"):
        unpack_package("dataset-x", tmp_path / "folder", 10)


def test_what_a_killed_call_left_is_no_hindrance(unpack, tmp_path):
    (tmp_path / "folder/state").mkdir(parents=True)
    (tmp_path / "folder/other.deb").touch()
    assert unpack(DOWNLOAD) == ["one"]


@pytest.mark.parametrize(
    ("number", "say"),
    [
        (signal.SIGKILL, "echo dlstatus:1:1:x >/dev/fd/$fd || exit;"),  # nobody listens any more
        (signal.SIGINT, ""),
    ],
)
def test_apt_ends_with_its_caller(unpack, tmp_path, number, say):
    unpack(DOWNLOAD)
    alive = tmp_path / "alive"
    (tmp_path / "tools/apt-get").write_text(
        "#!/bin/sh\n"
        'for word in "$@"; do case $word in -oAPT::Status-Fd=*) fd=${word#*=};; esac; done\n'
        f"for _ in $(seq 400); do {say} date +%s%N > {alive}; sleep 0.05; done\n"
    )
    script = (
        "import sys; from pathlib import Path; from imgpipe.debian import unpack_package\n"
        "from imgpipe.stage import run_main\n"
        "run_main(lambda: unpack_package('x', Path(sys.argv[1]), 10))"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path / "folder")], stderr=subprocess.DEVNULL
    )
    deadline = time.monotonic() + 20
    while not alive.exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(number)
    process.wait(5)
    time.sleep(0.3)
    last = alive.read_text()
    time.sleep(0.3)
    assert alive.read_text() == last
