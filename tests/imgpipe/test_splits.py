"""imgpipe.splits: disjoint, complete, stratified, seeded, the same for any file order."""

import numpy as np
import pandas as pd
import pytest
from sklearn.model_selection import train_test_split

from imgpipe.schema import Split
from imgpipe.splits import LEFT_OUT, _draw, find_groups, split_images


def holdout(val_fraction=0.2, test_fraction=None, seed=1):
    return Split(
        method="holdout",
        val_fraction=val_fraction,
        test_fraction=test_fraction,
        folds=None,
        fold=None,
        seed=seed,
    )


def kfold(fold, folds=5, seed=1):
    return Split(
        method="kfold", val_fraction=0.2, test_fraction=None, folds=folds, fold=fold, seed=seed
    )


def make_table(count=1000, part="whole", groups=None):
    """Make images in four classes of unequal size, in `groups` groups a class if given."""
    rng = np.random.default_rng(3)
    labels = rng.choice(4, count, p=[0.5, 0.3, 0.15, 0.05])
    numbers = rng.integers(0, groups or 1, count)
    group = [f"{label}-{n}" if groups else "" for label, n in zip(labels, numbers, strict=True)]
    return pd.DataFrame(
        {
            "id": [f"{i:04d}" for i in range(count)],
            "label": labels,
            "class": [f"class {label}" for label in labels],
            "part": part,
            "group": group,
            "sha256": [rng.bytes(32).hex() for _ in range(count)],
        }
    )


@pytest.fixture
def table():
    table = make_table()
    table["part"] = ["train"] * 800 + ["test"] * 200
    return table


def test_sizes_and_class_ratios(table):
    subsets = split_images(table, holdout())
    assert subsets.value_counts().to_dict() == {"train": 640, "val": 160, "test": 200}
    assert set(table.index[subsets == "test"]) == set(table.index[table["part"] == "test"])
    ratios = pd.crosstab(subsets, table["label"], normalize="index")
    np.testing.assert_allclose(ratios.loc["train"], ratios.loc["val"], atol=0.005)


def test_a_test_part_is_cut_where_there_is_none():
    table = make_table()
    subsets = split_images(table, holdout(val_fraction=0.25, test_fraction=0.2))
    assert subsets.value_counts().to_dict() == {"train": 600, "val": 200, "test": 200}
    ratios = pd.crosstab(subsets, table["label"], normalize="index")
    np.testing.assert_allclose(ratios.loc["train"], ratios.loc["test"], atol=0.005)


def test_published_parts_stay(table):
    table["part"] = ["train"] * 600 + ["val"] * 250 + ["test"] * 150
    assert list(split_images(table, holdout())) == list(table["part"])


@pytest.mark.parametrize("groups", [None, 12])
def test_the_seed_decides(groups):
    table = make_table(groups=groups)
    first = split_images(table, holdout(test_fraction=0.2))
    assert first.equals(split_images(table, holdout(test_fraction=0.2)))
    assert not first.equals(split_images(table, holdout(test_fraction=0.2, seed=2)))


@pytest.mark.parametrize("groups", [None, 12])
@pytest.mark.parametrize("split", [holdout(test_fraction=0.2), kfold(2)])
def test_the_order_of_the_source_and_all_names_do_not_matter(groups, split):
    """The same images in another order, under other names, fall into the same subsets."""
    table = make_table(groups=groups)
    subset_of = dict(zip(table["sha256"], split_images(table, split), strict=True))
    shuffled = table.sample(frac=1, random_state=5).reset_index(drop=True)
    shuffled["id"] = [f"{i:04d}" for i in range(len(shuffled))]
    if groups:
        shuffled["group"] = shuffled["group"].map(lambda name: f"g{hash(name)}")
    again = split_images(shuffled, split)
    assert [subset_of[h] for h in shuffled["sha256"]] == list(again)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("fraction", [0.15, 0.2, 0.4])
def test_no_group_on_two_sides_and_the_share_nearly_met(seed, fraction):
    table = make_table(groups=15)
    subsets = split_images(table, holdout(val_fraction=fraction, test_fraction=fraction, seed=seed))
    assert (subsets.groupby(table["group"]).nunique() == 1).all()
    assert abs((subsets == "test").mean() - fraction) < 0.04
    shares = pd.crosstab(table["label"], subsets, normalize="index")
    assert shares.min().min() > 0


@pytest.mark.parametrize("groups", [None, 15])
def test_each_image_is_in_the_test_part_of_one_fold(groups):
    table = make_table(groups=groups)
    tested = np.zeros(len(table), int)
    for fold in range(5):
        subsets = split_images(table, kfold(fold))
        tested += subsets == "test"
        assert abs((subsets == "test").mean() - 0.2) < 0.05
        if groups:
            assert (subsets.groupby(table["group"]).nunique() == 1).all()
    assert (tested == 1).all()


def test_folds_are_for_val_where_a_test_part_is_published(table):
    validated = np.zeros(len(table), int)
    for fold in range(5):
        subsets = split_images(table, kfold(fold))
        assert list(subsets == "test") == list(table["part"] == "test")
        validated += subsets == "val"
    assert list(validated == 1) == list(table["part"] == "train")


