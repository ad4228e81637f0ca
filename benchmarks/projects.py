"""Temporary copies of this project, for stages and DVC to run in, and the running itself."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

from ruamel.yaml import YAML

from benchmarks import ENVIRONMENT
from imgpipe.params import PARAMS_FILE
from stages.verify import LOCK, copy_project

MEASURED = str(Path(__file__).with_name("measured.py"))
_RESULTS = ("data/source", LOCK, ".dvc/cache")  # what a clone lacks and `dvc checkout` needs
_AUTHOR = {"NAME": "Benchmark", "EMAIL": "benchmark@example.org"}


class Run(NamedTuple):
    """What a command took.

    Attributes:
        seconds: from its start to its end.
        peak_memory: bytes that the largest of its processes held at most.
    """

    seconds: float
    peak_memory: int


def copy_finished(folder: Path) -> None:
    """Copy this project with its results, as if its present code had made them.

    Raises:
        FileNotFoundError: there are no results.
        ValueError: a command has failed.
    """
    for name in _RESULTS:
        if not Path(name).exists():
            raise FileNotFoundError(f"{name}: not found; run dvc repro, whose results are measured")
    copy_project(folder)
    for name in _RESULTS:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        if Path(name).is_dir() and not Path(name).is_symlink():
            shutil.copytree(name, folder / name)
        else:
            shutil.copy(name, folder / name, follow_symlinks=False)
    run_dvc(folder, "checkout")
    run_dvc(folder, "commit", "--force")
    run(folder, "git", "add", "--all")
    run(folder, "git", "commit", "--quiet", "--allow-empty", "--message", "finished")


def edit_params(folder: Path, changes: dict[str, Any]) -> None:
    """Set values in a copy's params.yaml by their dotted paths."""
    yaml, path = YAML(), folder / PARAMS_FILE
    content = yaml.load(path)
    for key, value in changes.items():
        *parents, last = key.split(".")
        block = content
        for parent in parents:
            block = block[parent]
        block[last] = value
    yaml.dump(content, path)


def use_photos(folder: Path, archive: Path, size: int) -> None:
    """Choose an archive of image files as a copy's dataset, stored in their own size."""
    block = "datasets.my_images"
    changes = {"source": str(archive.resolve()), "image_size": [size, size]}
    edit_params(folder, {"dataset": "my_images", **{f"{block}.{k}": changes[k] for k in changes}})


def run_stage(folder: Path, *words: str) -> Run:
    """Run a script of stages/ in a copy."""
    name, *arguments = words
    return run(folder, sys.executable, "-m", f"stages.{name}", *arguments)


def run_dvc(folder: Path, *words: str) -> Run:
    """Run DVC in a copy, with this Python, which its stages use too."""
    return run(folder, sys.executable, "-m", "dvc", *words)


def run(folder: Path, *command: str) -> Run:
    """Run a command in a copy.

    Raises:
        ValueError: it has failed; the message has the last line that it printed.
    """
    path = f"{Path(sys.executable).parent}{os.pathsep}{ENVIRONMENT.get('PATH', os.defpath)}"
    environment = ENVIRONMENT | {"PATH": path}
    for role in ("AUTHOR", "COMMITTER"):
        environment |= {f"GIT_{role}_{key}": value for key, value in _AUTHOR.items()}
    with tempfile.TemporaryDirectory() as scratch:
        report = Path(scratch, "report.json")
        measured = [sys.executable, MEASURED, str(report), *command]
        ended = subprocess.run(
            measured,
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        if ended.returncode:
            said = ended.stdout.strip().splitlines() or ["it said nothing"]
            raise ValueError(f"{' '.join(command[1:])}: failed ({said[-1]})")
        return Run(**json.loads(report.read_text()))
