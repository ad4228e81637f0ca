"""imgpipe.files: written whole or not at all."""

import hashlib
import signal
import subprocess
import sys

import pytest

from imgpipe.files import holding, replacing, sha256_of_file


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


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_what_a_killed_process_left_does_not_disturb_and_goes(tmp_path, kind):
    make = "path.write_text('half')" if kind == "file" else "path.mkdir(); (path / 'a').touch()"
    script = (
        "import os; from imgpipe.files import replacing\n"
        f"with replacing({str(tmp_path / 'x')!r}) as path: {make}; os.kill(os.getpid(), 9)"
    )
    killed = subprocess.run([sys.executable, "-c", script])
    assert killed.returncode == -signal.SIGKILL
    assert not (tmp_path / "x").exists() and list(tmp_path.iterdir())
    with replacing(tmp_path / "x") as temporary:
        temporary.write_text("whole")
    assert [(p.name, p.read_text()) for p in tmp_path.iterdir()] == [("x", "whole")]


def test_a_lock_keeps_others_out_and_ends_with_its_process(tmp_path):
    lock = tmp_path / "folder/a.lock"
    script = (
        "import time; from pathlib import Path; from imgpipe.files import holding\n"
        f"with holding(Path({str(lock)!r}), 'busy'): print('held', flush=True); time.sleep(60)"
    )
    process = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "held\n"
    with pytest.raises(OSError, match="busy"), holding(lock, "busy"):
        pass
    process.kill()
    process.wait()
    with holding(lock, "busy"), holding(tmp_path / "other.lock", "busy"):
        pass


def test_who_may_wait_for_a_lock_gets_it(tmp_path):
    script = (
        "import time; from pathlib import Path; from imgpipe.files import holding\n"
        f"with holding(Path({str(tmp_path / 'a.lock')!r})):\n"
        "    print('held', flush=True); time.sleep(1); print('done', flush=True)"
    )
    process = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "held\n"
    with holding(tmp_path / "a.lock"):
        assert process.wait() == 0
