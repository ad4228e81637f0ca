"""Cutting a dataset into train, val and test, so that nothing stands on two sides."""

import re
from array import array
from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import pandas as pd

from imgpipe.schema import Split

LEFT_OUT = ""  # the subset of a training image that is also a published val or test image
_SUBSETS = pd.CategoricalDtype(["train", "val", "test", LEFT_OUT])
_MOST_FOLDS = 10  # into which groups are cut to hold out a share of them


def find_groups(ids: Iterable[str], pattern: str | None) -> pd.Categorical:
    """Tell the group of each image from its file name.

    Args:
        ids: paths of the images.
        pattern: regular expression; its one group, searched for in the file name, is the image's
            group. None: no groups.

    Returns:
        Of str, in the order of `ids`; "" without a pattern.

    Raises:
        ValueError: the pattern is not found in a file name.
    """
    search = re.compile("()" if pattern is None else pattern).search
    numbers, codes, missing = {}, array("i"), []
    for name in ids:
        found = search(name.rpartition("/")[2])
        if found is None or found[1] is None:
            missing.append(name)
        else:
            codes.append(numbers.setdefault(found[1], len(numbers)))
    if missing:
        raise ValueError(
            f"params.yaml: group_pattern={pattern} is not found in {len(missing)} file names, the "
            f"first {missing[0]}; change the pattern, or set it to null to do without groups"
        )
    return pd.Categorical.from_codes(np.array(codes), list(numbers))


def split_images(table: pd.DataFrame, split: Split) -> pd.Series:
    """Cut a dataset into train, val and test.

    The parts that the publisher cut stay as they are, but for training images whose very copy is
    a published val or test image: those are left out. What is missing is cut from the rest:
    stratified by class, with equal images and the images of one group on one side. With
    `method: kfold`, fold number `fold` becomes test or, where there is a test part, val.

    Rows are put into the order of their content before any draw: the same images give the same
    subsets whatever order the source lists them in, and whatever they are called.

    Args:
        table: columns id, class, part ("train", "val", "test" or "whole"), group ("" for none),
            sha256. Of a million images, texts had better be categories, and ids and sums numbers
            in the same order.
        split: the dataset's `split` block.

    Returns:
        The subset of each row, a category: "train", "val", "test" or LEFT_OUT, on the table's
        index.

    Raises:
        ValueError: a class has too few images or groups to stand on each side, or none to train
            on.
    """
    codes = np.zeros(len(table), np.int8)
    subsets = pd.Series(
        pd.Categorical.from_codes(codes, dtype=_SUBSETS), table.index, name="subset"
    )
    for part in ("val", "test"):
        subsets[table["part"] == part] = part
    for kept in ("test", "val"):
        copies = table["sha256"].isin(table.loc[subsets == kept, "sha256"])
        subsets[copies & subsets.isin(["train", "val"]) & (subsets != kept)] = LEFT_OUT
    classes = pd.Categorical(table["class"])
    _require_training_images(classes, subsets == "train")
    missing = [subset for subset in ("test", "val") if not (table["part"] == subset).any()]
    folded = missing[0] if missing and split.method == "kfold" else None
    if split.method == "kfold" and not missing:
        raise ValueError(
            "params.yaml: split.method=kfold finds nothing to cut, as the source has a val and a "
            "test part; set it to holdout"
        )
    for subset in missing:
        chosen = _choose(table, classes, subsets == "train", split, subset, subset == folded)
        subsets.iloc[chosen] = subset
    codes = subsets.cat.codes
    used = _SUBSETS.categories[: codes.max() + 1]  # LEFT_OUT, the last, only where there is one
    return pd.Series(pd.Categorical.from_codes(codes, used), table.index, name="subset")


@dataclass
class _Pool:
    """Images to choose from, in the order of their content.

    units numbers what must stay together, in the order of its first image; unit says what that is.
    """

    labels: np.ndarray
    class_names: list[str]
    units: np.ndarray
    unit: str  # "images" or "groups"


