"""recover: remove what a killed DVC left half-written. Run by hand, and by make repro before DVC.

DVC writes two of its files in place, piece by piece: dvc.lock after each stage, and
.dvc/tmp/rwlock around each. Killed in that moment, it refuses to start from then on. Without
dvc.lock it brings back what was finished from its cache; without the other it misses nothing.
"""

import json
import time
from pathlib import Path

from imgpipe.stage import run_main
from imgpipe.yaml_file import read_yaml

LOCK = Path("dvc.lock")
RWLOCK = Path(".dvc/tmp/rwlock")
WRITING_SECONDS = 1  # in which another DVC, which is alive, has finished writing


def main():
    """Look at both files, twice if need be."""
    for path, is_whole in ((LOCK, is_whole_lock), (RWLOCK, is_whole_rwlock)):
        if path.is_file() and not is_whole(path):
            time.sleep(WRITING_SECONDS)
            if path.is_file() and not is_whole(path):
                path.unlink()
                print(f"recover: {path} was half-written by a killed DVC; removed")


def is_whole_lock(path: Path) -> bool:
    """Tell whether a file is a dvc.lock that DVC can read."""
    try:
        content = read_yaml(path)
    except ValueError:
        return False
    return isinstance(content, dict) and {"schema", "stages"} <= set(content)


def is_whole_rwlock(path: Path) -> bool:
    """Tell whether a file is JSON, as DVC writes its list of who reads and writes what."""
    try:
        json.loads(path.read_bytes())
    except ValueError:
        return False
    return True


if __name__ == "__main__":
    run_main(main)