@pytest.mark.parametrize("groups", [None, 60])
@pytest.mark.parametrize("split", [holdout(test_fraction=0.2), kfold(0)])
def test_equal_images_are_on_one_side(groups, split):
    table = make_table(groups=groups)
    rows = np.random.default_rng(0).integers(0, 1000, (12 if groups else 400, 2))
    for one, other in rows:  # and so on: copies of copies
        table.loc[one, "sha256"] = table.loc[other, "sha256"]
    subsets = split_images(table, split)
    assert (subsets.groupby(table["sha256"]).nunique() == 1).all()
    assert set(subsets) == {"train", "val", "test"}


def test_a_training_image_that_is_also_published_for_testing_is_left_out(table):
    table.loc[[3, 4], "sha256"] = table.loc[900, "sha256"]
    subsets = split_images(table, holdout())
    assert list(subsets[[3, 4, 900]]) == [LEFT_OUT, LEFT_OUT, "test"]
    assert (subsets == LEFT_OUT).sum() == 2


def test_too_few_images_of_a_class(table):
    table["class"] = ["lonely"] + ["other"] * 999
    table["label"] = [1] + [0] * 999
    with pytest.raises(ValueError, match=r"the smallest class, lonely, has 1; each of the 2"):
        split_images(table, holdout())
    with pytest.raises(ValueError, match=r"folds=5 is too many for class lonely, which has 1 im"):
        split_images(table, kfold(0))


def test_too_few_groups_of_a_class():
    table = make_table(groups=15)
    rare = table["label"] == 3
    table.loc[rare, "group"] = "all the same"
    with pytest.raises(ValueError, match=r"the smallest class, class 3, has 1;"):
        split_images(table, holdout(test_fraction=0.2))
    table.loc[rare, "group"] = [f"rare {n % 3}" for n in range(rare.sum())]
    with pytest.raises(ValueError, match=r"too many for class class 3, which has 3 groups"):
        split_images(table, kfold(0))
    assert set(split_images(table, kfold(0, folds=3))) == {"train", "val", "test"}


def test_few_groups_are_cut_as_well_as_they_allow():
    table = make_table(60, groups=3)
    table["label"] = np.arange(60) % 2
    table["class"] = [f"class {label}" for label in table["label"]]
    table["group"] = [f"{label}-{n % 6 // 2}" for n, label in enumerate(table["label"])]
    subsets = split_images(table, holdout(test_fraction=0.2))
    assert (subsets.groupby(table["group"]).nunique() == 1).all()
    assert pd.crosstab(subsets, table["label"]).to_numpy().min() == 10


@pytest.mark.parametrize("parts", [["val", "test"], ["train", "test"], ["test"]])
def test_a_class_that_can_only_be_tested(table, parts):
    table["part"] = [parts[n % len(parts)] for n in range(1000)]
    rare = table["label"] == 3
    table.loc[rare, "part"] = "test"
    if "train" not in parts:
        rare[:] = table["label"] == table["label"][0]
    expected = f"class {table['class'][rare].iloc[0]} has {rare.sum()} images, but none for train"
    with pytest.raises(ValueError, match=expected):
        split_images(table, holdout(test_fraction=0.2))


def test_a_class_whose_training_images_are_all_published_for_testing(table):
    rare = table["label"] == 3
    tested = table.index[rare & (table["part"] == "test")]
    table.loc[rare, "sha256"] = table.loc[tested[0], "sha256"]
    with pytest.raises(ValueError, match=f"class 3 has {rare.sum()} images, but none for train"):
        split_images(table, holdout())


def test_a_share_that_leaves_nothing():
    with pytest.raises(ValueError, match=r"test_fraction=0.001 of 1000 images leaves 1 for test"):
        split_images(make_table(), holdout(test_fraction=0.001))


def test_no_share_for_a_part_that_is_missing():
    with pytest.raises(ValueError, match=r"split.test_fraction=null, but the source has no test"):
        split_images(make_table(), holdout())


def test_folds_with_nothing_to_cut(table):
    table["part"] = ["train"] * 600 + ["val"] * 250 + ["test"] * 150
    with pytest.raises(ValueError, match="kfold finds nothing to cut"):
        split_images(table, kfold(0))


def test_groups_come_from_file_names():
    ids = pd.Series(["train/rock/rock05ck01-007.png", "train/rock-2/paper02-1.png"])
    assert list(find_groups(ids, "(.+)-")) == ["rock05ck01", "paper02"]
    assert list(find_groups(ids, None)) == ["", ""]
    with pytest.raises(ValueError, match=r"not found in 1 file names, the first train/rock/rock05"):
        find_groups(ids, "(paper)")


@pytest.mark.parametrize("seed", range(5))
def test_the_draw_is_that_of_scikit_learn(seed):
    uneven = np.random.default_rng(seed).choice([0, 2, 3, 7], 997, p=[0.5, 0.3, 0.15, 0.05])
    for labels in (uneven, np.arange(1000) % 10, np.arange(997) % 7):  # the lot among equal ones
        _, expected = train_test_split(
            np.arange(len(labels)), test_size=155, stratify=labels, random_state=seed
        )
        assert sorted(_draw(labels, 155, seed)) == sorted(expected)


def test_numbers_and_categories_are_cut_as_their_texts_are(table):
    coded = table.astype({"class": "category", "part": "category", "group": "category"})
    for name in ("id", "sha256"):
        coded[name] = np.unique(table[name], return_inverse=True)[1].astype(np.int32)
    for groups in (table["group"], table["id"].str[:3]):
        for split in (holdout(), kfold(2)):
            subsets = split_images(table.assign(group=groups), split)
            again = split_images(coded.assign(group=groups.astype("category")), split)
            assert list(subsets) == list(again)
