"""fetch: get the dataset's files. Reads the sources named in params.yaml; writes data/raw/.

data/raw holds IDX files (arrays of pixels), or images.tar (image files as <part>/<class>/<file>,
uncompressed) and images.csv (where each of them lies). The same images give the same bytes,
whichever source they came from.
"""

import json
import re
import time
from pathlib import Path

from imgpipe.files import remove, replacing, write_json
from imgpipe.params import load_params
from imgpipe.sources import fetch_dataset
from imgpipe.stage import WORK, run_stage

RAW = Path("data/raw")
SCRATCH = WORK / "fetch"
# What own addresses gave when they were first fetched, for git to keep. The stage both reads and
# writes it, so it can be neither dependency nor output: DVC would run the stage once more after
# each new address, and would take the file away before the stage can compare with it.
SUMS = Path("sources.lock")


def main():
    """Fill data/raw from the user's own data or the first public source that answers."""
    started = time.perf_counter()
    params, recorded = load_params(), read_sums(SUMS)
    with replacing(RAW) as folder:
        folder.mkdir()
        found, sums = fetch_dataset(params.dataset, folder, SCRATCH, recorded)
        size = sum(file.stat().st_size for file in folder.iterdir())
    if sums != recorded:
        write_json(sums, SUMS)
    remove(SCRATCH)
    print(
        f"fetch: {params.dataset_name}, {found}, {size / 1e6:.1f} MB "
        f"in {time.perf_counter() - started:.1f} s"
    )


def read_sums(path: Path) -> dict[str, str]:
    """Read the recorded SHA-256 sums of addresses; none if there is no such file.

    Raises:
        ValueError: the file has been damaged, as by a merge.
    """
    if not path.exists():
        return {}
    try:
        sums = json.loads(path.read_text(encoding="utf-8"))
        is_right = all(re.fullmatch("[0-9a-f]{64}", found) for found in sums.values())
    except (ValueError, AttributeError, TypeError):
        is_right = False
    if not is_right:
        raise ValueError(
            f"{path}: is no JSON mapping of addresses to SHA-256 sums; mend it, or have git bring "
            f"it back (git checkout {path})"
        )
    return sums


if __name__ == "__main__":
    run_stage(main)
