"""Killed, interrupted, or on a full disk: what comes of it is what an undisturbed run gives."""

import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest
import yaml

from imgpipe.files import sha256_of_file
from tiny import ROOT, STAGES

KILLER = ROOT / "tests/support/killer"
PIPELINE = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
# Of a stage's run: the last first, so that what goes on afterwards has something left to do.
MOMENTS = (1, 0, 1 / 2, 1 / 4, 1 / 8)


def outputs(project, stage: str) -> list[Path]:
    """List the files and folders that a stage writes."""
    block = PIPELINE[stage]
    named = [*block.get("outs", []), *block.get("metrics", [])]
    return [project.folder / (next(iter(n)) if isinstance(n, dict) else n) for n in named]


def sums(paths: list[Path]) -> dict[Path, str]:
    """Sum every file at or below these paths that exists."""
    files = [file for path in paths for file in [path, *path.rglob("*")] if file.is_file()]
    return {file: sha256_of_file(file) for file in files}


def clear(paths: list[Path]) -> None:
    """Remove a stage's outputs, as DVC does before it runs the stage."""
    for path in paths:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


def leftovers(project) -> list[Path]:
    """List what no stage shall leave behind once it has finished."""
    places = [project.folder / name for name in ("data", "metrics", "plots")]
    hidden = [path for place in places for path in place.rglob(".*")]
    work = [p for p in (project.folder / "data/unfinished").rglob("*") if p.suffix != ".lock"]
    return hidden + work


def recorded(project) -> dict[str, dict]:
    """Read what dvc.lock records of the stages as far as the scores."""
    stages = yaml.safe_load((project.folder / "dvc.lock").read_text())["stages"]
    return {stage: stages[stage] for stage in STAGES}


def forget_results(project) -> None:
    """Bring a project into the state of a fresh clone in which nothing was recorded."""
    clear([project.folder / name for name in ("data", "plots", "metrics", "dvc.lock")])
    clear([project.folder / ".dvc" / name for name in ("cache", "tmp")])


def run_and_kill(project, stage: str, log: Path, kill_at: int = -1):
    """Run a stage, killed before its event number `kill_at`; return its status and its events."""
    log.unlink(missing_ok=True)
    status = project.run(
        *PIPELINE[stage]["cmd"].split(),
        check=False,
        PYTHONPATH=str(KILLER),
        KILL_WITHIN=str(project.folder),
        KILL_AT=str(kill_at),
        KILL_LOG=str(log),
    )
    return status, log.read_text().splitlines() if log.exists() else []


@pytest.mark.parametrize(
    ("stage", "kills"),
    [
        ("check_names", 3),
        ("source", 3),
        ("fetch", 4),
        ("split", 4),
        ("preprocess", 4),
        ("features", 4),
        ("train", 4),
        ("evaluate", 2),
        ("plot", 2),
    ],
)
def test_a_killed_stage_comes_to_the_same_bytes(finished_backbone_project, tmp_path, stage, kills):
    """Killed before some of its writes, one time after the other, then left alone."""
    project = finished_backbone_project.copy(tmp_path / "project")
    outs = outputs(project, stage)
    expected = sums(outs)
    clear(outs)
    whole, events = run_and_kill(project, stage, tmp_path / "log")
    assert whole.returncode == 0 and sums(outs) == expected and len(events) > kills
    clear(outs)
    for moment in MOMENTS[:kills]:
        at = int(moment * (len(events) - 1))
        killed, _ = run_and_kill(project, stage, tmp_path / "log", at)
        assert killed.returncode == -signal.SIGKILL
        there = sums(outs)
        assert there == {path: expected[path] for path in there}, "a part looks like a result"
    last, events_left = run_and_kill(project, stage, tmp_path / "log")
    assert last.returncode == 0 and sums(outs) == expected
    if stage in ("features", "train"):
        assert len(events_left) < len(events), "it began anew instead of going on"
    assert not leftovers(project)


def test_dvc_killed_with_all_that_it_runs_goes_on(finished_backbone_project, tmp_path):
    project = finished_backbone_project.copy(tmp_path / "project")
    before = recorded(project)
    forget_results(project)
    for seconds in (4, 8, 12):
        process = project.start("dvc", "repro", "evaluate")
        time.sleep(seconds)
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        project.run("python", "-m", "stages.recover")  # DVC may have been writing its own files
    project.run("dvc", "repro", "evaluate")
    assert recorded(project) == before
    assert not leftovers(project)


