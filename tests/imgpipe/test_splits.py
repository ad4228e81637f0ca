"""imgpipe.splits: disjoint, complete, stratified, seeded, the same for any file order."""

import numpy as np
import pandas as pd
import pytest

from imgpipe.splits import hash_images, split_holdout
from tiny import make_images


@pytest.fixture
def table():
    rng = np.random.default_rng(3)
    count = 1000
    return pd.DataFrame(
        {
            "id": [f"{i:04d}" for i in range(count)],
            "label": rng.choice(4, count, p=[0.5, 0.3, 0.15, 0.05]),
            "part": ["train"] * 800 + ["test"] * 200,
            "sha256": [rng.bytes(32).hex() for _ in range(count)],
        }
    )


def test_sizes_and_class_ratios(table):
    subsets = split_holdout(table, val_fraction=0.2, seed=1)
    assert subsets.value_counts().to_dict() == {"train": 640, "val": 160, "test": 200}
    assert set(table.index[subsets == "test"]) == set(table.index[table["part"] == "test"])
    ratios = pd.crosstab(subsets, table["label"], normalize="index")
    np.testing.assert_allclose(ratios.loc["train"], ratios.loc["val"], atol=0.005)


def test_the_seed_decides(table):
    first = split_holdout(table, val_fraction=0.2, seed=1)
    assert first.equals(split_holdout(table, val_fraction=0.2, seed=1))
    assert not first.equals(split_holdout(table, val_fraction=0.2, seed=2))


def test_the_order_of_the_source_does_not_matter(table):
    """The same images in another order, and so under other ids, fall into the same subsets."""
    subset_of = dict(
        zip(table["sha256"], split_holdout(table, val_fraction=0.2, seed=1), strict=True)
    )
    shuffled = table.sample(frac=1, random_state=5).reset_index(drop=True)
    shuffled["id"] = [f"{i:04d}" for i in range(len(shuffled))]
    again = split_holdout(shuffled, val_fraction=0.2, seed=1)
    assert [subset_of[h] for h in shuffled["sha256"]] == list(again)


def test_too_few_images_of_a_class(table):
    table["label"] = [3] + [0] * 999
    with pytest.raises(ValueError, match=r"the smallest class has 1; each of the 2 classes"):
        split_holdout(table, val_fraction=0.2, seed=1)


def test_hashes_tell_images_apart():
    images = make_images(300)[0]
    images[7] = images[3]
    sums = hash_images(lambda rows: images[rows], 300)
    assert sums[7] == sums[3]
    assert len(set(sums)) == 299
