"""split: cut the images into train, val and test. Reads data/raw; writes the manifest.

data/split/manifest.csv has one row an image, in the source's order: row number there, id, class,
label, subset, SHA-256 sum of the pixels.
"""

from pathlib import Path

from imgpipe.arrays import SUBSETS
from imgpipe.files import replacing
from imgpipe.params import load_params
from imgpipe.readers import open_raw_images
from imgpipe.splits import hash_images, split_holdout
from imgpipe.stage import run_main

RAW = Path("data/raw")
MANIFEST = Path("data/split/manifest.csv")


def main():
    """Hash every image, draw the subsets, write the manifest."""
    params = load_params()
    class_names = params.dataset.class_names
    raw = open_raw_images(RAW, params.dataset.format, len(class_names))
    table = raw.table.assign(sha256=hash_images(raw.read, len(raw.table)))
    table["subset"] = split_holdout(
        table, val_fraction=params.dataset.split.val_fraction, seed=params.seed
    )
    table["class"] = [class_names[label] for label in table["label"]]
    with replacing(MANIFEST) as path:
        columns = ["id", "class", "label", "subset", "sha256"]
        table.to_csv(path, columns=columns, index_label="row", lineterminator="\n")
    counts = table["subset"].value_counts()
    print("split: " + ", ".join(f"{counts.get(s, 0):,} {s}" for s in SUBSETS))


if __name__ == "__main__":
    run_main(main)
