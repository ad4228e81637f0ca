"""recover: remove what DVC would stumble over. Run by hand, and by make repro before DVC.

DVC writes two of its files in place, piece by piece: dvc.lock after each stage, and
.dvc/tmp/rwlock around each. Killed in that moment, it refuses to start from then on. Without
dvc.lock it brings back what was finished from its cache; without the other it misses nothing.

Before any stage DVC reads all that the link data/source leads to. If a pipe or device came to lie
there it would wait for ever, even where params.yaml names another source by now. Without the link,
the stage `source` says what is wrong, or makes another.
"""

import json
import time
from pathlib import Path

from imgpipe.files import find_unreadable, remove
from imgpipe.stage import run_main
from imgpipe.wording import shorten
from imgpipe.yaml_file import read_yaml

LOCK = Path("dvc.lock")
RWLOCK = Path(".dvc/tmp/rwlock")
SOURCE = Path("data/source")
WRITING_SECONDS = 1  # in which another DVC, which is alive, has finished writing


def main():
    """Look at both files, twice if need be, and at what the link leads to."""
    for path, is_whole in ((LOCK, is_whole_lock), (RWLOCK, is_whole_rwlock)):
        if path.is_file() and not is_whole(path):
            time.sleep(WRITING_SECONDS)
            if path.is_file() and not is_whole(path):
                path.unlink()
                print(f"recover: {path} was half-written by a killed DVC; removed")
    if (SOURCE.exists() or SOURCE.is_symlink()) and (found := find_unreadable(SOURCE)):
        remove(SOURCE)
        print(f"recover: {SOURCE} led to {shorten(found[0], 300)}, which {found[1]}; unlinked")


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
