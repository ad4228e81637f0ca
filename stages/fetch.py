"""fetch: get the dataset's files. Reads the sources named in params.yaml; writes data/raw/.

Whatever the source, the files in data/raw are uncompressed and have the SHA-256 sums pinned in
the dataset's block, so every source gives the same bytes.
"""

import time
from pathlib import Path

from imgpipe.downloads import fetch_files
from imgpipe.files import replacing
from imgpipe.params import load_params
from imgpipe.stage import run_main

RAW = Path("data/raw")


def main():
    """Fill data/raw from the first source that answers."""
    started = time.perf_counter()
    params = load_params()
    dataset = params.dataset
    own = [dataset.source] if dataset.source else []
    with replacing(RAW) as folder:
        folder.mkdir()
        source = fetch_files([*own, *dataset.public_sources], dataset.files, folder)
        size = sum(file.stat().st_size for file in folder.iterdir())
    print(
        f"fetch: {params.dataset_name}, {len(dataset.files)} files, {size / 1e6:.1f} MB from "
        f"{source} in {time.perf_counter() - started:.1f} s"
    )


if __name__ == "__main__":
    run_main(main)
