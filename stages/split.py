"""split: cut the images into train, val and test. Reads data/raw; writes data/split/.

manifest.csv has one row an image, in the source's order: row number there, id, class, label,
group, subset, SHA-256 sum of the pixels. class_names.json lists the classes in label order.
left_out.csv names the images that are in no subset, with the reason. near_duplicates.csv names the
images that look like one in another subset. metrics/split.json counts all of these.
"""

import functools
from pathlib import Path

import numpy as np
import pandas as pd

from imgpipe.arrays import SUBSETS
from imgpipe.duplicates import count_copies, find_near_copies
from imgpipe.files import write_json, write_table
from imgpipe.fingerprints import fingerprint_rows
from imgpipe.parallel import map_blocks
from imgpipe.params import load_params
from imgpipe.readers import list_raw_images, raw_reader
from imgpipe.splits import LEFT_OUT, find_groups, split_images
from imgpipe.stage import run_stage

RAW = Path("data/raw")
SPLIT = Path("data/split")
METRICS = Path("metrics/split.json")
COLUMNS = ["row", "id", "class", "label", "group", "subset", "sha256"]
CUT_BY = ["id", "label", "class", "part", "group", "sha256"]


def main():
    """Fingerprint every image, draw the subsets, write the tables and their counts."""
    params = load_params()
    table, class_names = list_raw_images(RAW, params.dataset.class_names)
    table = describe_images(table, class_names)
    table["left_out"] = table["error"]
    usable = table["error"] == ""
    if not usable.all() and params.dataset.on_bad_image == "error":
        raise ValueError(word_bad_images(table["error"][~usable]))
    table["group"] = find_groups(table["id"][usable], params.dataset.group_pattern)
    table["subset"] = split_images(table.loc[usable, CUT_BY], params.dataset.split)
    table.loc[table["subset"] == LEFT_OUT, "left_out"] = "equals a published val or test image"
    used = table.loc[table["left_out"] == "", [*COLUMNS, "perceptual_hash"]].reset_index(drop=True)
    near = find_near_duplicates(used)
    counts = count_images(table, used, near)
    write_table(used[COLUMNS], SPLIT / "manifest.csv")
    write_table(table.loc[table["left_out"] != "", ["id", "left_out"]], SPLIT / "left_out.csv")
    write_table(near, SPLIT / "near_duplicates.csv")
    write_json(class_names, SPLIT / "class_names.json")
    write_json(counts, METRICS)
    print("split: " + word_counts(counts))


def describe_images(table: pd.DataFrame, class_names: list[str]) -> pd.DataFrame:
    """Add row numbers, class names and fingerprints to the table of the raw images."""
    rows = np.arange(len(table))
    fingerprint = functools.partial(fingerprint_rows, raw_reader(RAW))
    fingerprints = pd.concat(map_blocks(fingerprint, rows, "fingerprints"), ignore_index=True)
    names = np.array(class_names, dtype=object)
    return table.assign(row=rows, **{"class": names[table["label"]]}).join(fingerprints)


def word_bad_images(errors: pd.Series) -> str:
    """Word an error about images that cannot be decoded."""
    others = f" (and {len(errors) - 1} other files)" if len(errors) > 1 else ""
    return (
        f"{errors.iloc[0]}{others}; remove or replace it, or set on_bad_image: skip in the "
        "dataset's block of params.yaml to leave such files out"
    )


def find_near_duplicates(used: pd.DataFrame) -> pd.DataFrame:
    """List the images that look like one in another subset, with that one beside them."""
    pairs = find_near_copies(used["perceptual_hash"].to_numpy(), used["subset"].to_numpy())
    columns = ["id", "class", "subset"]
    ones = used.loc[pairs["row"], columns].reset_index(drop=True)
    others = used.loc[pairs["other"], columns].reset_index(drop=True).add_prefix("other_")
    return ones.join(others).assign(bits=pairs["bits"])


def count_images(table: pd.DataFrame, used: pd.DataFrame, near: pd.DataFrame) -> dict:
    """Count images by subset, what was left out, and duplicates: the split's metrics."""
    near_counts = near.groupby(["subset", "other_subset"]).size()
    pairs = [("val", "train"), ("test", "train"), ("test", "val")]
    grouped = used[used["group"] != ""]
    return {
        **{subset: int((used["subset"] == subset).sum()) for subset in SUBSETS},
        "bad_images": int((table["error"] != "").sum()),
        "groups": int(grouped["group"].nunique()),
        "groups_across": int((grouped.groupby("group")["subset"].nunique() > 1).sum()),
        "exact_duplicates": count_copies(table[table["error"] == ""]),
        "near_duplicates": {
            f"{one}_like_{other}": int(near_counts.get((one, other), 0)) for one, other in pairs
        },
    }


def word_counts(counts: dict) -> str:
    """Say in one line what a person wants to know of the split."""
    words = ", ".join(f"{counts[subset]:,} {subset}" for subset in SUBSETS)
    exact, near = counts["exact_duplicates"], counts["near_duplicates"]
    words += f"; {exact['within'] + exact['across']:,} exact duplicates"
    words += f", {sum(near.values()):,} look-alikes across subsets"
    if counts["bad_images"]:
        words += f"; {counts['bad_images']:,} bad images left out"
    return words


if __name__ == "__main__":
    run_stage(main)
