"""preprocess: bring every image to one size. Reads data/raw and the manifest; writes data/arrays/.

{train,val,test}_images.npy are uint8 (n, height, width, channels) and {…}_labels.npy int64 (n,),
both in the manifest's order.
"""

import functools
from math import prod
from pathlib import Path

import numpy as np
import pandas as pd

from imgpipe.arrays import BLOCK_IMAGES, SUBSETS, TABLE_ROWS, write_array
from imgpipe.images import fit_images
from imgpipe.parallel import map_blocks
from imgpipe.params import load_params
from imgpipe.readers import raw_reader
from imgpipe.stage import run_stage

RAW = Path("data/raw")
MANIFEST = Path("data/split/manifest.csv")
ARRAYS = Path("data/arrays")
# The other columns, of texts, would be most of this stage's memory.
COLUMNS = {"row": np.int32, "label": np.int32, "subset": pd.CategoricalDtype(SUBSETS)}
BLOCK_BYTES = 1 << 20  # of images that pass from one process to another at once


def main():
    """Write images and labels of each subset, block by block."""
    dataset = load_params().dataset
    manifest = read_manifest()
    image_shape = (*dataset.image_size, dataset.channels)
    size = min(BLOCK_IMAGES, max(1, BLOCK_BYTES // prod(image_shape)))
    load = functools.partial(load_rows, raw_reader(RAW), dataset.image_size, dataset.channels)
    for subset in manifest["subset"].unique():
        chosen = manifest["subset"] == subset
        rows, labels = (manifest[name].to_numpy()[chosen] for name in ("row", "label"))
        images = map_blocks(load, rows, subset, size)
        write_array(ARRAYS / f"{subset}_images.npy", (len(rows), *image_shape), np.uint8, images)
        write_array(ARRAYS / f"{subset}_labels.npy", labels.shape, np.int64, [labels])
    print(f"preprocess: {len(manifest):,} images of {'×'.join(map(str, image_shape))}")


def read_manifest() -> pd.DataFrame:
    """Read what is needed of the manifest; in one go, it would be in memory three times."""
    blocks = pd.read_csv(MANIFEST, usecols=list(COLUMNS), dtype=COLUMNS, chunksize=TABLE_ROWS)
    return pd.concat(blocks)


def load_rows(read, image_size: list[int], channels: int, rows: np.ndarray) -> np.ndarray:
    """Read some of a dataset's images and give them one size."""
    return fit_images(read(rows, image_size), image_size=image_size, channels=channels)


if __name__ == "__main__":
    run_stage(main)