def test_a_stage_that_outlived_its_dvc_is_not_started_twice(trained):
    trained.edit_params(models__cnn1__epochs=3000)
    process = trained.start("dvc", "repro")
    while not process.stdout.readline().startswith("epoch 2/"):
        assert process.poll() is None
    process.kill()  # dvc alone
    process.wait()
    second = trained.run("dvc", "repro", check=False)
    os.killpg(process.pid, signal.SIGKILL)
    assert "error: the stage train is running in this folder already" in second.stdout
    assert second.returncode != 0 and "Traceback" not in second.stdout
    trained.edit_params(models__cnn1__epochs=2)
    trained.repro()
    assert trained.run("git", "diff", "dvc.lock").stdout == ""


def test_two_at_once_do_not_damage_each_other(finished_project, tmp_path):
    project = finished_project.copy(tmp_path / "project")
    before = recorded(project)
    forget_results(project)
    both = [project.start("dvc", "repro", "evaluate") for _ in range(2)]
    said = [process.communicate()[0] for process in both]
    assert 0 in [process.returncode for process in both], said
    assert not any("Traceback" in text for text in said)
    project.run("dvc", "repro", "evaluate")
    assert recorded(project) == before


def test_two_experiments_at_once_give_what_each_gives_alone(finished_project, tmp_path):
    alone = finished_project.copy(tmp_path / "alone")
    alone.run("dvc", "exp", "run", "-S", "seed=1", "evaluate")
    project = finished_project.copy(tmp_path / "project")
    command = "dvc", "exp", "run", "--temp", "evaluate", "--name"
    both = []
    for n in (1, 2):
        both.append(project.start(*command, f"seed-{n}", "-S", f"seed={n}"))
        # DVC waits three seconds at most for another one that is still being prepared.
        assert any("Running stage" in line for line in both[-1].stdout)
    said = [process.communicate()[0] for process in both]
    assert [process.returncode for process in both] == [0, 0], said
    locks = []
    for name in ("seed-1", "seed-2"):
        project.run("dvc", "exp", "apply", name)
        assert "up to date" in project.run("dvc", "status", "--with-deps", "evaluate").stdout
        locks.append(recorded(project))
    assert locks[0] == recorded(alone)
    # And another seed gives another result.
    assert locks[0]["train"]["outs"] != locks[1]["train"]["outs"]


def can_mount() -> bool:
    """Tell whether a file system of a size of its own can be had without being root."""
    mount = ["unshare", "--map-root-user", "--mount", "mount", "-t", "tmpfs", "tmpfs", "/mnt"]
    return shutil.which("unshare") and subprocess.run(mount, capture_output=True).returncode == 0


# The project moves to a small file system, another file fills it up, and a little is freed again.
ON_A_FULL_DISK = """
set -e
mount -t tmpfs -o size=300m tmpfs "$1"
cp -a . "$1"
cd "$1"
head -c 400m /dev/zero > filler 2>/dev/null || true
size=$(stat -c %s filler)
truncate -s $((size - 1024 * $3)) filler
$2 && echo "succeeded" || echo "failed"
find . -path ./.git -prune -o -path ./.dvc -prune -o -type f -print | sort > /dev/null
rm filler
mkdir "$4"
cp -a data metrics plots "$4"
$2
mkdir "$5"
cp -a data metrics plots "$5"
"""


@pytest.mark.skipif(not can_mount(), reason="no file system can be mounted here (unshare, mount)")
@pytest.mark.parametrize(
    ("stage", "kilobytes"),
    [
        ("check_names", 0),
        ("source", 0),
        ("fetch", 100),
        ("split", 8),
        ("preprocess", 100),
        ("features", 100),
        ("train", 100),
        ("evaluate", 8),
        ("plot", 50),
    ],
)
def test_a_full_disk_is_told_and_leaves_what_was_there(
    finished_backbone_project, tmp_path, stage, kilobytes
):
    project = finished_backbone_project.copy(tmp_path / "project")
    if stage == "source":  # only where there is no own one does it write bytes
        project.edit_params(
            datasets__fashion_mnist__source=None,
            datasets__fashion_mnist__public_sources=[{"folder": "/"}],
        )
        project.run("python", "-m", "stages.source")
    outs = outputs(project, stage)
    expected = sums(outs)
    disk, failed, done = tmp_path / "disk", tmp_path / "failed", tmp_path / "done"
    disk.mkdir()
    said = project.run(
        *("unshare", "--map-root-user", "--mount", "sh", "-c", ON_A_FULL_DISK, "sh"),
        *(str(disk), PIPELINE[stage]["cmd"], str(kilobytes), str(failed), str(done)),
    ).stdout
    lines = said.splitlines()
    assert "failed" in lines and "succeeded" not in lines, said
    errors = lines[: lines.index("failed")]
    assert "the disk is full; free some space" in errors[-1] and "Traceback" not in said, said
    for folder in (failed, done):
        there = {path: folder / path.relative_to(project.folder) for path in expected}
        assert {path: sha256_of_file(copy) for path, copy in there.items()} == expected
    assert not [p for name in ("failed", "done") for p in (tmp_path / name).rglob(".*")]
