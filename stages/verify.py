"""verify: run everything anew in a temporary clone and compare. Run by hand, by make verify.

The clone has this folder's code and parameters as they stand, committed or not, and nothing of its
results; other settings of the system (permissions, language, time zone, hash seed) stand in for
another person's machine. Every output's sum must be the one that dvc.lock has here.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from imgpipe.stage import run_main
from imgpipe.yaml_file import read_yaml

LOCK = Path("dvc.lock")
OTHER_SETTINGS = {"LC_ALL": "C", "TZ": "Asia/Kathmandu", "PYTHONHASHSEED": "4711"}


def main():
    """Rerun and say which outputs differ."""
    started = time.perf_counter()
    require_results()
    clone = Path(tempfile.mkdtemp(prefix="imgpipe-verify-"))
    copy_project(clone)
    print(f"verify: running everything anew in {clone}", flush=True)
    run_dvc("repro", cwd=clone, env=os.environ | OTHER_SETTINGS, umask=0o077)
    recorded, repeated = (read_sums(folder / LOCK) for folder in (Path(), clone))
    different = find_differences(recorded, repeated)
    if different:
        first = next(iter(different))
        words = "\n".join(f"  {stage}: {', '.join(outs)}" for stage, outs in different.items())
        raise ValueError(
            f"the run in {clone} gave other bytes than stand in dvc.lock:\n{words}\n"
            f"Look at {first} first: what follows it may only follow from it"
        )
    shutil.rmtree(clone)
    print(
        f"verify: the same bytes in all {sum(map(len, recorded.values()))} outputs of "
        f"{len(recorded)} stages, {time.perf_counter() - started:.0f} s"
    )


def require_results() -> None:
    """Make sure that dvc.lock records what the code and the parameters give here.

    Raises:
        ValueError: it does not.
    """
    status = run_dvc("status", "--json", stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    if changed := [name for name in json.loads(status.stdout) if name]:
        raise ValueError(
            f"dvc.lock: does not record the present parameters, code and results "
            f"({', '.join(changed)} changed); run dvc repro first"
        )


def copy_project(folder: Path) -> None:
    """Clone this repository into an empty folder, with its changes but without its results."""
    run_git("clone", "--quiet", ".", str(folder))
    changed = run_git("diff", "--name-only", "--no-renames", "-z", "HEAD")  # staged or not
    new = run_git("ls-files", "-z", "--others", "--exclude-standard")
    for name in filter(None, os.fsdecode(changed + new).split("\0")):
        (folder / name).unlink(missing_ok=True)
        if Path(name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(name, folder / name)
    (folder / LOCK).unlink(missing_ok=True)


def run_git(*arguments: str) -> bytes:
    """Run git and return what it prints.

    Raises:
        ValueError: it failed.
    """
    result = subprocess.run(["git", *arguments], stdout=subprocess.PIPE)
    if result.returncode:
        raise ValueError(f"git {arguments[0]} failed; what it says stands above")
    return result.stdout


def run_dvc(*arguments: str, **options) -> subprocess.CompletedProcess:
    """Run DVC with this Python, which its stages then use too.

    Raises:
        ValueError: it failed.
    """
    environment = dict(options.pop("env", os.environ))
    environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{environment['PATH']}"
    command = [sys.executable, "-m", "dvc", *arguments]
    result = subprocess.run(command, env=environment, **options)
    if result.returncode:
        raise ValueError(f"dvc {' '.join(arguments)} failed; what it says stands above")
    return result


def read_sums(lock: Path) -> dict[str, dict[str, str]]:
    """Read the sums of each stage's outputs, path by path, from a dvc.lock."""
    stages = read_yaml(lock)["stages"]
    return {
        name: {out["path"]: out.get("md5", "") for out in stage.get("outs", [])}
        for name, stage in stages.items()
    }


def find_differences(recorded: dict, repeated: dict) -> dict[str, list[str]]:
    """List for each stage the outputs whose sums differ, in the order of the second run."""
    different = {}
    for stage in repeated | recorded:
        before, after = recorded.get(stage, {}), repeated.get(stage, {})
        if paths := [path for path in before | after if before.get(path) != after.get(path)]:
            different[stage] = paths
    return different


if __name__ == "__main__":
    run_main(main)
