"""split: cut the images into train, val and test. Reads data/raw; writes data/split/.

manifest.csv has one row an image, in the source's order: row number there, id, class, label,
group, subset, SHA-256 sum of the pixels. class_names.json lists the classes in label order.
left_out.csv names the images that are in no subset, with the reason. near_duplicates.csv names the
images that look like one in another subset. metrics/split.json counts all of these.
"""

import functools
import itertools
from pathlib import Path

import numpy as np
import pandas as pd

from imgpipe.arrays import SUBSETS, blocks
from imgpipe.database import temporary_database
from imgpipe.duplicates import count_copies, find_near_copies
from imgpipe.files import replacing, write_json, write_table
from imgpipe.fingerprints import fingerprint_rows
from imgpipe.image_texts import ImageTexts
from imgpipe.parallel import map_blocks
from imgpipe.params import load_params
from imgpipe.readers import list_raw_images, raw_reader, read_ids
from imgpipe.splits import LEFT_OUT, find_groups, split_images
from imgpipe.stage import run_stage

RAW = Path("data/raw")
SPLIT = Path("data/split")
METRICS = Path("metrics/split.json")
COLUMNS = ["row", "id", "class", "label", "group", "subset", "sha256"]
TABLE_ROWS = 1 << 14  # that are written at once


def main():
    """Fingerprint every image, draw the subsets, write the tables and their counts."""
    params = load_params()
    table, class_names = list_raw_images(RAW, params.dataset.class_names)
    with temporary_database() as database:
        texts = ImageTexts(database)
        usable = describe_images(table, class_names, texts)
        bad = np.flatnonzero(~usable)
        if len(bad):
            if params.dataset.on_bad_image == "error":
                raise ValueError(word_bad_images(texts.read(bad)["error"]))
            table = table[usable]
        ids = (name for (name,) in itertools.compress(texts.stream("id"), usable))
        table["group"] = find_groups(ids, params.dataset.group_pattern)
        table["subset"] = split_images(table, params.dataset.split)
        copies = table.index[table["subset"] == LEFT_OUT]
        used = table.drop(copies) if len(copies) else table
        near = find_near_duplicates(used, texts)
        counts = count_images(table, used, near, len(bad))
        write_manifest(used, texts)
        write_left_out(np.sort(np.append(bad, copies)), texts)
    write_table(near, SPLIT / "near_duplicates.csv")
    write_json(class_names, SPLIT / "class_names.json")
    write_json(counts, METRICS)
    print("split: " + word_counts(counts))


def describe_images(table: pd.DataFrame, class_names: list[str], texts: ImageTexts) -> np.ndarray:
    """Add what is known of the raw images to their table, as numbers and categories.

    Ids and SHA-256 sums are numbered in their order; they themselves go to `texts`.

    Returns:
        bool (n,): which images can be decoded.
    """
    fingerprint = functools.partial(fingerprint_rows, raw_reader(RAW))
    rows = np.arange(len(table), dtype=np.int32)
    hashes, usable = np.empty(len(table), np.uint64), np.empty(len(table), bool)
    ids, done = read_ids(RAW), 0
    for found in map_blocks(fingerprint, rows, "fingerprints"):
        block = slice(done, done := done + len(found))
        hashes[block], usable[block] = found["perceptual_hash"], found["error"] == ""
        texts.add(zip(found["sha256"], found["error"], ids, strict=False))
    table["class"] = pd.Categorical.from_codes(table["label"], class_names)
    table["perceptual_hash"] = hashes
    for name in ("id", "sha256"):
        table[name] = texts.number(name)
    return usable


def word_bad_images(errors: pd.Series) -> str:
    """Word an error about images that cannot be decoded."""
    others = f" (and {len(errors) - 1} other files)" if len(errors) > 1 else ""
    return (
        f"{errors.iloc[0]}{others}; remove or replace it, or set on_bad_image: skip in the "
        "dataset's block of params.yaml to leave such files out"
    )


def find_near_duplicates(used: pd.DataFrame, texts: ImageTexts) -> pd.DataFrame:
    """List the images that look like one in another subset, with that one beside them."""
    pairs = find_near_copies(used["perceptual_hash"].to_numpy(), used["subset"].array)

    def describe(positions: pd.Series) -> pd.DataFrame:
        found = used.iloc[positions][["class", "subset"]]
        found.insert(0, "id", texts.read(found.index)["id"])
        return found.reset_index(drop=True)

    ones, others = describe(pairs["row"]), describe(pairs["other"]).add_prefix("other_")
    return ones.join(others).assign(bits=pairs["bits"])


def count_images(
    table: pd.DataFrame, used: pd.DataFrame, near: pd.DataFrame, bad_count: int
) -> dict:
    """Count images by subset, what was left out, and duplicates: the split's metrics."""
    near_counts = near.groupby(["subset", "other_subset"]).size()
    pairs = [("val", "train"), ("test", "train"), ("test", "val")]
    grouped = used.loc[used["group"] != "", ["group", "subset"]]
    return {
        **{subset: int((used["subset"] == subset).sum()) for subset in SUBSETS},
        "bad_images": bad_count,
        "groups": int(grouped["group"].nunique()),
        "groups_across": int((grouped.groupby("group")["subset"].nunique() > 1).sum()),
        "exact_duplicates": count_copies(table),
        "near_duplicates": {
            f"{one}_like_{other}": int(near_counts.get((one, other), 0)) for one, other in pairs
        },
    }


def write_manifest(used: pd.DataFrame, texts: ImageTexts) -> None:
    """Write the manifest, block by block."""
    path = SPLIT / "manifest.csv"
    chosen = np.zeros(len(texts), bool)
    chosen[used.index] = True
    lines = itertools.compress(texts.stream("id", "sha256"), chosen)
    with replacing(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        for block in blocks(len(used), TABLE_ROWS):
            some = used.iloc[block]
            ids, sums = zip(*itertools.islice(lines, len(some)), strict=True)
            some = some.assign(row=some.index, id=ids, sha256=sums)[COLUMNS]
            some.to_csv(file, header=block.start == 0, index=False, lineterminator="\n")


def write_left_out(rows: np.ndarray, texts: ImageTexts) -> None:
    """Write the list of what is in no subset, with the reason."""
    found = texts.read(rows).rename(columns={"error": "left_out"})
    found.loc[found["left_out"] == "", "left_out"] = "equals a published val or test image"
    write_table(found[["id", "left_out"]], SPLIT / "left_out.csv")


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