def _choose(
    table: pd.DataFrame,
    classes: pd.Categorical,
    from_where: pd.Series,
    split: Split,
    subset: str,
    as_fold: bool,
) -> np.ndarray:
    """Choose positions of images for a subset, from where it says True."""
    order = np.lexsort([table["id"], classes.codes, table["sha256"]])
    order = order[from_where.to_numpy()[order]]
    units, unit = _number_units(table["sha256"].array[order], table["group"].array[order])
    pool = _Pool(classes.codes[order], list(classes.categories), units, unit)
    order = order.astype(np.int32)
    held_out = _take_fold(pool, split) if as_fold else _hold_out(pool, split, subset)
    _require_all_classes(pool, held_out, subset)
    return order[held_out]


def _number_units(sums, groups) -> tuple[np.ndarray, str]:
    """Number what must stay together: images of one group, equal images, and so on from there.

    Args:
        sums: SHA-256 sums (n,), sorted.
        groups: of the same images, "" for none.

    Returns:
        Integers (n,), from 0, in the order of their first images; and what they are.
    """
    new = np.append(False, np.asarray(sums[1:] != sums[:-1]))
    del sums  # of a million images, 4 MB
    copies = np.cumsum(new, dtype=np.int32)
    if (groups == "").all():
        return copies, "images"
    from scipy.sparse import coo_array  # a third of a second, which others save
    from scipy.sparse.csgraph import connected_components

    groups = pd.factorize(groups)[0]
    # A graph: each image links its content with its group.
    size = copies.max() + groups.max() + 2
    links = (np.ones(len(groups)), (copies, copies.max() + 1 + groups))
    components = connected_components(coo_array(links, shape=(size, size)), directed=False)[1]
    return pd.factorize(components[copies])[0], "groups"


def _label_units(pool: _Pool) -> np.ndarray:
    """Give the label of each unit's first image."""
    so_far = np.maximum.accumulate(pool.units)
    return pool.labels[np.append(True, so_far[1:] > so_far[:-1])]


def _mark(chosen: np.ndarray, pool: _Pool) -> np.ndarray:
    """Tell which images are of the chosen units."""
    marks = np.zeros(len(pool.units), bool)  # as many units as images, at most
    marks[chosen] = True
    return marks[pool.units]


def _hold_out(pool: _Pool, split: Split, subset: str) -> np.ndarray:
    """Choose a share of the images; True where one is held out."""
    fraction = getattr(split, f"{subset}_fraction")
    if fraction is None:
        raise ValueError(
            f"params.yaml: split.{subset}_fraction=null, but the source has no {subset} part; set "
            "the share to cut off for it"
        )
    smallest, name = _smallest_class(pool)
    labels = _label_units(pool)
    count = round(len(labels) * fraction)
    in_groups = pool.unit == "groups"
    classes = len(np.unique(pool.labels))
    if smallest < 2 or (not in_groups and min(count, len(labels) - count) < classes):
        raise ValueError(
            f"params.yaml: split.{subset}_fraction={fraction} of {len(labels)} {pool.unit} "
            f"leaves {count} for {subset} and {len(labels) - count} for the rest, and the smallest "
            f"class, {name}, has {smallest}; each of the {classes} classes needs one on both "
            "sides: change the fraction or add images"
        )
    if in_groups:
        share = _as_folds(fraction, min(smallest, _MOST_FOLDS))
        return _number_folds(pool, share.denominator, split.seed) < share.numerator
    return _mark(_draw(labels, count, split.seed), pool)


