"""Images that stand in a dataset more than once, as they are or nearly so."""

from collections.abc import Iterator
from itertools import combinations

import numpy as np
import pandas as pd

from imgpipe.arrays import blocks

NEAR_BITS = 4  # of the 64 of a perceptual hash may differ in what counts as nearly the same
_PAIRS = 50_000  # compared at once
_ROWS = 10_000  # whose pairs are looked up at once
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
        pairs = _likest(hashes[subsets == one], hashes[subsets == other])
        for name, subset in (("row", one), ("other", other)):
            pairs[name] = np.flatnonzero(subsets == subset)[pairs[name]]
        found.append(pairs)
    return pd.concat(found, ignore_index=True)


def _likest(ones: np.ndarray, others: np.ndarray) -> pd.DataFrame:
    """Find for each hash the likest of the others, where one is near: row, other, bits."""
    # Of equal hashes the first is enough: thousands of blank pages would make millions of pairs.
    others, firsts = _distinct(others)
    found = [np.empty((0, 3), np.int64)]
    for shift, width in _BANDS:
        mask = np.uint64((1 << width) - 1)
        keys = [(hashes >> np.uint64(shift) & mask).astype(np.uint16) for hashes in (ones, others)]
        for rows, candidates in _equal_pairs(*keys):
            bits = np.bitwise_count(ones[rows] ^ others[candidates])
            near = bits <= NEAR_BITS
            found.append(_best(rows[near], firsts[candidates[near]], bits[near]))
    return pd.DataFrame(_best(*np.concatenate(found).T), columns=["row", "other", "bits"])


def _equal_pairs(ones: np.ndarray, others: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Give the positions of equal keys, about _PAIRS at a time and all pairs of a row at once."""
    order = np.argsort(others).astype(np.int32)
    others = others[order]
    for block in blocks(len(ones), _ROWS):
        starts = np.searchsorted(others, ones[block], "left")
        counts = np.searchsorted(others, ones[block], "right") - starts
        ends = np.cumsum(counts)
        first = 0
        while first < len(starts):
            before = ends[first - 1] if first else 0
            last = max(first + 1, int(np.searchsorted(ends, before + _PAIRS, "right")))
            some = counts[first:last]
            rows = np.repeat(np.arange(first, last), some)
            steps = np.arange(len(rows)) - np.repeat(np.cumsum(some) - some, some)
            yield block.start + rows, order[np.repeat(starts[first:last], some) + steps]
            first = last


def _distinct(hashes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Give each hash once, and where it is first."""
    order = np.argsort(hashes, kind="stable").astype(np.int32)
    ordered = hashes[order]
    firsts = order[np.append(True, ordered[1:] != ordered[:-1])[: len(order)]]
    del ordered, order  # of a million images, 12 MB
    return hashes[firsts], firsts


def _best(rows: np.ndarray, others: np.ndarray, bits: np.ndarray) -> np.ndarray:
    """Keep of each row the pair of fewest bits, and of those the first: row, other, bits."""
    pairs = np.stack([rows, others, bits], axis=1)[np.lexsort([others, bits, rows])]
    return pairs[np.append(True, pairs[1:, 0] != pairs[:-1, 0])[: len(pairs)]]
