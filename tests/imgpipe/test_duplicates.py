"""imgpipe.duplicates: counts by hand, and every near pair that comparing all with all finds."""

import tracemalloc

import numpy as np
import pandas as pd

from imgpipe.duplicates import NEAR_BITS, count_copies, find_near_copies


def test_copies_are_counted_once_each():
    table = pd.DataFrame(
        {
            "sha256": ["a", "a", "a", "b", "b", "c", "c", "d"],
            "subset": ["train", "train", "train", "train", "test", "val", "val", "test"],
            "class": ["x", "x", "x", "x", "x", "x", "y", "x"],
        }
    )
    assert count_copies(table) == {"within": 3, "across": 1, "conflicting": 1}


def test_all_near_copies_are_found_and_no_others():
    rng = np.random.default_rng(0)
    hashes = rng.integers(0, 2**64, 600, dtype=np.uint64)
    subsets = rng.choice(["train", "val", "test"], 600, p=[0.6, 0.2, 0.2])
    for bits in range(8):  # copies that differ in 0 to 7 bits, anywhere
        for row in rng.integers(0, 600, 15):
            flips = rng.permutation(64)[:bits]
            hashes[rng.integers(0, 600)] = hashes[row] ^ np.uint64(sum(1 << int(f) for f in flips))
    found = find_near_copies(hashes, subsets)
    distance = np.bitwise_count(hashes[:, None] ^ hashes)
    expected = set()
    for one, other in (("val", "train"), ("test", "train"), ("test", "val")):
        for row in np.flatnonzero(subsets == one):
            others = np.flatnonzero(subsets == other)
            best = others[distance[row, others].argmin()]
            if distance[row, best] <= NEAR_BITS:
                expected.add((row, best, int(distance[row, best])))
    assert len(expected) > 20
    assert set(found.itertuples(index=False, name=None)) == expected


def test_no_images_in_a_subset():
    hashes = np.array([1, 1], np.uint64)
    assert len(find_near_copies(hashes, np.array(["train", "test"]))) == 1
    assert len(find_near_copies(hashes, np.array(["train", "train"]))) == 0


def test_thousands_of_equal_pictures_are_not_compared_pair_by_pair():
    """As the blank pages of a scanner: 400 million pairs."""
    hashes = np.zeros(40_000, np.uint64)
    subsets = np.array(["train", "test"]).repeat(20_000)
    tracemalloc.start()
    found = find_near_copies(hashes, subsets)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert list(found["row"]) == list(range(20_000, 40_000))
    assert (found["other"] == 0).all()
    assert peak < 20e6
