"""Images that stand in a dataset more than once, as they are or nearly so."""

from itertools import combinations

import numpy as np
import pandas as pd

NEAR_BITS = 4  # of the 64 of a perceptual hash may differ in what counts as nearly the same
_CHUNK = 50_000  # pairs compared at once
# Hashes that differ in four bits agree wholly in one of five bands.
_BANDS = tuple((shift, min(13, 64 - shift)) for shift in range(0, 64, 13))


def count_copies(table: pd.DataFrame) -> dict[str, int]:
    """Count the images that are pixel by pixel equal to one before them.

    Args:
        table: columns sha256, class, subset.

    Returns:
        within: copies of an image in the same subset; across: images that stand in more than one
        subset; conflicting: images that stand in more than one class.
    """
    sums = np.sort(table["sha256"].to_numpy())
    repeated = table[table["sha256"].isin(sums[1:][sums[1:] == sums[:-1]])]  # few, as a rule
    by_content = repeated.groupby("sha256")
    return {
        "within": int(repeated.duplicated(["sha256", "subset"]).sum()),
        "across": int((by_content["subset"].nunique() > 1).sum()),
        "conflicting": int((by_content["class"].nunique() > 1).sum()),
    }


def find_near_copies(hashes: np.ndarray, subsets: np.ndarray) -> pd.DataFrame:
    """Find images that look like one in another subset.

    Args:
        hashes: uint64 (n,), perceptual hashes.
        subsets: str or categories (n,): "train", "val" or "test".

    Returns:
        One row for each val image with its like in train, and each test image with its like in
        train or in val: row, other (positions), bits (in which the hashes differ, 0 to NEAR_BITS);
        of several the likest, and of those the first.
    """
    found = []
    for other, one in combinations(("train", "val", "test"), 2):
        rows, others = np.flatnonzero(subsets == one), np.flatnonzero(subsets == other)
        pairs = _near_pairs(hashes[rows], hashes[others])
        pairs["row"], pairs["other"] = rows[pairs["row"]], others[pairs["other"]]
        found.append(pairs.sort_values(["row", "bits", "other"]).drop_duplicates("row"))
    return pd.concat(found, ignore_index=True)


def _near_pairs(one: np.ndarray, other: np.ndarray) -> pd.DataFrame:
    """Find the pairs whose hashes differ in at most NEAR_BITS bits."""
    found = [pd.DataFrame({"row": [], "other": [], "bits": []}, dtype=int)]
    for shift, width in _BANDS:
        mask = np.uint16((1 << width) - 1)
        keys, other_keys = ((h >> np.uint64(shift)).astype(np.uint16) & mask for h in (one, other))
        order = np.argsort(other_keys, kind="stable")
        other_keys = other_keys[order]
        starts = np.searchsorted(other_keys, keys, "left")
        counts = np.searchsorted(other_keys, keys, "right") - starts
        ends = np.cumsum(counts)
        first = 0
        while first < len(one):
            # As many rows as have _CHUNK candidates in all, at least one.
            before = ends[first - 1] if first else 0
            last = max(first + 1, int(np.searchsorted(ends, before + _CHUNK, "right")))
            some = counts[first:last]
            rows = np.repeat(np.arange(first, last), some)
            steps = np.arange(len(rows)) - np.repeat(np.cumsum(some) - some, some)
            others = order[np.repeat(starts[first:last], some) + steps]
            bits = np.bitwise_count(one[rows] ^ other[others])
            near = bits <= NEAR_BITS
            found.append(
                pd.DataFrame({"row": rows[near], "other": others[near], "bits": bits[near]})
            )
            first = last
    return pd.concat(found, ignore_index=True)