def _draw(labels: np.ndarray, count: int, seed: int) -> np.ndarray:
    """Draw so many rows, of each class its share: those that scikit-learn's train_test_split draws.

    That makes a Python object of each row, and takes more than a second to import.

    Returns:
        Positions in `labels`, by class.
    """
    rng = np.random.RandomState(seed)
    sizes = np.unique(labels, return_counts=True)[1]
    kept = _apportion(len(labels) - count, sizes, rng)
    drawn = _apportion(count, sizes - kept, rng)
    chosen = []
    for label, start, number in zip(np.unique(labels), kept, drawn, strict=True):
        rows = np.flatnonzero(labels == label)
        chosen.append(rows[rng.permutation(len(rows))[start : start + number]])
    return np.concatenate(chosen)


def _apportion(count: int, sizes: np.ndarray, rng: np.random.RandomState) -> np.ndarray:
    """Share out a count in proportion to sizes, what is left to the largest remainders.

    Among equal remainders the lot decides.
    """
    shares = sizes / sizes.sum() * count
    parts = np.floor(shares).astype(int)
    for remainder in np.unique(shares - parts)[::-1]:
        left = count - parts.sum()
        if left == 0:
            break
        equal = np.flatnonzero(shares - np.floor(shares) == remainder)
        parts[rng.choice(equal, min(left, len(equal)), replace=False)] += 1
    return parts


def _as_folds(fraction: float, most: int) -> Fraction:
    """Approximate a share by some of at most `most` equal folds, neither none nor all."""
    choices = (Fraction(n, d) for d in range(2, most + 1) for n in range(1, d))
    return min(choices, key=lambda choice: abs(choice - Fraction(fraction)))


def _take_fold(pool: _Pool, split: Split) -> np.ndarray:
    """Choose one of the folds; True where an image is in it."""
    smallest, name = _smallest_class(pool)
    if smallest < split.folds:
        raise ValueError(
            f"params.yaml: split.folds={split.folds} is too many for class {name}, which has "
            f"{smallest} {pool.unit}; lower it or add images of that class"
        )
    if pool.unit == "groups":
        return _number_folds(pool, split.folds, split.seed) == split.fold
    from sklearn.model_selection import StratifiedKFold  # a second, which others save

    labels = _label_units(pool)
    splitter = StratifiedKFold(split.folds, shuffle=True, random_state=split.seed)
    _, chosen = list(splitter.split(labels, labels))[split.fold]
    return _mark(chosen, pool)


def _number_folds(pool: _Pool, folds: int, seed: int) -> np.ndarray:
    """Cut images into stratified folds with each unit in one; return the fold of each image."""
    from sklearn.model_selection import StratifiedGroupKFold

    splitter = StratifiedGroupKFold(folds, shuffle=True, random_state=seed)
    numbers = np.empty(len(pool.labels), int)
    parts = splitter.split(pool.labels, pool.labels, pool.units)
    for number, (_, held_out) in enumerate(parts):
        numbers[held_out] = number
    return numbers


def _smallest_class(pool: _Pool) -> tuple[int, str]:
    """Find the class with the fewest units; return how many, and its name."""
    found = (
        (len(np.unique(pool.units[pool.labels == label])), pool.class_names[label])
        for label in np.unique(pool.labels)
    )
    return min(found)


def _require_all_classes(pool: _Pool, held_out: np.ndarray, subset: str) -> None:
    for side, chosen in ((subset, held_out), ("the rest", ~held_out)):
        lacking = np.setdiff1d(pool.labels, pool.labels[chosen])
        if len(lacking):
            raise ValueError(
                f"params.yaml: the split leaves no image of class {pool.class_names[lacking[0]]} "
                f"in {side}: its {pool.unit} are too few or too large; change split.seed, the "
                "fraction or folds, or add images of that class"
            )


def _require_training_images(classes: pd.Categorical, training: pd.Series) -> None:
    """Refuse published parts in which a class can be tested but not learnt."""
    lacking = np.setdiff1d(classes.codes, classes.codes[training])
    if len(lacking):
        name, count = classes.categories[lacking[0]], np.count_nonzero(classes.codes == lacking[0])
        raise ValueError(
            f"class {name} has {count} images, but none for training (training images that equal a "
            "published val or test image do not count); add some, or remove the class from the "
            "source"
        )
