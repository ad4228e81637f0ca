"""fetch: get the dataset's files. Reads the sources named in params.yaml; writes data/raw/.

data/raw holds IDX files (arrays of pixels) or images.zip (image files as <part>/<class>/<file>,
uncompressed). The same images give the same bytes, whichever source they came from.
"""

import tempfile
import time
from pathlib import Path

from imgpipe.files import replacing
from imgpipe.params import load_params
from imgpipe.sources import fetch_dataset
from imgpipe.stage import run_main

RAW = Path("data/raw")


def main():
    """Fill data/raw from the user's own data or the first public source that answers."""
    started = time.perf_counter()
    params = load_params()
    with (
        replacing(RAW) as folder,
        tempfile.TemporaryDirectory(dir=RAW.parent, prefix=".fetch.") as scratch,
    ):
        folder.mkdir()
        found = fetch_dataset(params.dataset, folder, Path(scratch))
        size = sum(file.stat().st_size for file in folder.iterdir())
    print(
        f"fetch: {params.dataset_name}, {found}, {size / 1e6:.1f} MB "
        f"in {time.perf_counter() - started:.1f} s"
    )


if __name__ == "__main__":
    run_main(main)
