"""Runs one command and reports what it took: measured.py REPORT COMMAND…

A process counts the memory of what started it as its own peak, so what starts it must be small:
this script imports next to nothing.
"""

import json
import os
import sys
import time


def main():
    """Run the command; write seconds and the largest process's peak memory as JSON."""
    report, *command = sys.argv[1:]
    started = time.perf_counter()
    process = os.spawnvp(os.P_NOWAIT, command[0], command)
    _, status, usage = os.wait4(process, 0)
    seconds = time.perf_counter() - started
    with open(report, "w") as file:  # noqa: PTH123 - pathlib is one of the things not imported
        json.dump({"seconds": seconds, "peak_memory": 1024 * usage.ru_maxrss}, file)
    sys.exit(os.waitstatus_to_exitcode(status))


if __name__ == "__main__":
    main()
