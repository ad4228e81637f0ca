"""Measuring contenders side by side: each in a process of its own, of which one works at a time."""

import json
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import ENVIRONMENT
from imgpipe.environment import read_processor
from imgpipe.stage import progress_bar

ROOT = Path(__file__).parents[1]


@dataclass(frozen=True)
class Contender:
    """One way to do the work.

    Attributes:
        name: as tables show it.
        module: of benchmarks.contenders.
        function: in the module.
        settings: its arguments beside `lap`, as JSON can hold them.
        items: images or steps in a lap; for whole laps, the share of one that is timed.
        python: the interpreter that runs it.
    """

    name: str
    module: str
    function: str
    settings: dict[str, Any]
    items: float = 1
    python: str = sys.executable


@dataclass(frozen=True)
class Result:
    """What was measured of a contender.

    Attributes:
        seconds: median of the laps, for one item.
        peak_memory: bytes that its process held at most.
        answer: the arrays that it gave, by name.
    """

    seconds: float
    peak_memory: int
    answer: dict[str, np.ndarray]


def race(contenders: Iterable[Contender], rounds: int, description: str) -> dict[str, Result]:
    """Let each contender make itself ready, then all do one lap in turn, `rounds` times.

    Args:
        contenders: of different names.
        rounds: laps of each.
        description: for the progress bar.

    Returns:
        Name to result, in the order of the contenders.

    Raises:
        ValueError: a contender's process has failed.
    """
    with tempfile.TemporaryDirectory(prefix="imgpipe-race-") as scratch, ExitStack() as stack:
        runners = []
        contenders = list(contenders)
        laps = progress_bar(total=(rounds + 1) * len(contenders), desc=description, unit=" laps")
        with laps as bar:
            for number, contender in enumerate(contenders):
                folder = Path(scratch, str(number))
                folder.mkdir()
                runners.append(stack.enter_context(_Runner(contender, folder)))
                bar.update()
            for _ in range(rounds):
                for runner in runners:
                    runner.run_lap()
                    bar.update()
        return {runner.contender.name: runner.summarise() for runner in runners}


def find_torch(python: str | None) -> str | None:
    """Return the version of PyTorch that an interpreter has.

    Args:
        python: path of the interpreter; None for this one, which need not have it.

    Returns:
        The version; None if this interpreter has none.

    Raises:
        ValueError: the interpreter that was named has none, or is none.
    """
    command = [python or sys.executable, "-c", "import torch; print(torch.__version__)"]
    try:
        found = subprocess.run(command, capture_output=True, text=True)
    except OSError as error:
        raise ValueError(f"{python}: cannot be run ({error.strerror}); name a Python") from None
    if found.returncode == 0:
        return found.stdout.strip()
    if python:
        raise ValueError(f"{python}: cannot import torch; name a Python in which it is installed")
    return None


def computes_in_bfloat16() -> bool:
    """Tell whether the processor has instructions for it; without them it takes far longer."""
    _, instructions = read_processor()
    return bool({"avx512_bf16", "amx_bf16"} & instructions)


class _Runner:
    """The process of one contender."""

    def __init__(self, contender: Contender, folder: Path):
        self.contender = contender
        self.answer = folder / "answer.npz"
        self.seconds = []
        self.errors = (folder / "errors.txt").open("w+")
        module = f"benchmarks.contenders.{contender.module}"
        settings = json.dumps(contender.settings)
        self.process = subprocess.Popen(
            [
                *(contender.python, "-m", "benchmarks.runner"),
                *(module, contender.function, settings, str(self.answer)),
            ],
            cwd=ROOT,
            env=ENVIRONMENT | {"TMPDIR": str(folder)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.errors,
            text=True,
        )

    def __enter__(self) -> "_Runner":
        try:
            self._receive()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.communicate()
        self.errors.close()

    def run_lap(self) -> None:
        try:
            self.process.stdin.write("\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            pass  # it has ended, which is told by what it does not report
        self.seconds.append(self._receive())

    def summarise(self) -> Result:
        seconds = statistics.median(self.seconds) if self.seconds else float("nan")
        answer = dict(np.load(self.answer)) if self.answer.exists() else {}
        return Result(seconds / self.contender.items, self.peak_memory, answer)

    def _receive(self) -> float:
        line = self.process.stdout.readline()
        if not line:
            self.errors.seek(0)
            said = self.errors.read().strip().splitlines() or ["it said nothing"]
            raise ValueError(
                f"{self.contender.name}: its process ended ({said[-1]}); mend that, or measure "
                "less at once"
            )
        report = json.loads(line)
        self.peak_memory = report["peak_memory"]
        return report["seconds"]
