"""What a contender's process runs. Needs nothing but NumPy: the interpreter may be another one."""

import json
import os
import sys
import time
from importlib import import_module
from pathlib import Path
from typing import TextIO

import numpy as np


def main():
    """Run the contender that the command line names, one lap for each line on standard input."""
    module, function, settings, answer = sys.argv[1:]
    reports = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print must not get among the reports
    contend = getattr(import_module(module), function)
    contend(_Laps(reports, Path(answer)), **json.loads(settings))


class _Laps:
    """Tells how long each lap took, and waits until the next one may begin."""

    def __init__(self, reports: TextIO, answer: Path):
        self.reports = reports
        self.answer = answer
        self.started = time.perf_counter()

    def __call__(self, answer: dict[str, np.ndarray] | None = None) -> None:
        """End a lap; the first call ends the preparations.

        Args:
            answer: arrays by name that tell whether the contender computes the right thing.
        """
        seconds = time.perf_counter() - self.started
        if answer:
            np.savez(self.answer, **answer)
        report = {"seconds": seconds, "peak_memory": read_peak_memory()}
        print(json.dumps(report), file=self.reports, flush=True)
        if not sys.stdin.readline():
            os._exit(0)  # at once: frameworks may be in the middle of something
        self.restart()

    def restart(self) -> None:
        """Leave out of the lap what has passed of it."""
        self.started = time.perf_counter()


def read_peak_memory() -> int:
    """Return the most bytes that this process has ever held in memory.

    resource.getrusage would not do: it counts what the process was before it was this program.
    """
    lines = Path("/proc/self/status").read_text().splitlines()
    (peak,) = (line.split()[1] for line in lines if line.startswith("VmHWM"))
    return 1024 * int(peak)


if __name__ == "__main__":
    main()
