"""split: cut the images into train, val and test. Reads data/raw; writes data/split/.

manifest.csv has one row an image, in the source's order: row number there, id, class, label,
group, subset, SHA-256 sum of the pixels. class_names.json lists the classes in label order.
left_out.csv names the images that are in no subset, with the reason. near_duplicates.csv names the
images that look like one in another subset. metrics/split.json counts all of these.
"""

import functools
import itertools
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd

from imgpipe.arrays import SUBSETS, TABLE_ROWS, blocks
from imgpipe.database import temporary_database
from imgpipe.duplicates import count_copies, find_near_copies
from imgpipe.files import write_json, write_long_table, write_table
from imgpipe.fingerprints import fingerprint_rows
from imgpipe.image_facts import ImageFacts
from imgpipe.parallel import map_blocks
from imgpipe.params import load_params
from imgpipe.readers import list_raw_images, raw_reader, read_ids
from imgpipe.splits import LEFT_OUT, find_groups, split_images
from imgpipe.stage import run_stage

RAW = Path("data/raw")
SPLIT = Path("data/split")
METRICS = Path("metrics/split.json")
COLUMNS = ["row", "id", "class", "label", "group", "subset", "sha256"]


def main():
    """Fingerprint every image, draw the subsets, write the tables and their counts."""
    params = load_params()
    table, class_names = list_raw_images(RAW, params.dataset.class_names)
    table["class"] = pd.Categorical.from_codes(table.pop("label"), class_names)
    with temporary_database() as database:
        facts = ImageFacts(database)
        usable = describe_images(len(table), facts)
        bad = np.flatnonzero(~usable)
        if len(bad):
            if params.dataset.on_bad_image == "error":
                raise ValueError(word_bad_images(facts.read(bad)["error"]))
            table = table[usable]
        ids = (name for (name,) in itertools.compress(facts.stream("id"), usable))
        table["group"] = find_groups(ids, params.dataset.group_pattern)
        table["sha256"] = facts.number("sha256")[usable]
        table["subset"] = split_images(
            table.assign(id=facts.number("id")[usable]), params.dataset.split
        )
        copies = table.index[table["subset"] == LEFT_OUT]
        exact = count_copies(table)
        table = table.drop(columns="sha256", index=copies)
        near = find_near_duplicates(table, facts)
        write_long_table(make_manifest(table, facts), SPLIT / "manifest.csv")
        write_left_out(np.sort(np.append(bad, copies)), facts)
    write_table(near, SPLIT / "near_duplicates.csv")
    write_json(class_names, SPLIT / "class_names.json")
    counts = count_images(table, exact, near, len(bad))
    write_json(counts, METRICS)
    print("split: " + word_counts(counts))


def describe_images(count: int, facts: ImageFacts) -> np.ndarray:
    """Look at every image; what is found goes to `facts`.

    Returns:
        bool (n,): which images can be decoded.
    """
    fingerprint = functools.partial(fingerprint_rows, raw_reader(RAW))
    usable, ids, done = np.empty(count, bool), read_ids(RAW), 0
    for found in map_blocks(fingerprint, np.arange(count, dtype=np.int32), "fingerprints"):
        usable[done : done + len(found)] = found["error"] == ""
        facts.add(ids, found["sha256"], found["error"], found["perceptual_hash"].to_numpy())
        done += len(found)
    return usable


def word_bad_images(errors: pd.Series) -> str:
    """Word an error about images that cannot be decoded."""
    others = f" (and {len(errors) - 1} other files)" if len(errors) > 1 else ""
    return (
        f"{errors.iloc[0]}{others}; remove or replace it, or set on_bad_image: skip in the "
        "dataset's block of params.yaml to leave such files out"
    )


def find_near_duplicates(table: pd.DataFrame, facts: ImageFacts) -> pd.DataFrame:
    """List the images that look like one in another subset, with that one beside them."""
    hashes = facts.read_hashes()
    if len(table) < len(hashes):
        hashes = hashes[table.index]
    pairs = find_near_copies(hashes, table["subset"].array)

    def describe(positions: pd.Series) -> pd.DataFrame:
        found = table.iloc[positions][["class", "subset"]]
        found.insert(0, "id", facts.read(found.index)["id"])
        return found.reset_index(drop=True)

    ones, others = describe(pairs["row"]), describe(pairs["other"]).add_prefix("other_")
    return ones.join(others).assign(bits=pairs["bits"])


def make_manifest(table: pd.DataFrame, facts: ImageFacts) -> Iterator[pd.DataFrame]:
    """Give the manifest block by block: it would be most of this stage's memory."""
    lines = facts.stream("id", "sha256")
    if len(table) < len(facts):
        lines = itertools.compress(lines, np.isin(np.arange(len(facts)), table.index))
    for block in blocks(len(table), TABLE_ROWS):
        some = table.iloc[block]
        ids, sums = zip(*itertools.islice(lines, len(some)), strict=True)
        labels = some["class"].cat.codes
        yield some.assign(row=some.index, id=ids, label=labels, sha256=sums)[COLUMNS]


def count_images(
    table: pd.DataFrame, exact: dict[str, int], near: pd.DataFrame, bad_count: int
) -> dict:
    """Count images by subset, what was left out, and duplicates: the split's metrics."""
    near_counts = near.groupby(["subset", "other_subset"]).size()
    pairs = [("val", "train"), ("test", "train"), ("test", "val")]
    grouped = table.loc[table["group"] != "", ["group", "subset"]]
    return {
        **{subset: int((table["subset"] == subset).sum()) for subset in SUBSETS},
        "bad_images": bad_count,
        "groups": int(grouped["group"].nunique()),
        "groups_across": int((grouped.groupby("group")["subset"].nunique() > 1).sum()),
        "exact_duplicates": exact,
        "near_duplicates": {
            f"{one}_like_{other}": int(near_counts.get((one, other), 0)) for one, other in pairs
        },
    }


def write_left_out(rows: np.ndarray, facts: ImageFacts) -> None:
    """Write the list of what is in no subset, with the reason."""
    found = facts.read(rows).rename(columns={"error": "left_out"})
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
