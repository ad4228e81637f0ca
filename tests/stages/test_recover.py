"""stages.recover: what a killed DVC left half-written no longer stops the next one."""

import os

import pytest


@pytest.mark.parametrize("is_empty", [True, False], ids=["empty", "half"])
@pytest.mark.parametrize("name", ["dvc.lock", ".dvc/tmp/rwlock"])
def test_half_a_file_is_removed_and_everything_is_as_it_was(trained, name, is_empty):
    lock = trained.folder / "dvc.lock"
    whole, path = lock.read_bytes(), trained.folder / name
    path.write_bytes(b"" if is_empty else whole[: whole.index(b"md5:") + 1])  # no JSON either
    assert trained.run("dvc", "repro", check=False).returncode != 0
    said = trained.run("python", "-m", "stages.recover").stdout
    assert said == f"recover: {name} was half-written by a killed DVC; removed\n"
    again = trained.run("dvc", "repro").stdout
    assert "Running stage 'train'" not in again  # but brought back from the cache
    assert lock.read_bytes() == whole


def test_whole_files_stay(trained):
    (trained.folder / ".dvc/tmp/rwlock").write_text("{}")
    assert trained.run("python", "-m", "stages.recover").stdout == ""
    assert (trained.folder / ".dvc/tmp/rwlock").exists()
    assert "up to date" in trained.run("dvc", "status").stdout


def test_a_link_to_what_dvc_would_wait_for_is_removed(trained, tmp_path):
    """A pipe in the folder that was the source: not even another source helped."""
    (tmp_path / "photos").mkdir()
    os.mkfifo(tmp_path / "photos/pipe")
    source = trained.folder / "data/source"
    source.unlink()
    source.symlink_to(tmp_path / "photos")
    said = trained.run("python", "-m", "stages.recover").stdout
    assert (
        said == "recover: data/source led to data/source/pipe, which is no regular file; unlinked\n"
    )
    assert not source.is_symlink() and (tmp_path / "photos/pipe").exists()
    trained.run("timeout", "60", "dvc", "repro", "source")
    assert "up to date" in trained.run("dvc", "status").stdout
