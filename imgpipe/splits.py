"""Cutting a dataset into train, val and test, so that nothing stands on two sides."""

import re
from array import array
from collections.abc import Iterable
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
        table: columns id, label, class, part ("train", "val", "test" or "whole"), group ("" for
            none), sha256. Of a million images, texts had better be categories, and ids and sums
            numbers in the same order.
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
    _require_training_images(table["class"], subsets)
    parts = set(table["part"].unique())
    missing = [subset for subset in ("test", "val") if subset not in parts]
    folded = missing[0] if missing and split.method == "kfold" else None
    if split.method == "kfold" and not missing:
        raise ValueError(
            "params.yaml: split.method=kfold finds nothing to cut, as the source has a val and a "
            "test part; set it to holdout"
        )
    for subset in missing:
        chosen = _choose(table, subsets == "train", split, subset, subset == folded)
        subsets.iloc[chosen] = subset
    return subsets.cat.remove_unused_categories()


def _choose(
    table: pd.DataFrame, from_where: pd.Series, split: Split, subset: str, as_fold: bool
) -> np.ndarray:
    """Choose positions of images for a subset, from where it says True."""
    order = np.lexsort([table[key] for key in ("id", "label", "sha256")]).astype(np.int32)
    order = order[from_where.to_numpy()[order]]
    rows = {key: table[key].array[order] for key in ("label", "class", "group", "sha256")}
    rows = pd.DataFrame(rows)
    held_out = _take_fold(rows, split) if as_fold else _hold_out(rows, split, subset)
    _require_all_classes(rows, held_out, subset)
    return order[held_out]


def _number_units(rows: pd.DataFrame) -> np.ndarray:
    """Number what must stay together: images of one group, equal images, and so on from there."""
    sums = rows["sha256"].to_numpy()  # sorted
    copies = np.cumsum(np.append(False, sums[1:] != sums[:-1]), dtype=np.int32)
    if (rows["group"] == "").all():
        return copies
    from scipy.sparse import coo_array  # a third of a second, which others save
    from scipy.sparse.csgraph import connected_components

    groups = pd.factorize(rows["group"])[0]
    # A graph: each image links its content with its group.
    size = copies.max() + groups.max() + 2
    links = (np.ones(len(rows)), (copies, copies.max() + 1 + groups))
    components = connected_components(coo_array(links, shape=(size, size)), directed=False)[1]
    return pd.factorize(components[copies])[0]


def _hold_out(rows: pd.DataFrame, split: Split, subset: str) -> np.ndarray:
    """Choose a share of the rows; True where a row is held out."""
    fraction = getattr(split, f"{subset}_fraction")
    if fraction is None:
        raise ValueError(
            f"params.yaml: split.{subset}_fraction=null, but the source has no {subset} part; set "
            "the share to cut off for it"
        )
    units, labels = _number_units(rows), rows["label"].to_numpy()
    smallest, name = _smallest_class(rows, units)
    firsts = np.unique(units, return_index=True)[1]
    count = round(len(firsts) * fraction)
    in_groups = (rows["group"] != "").any()
    classes = rows["class"].nunique()
    if smallest < 2 or (not in_groups and min(count, len(firsts) - count) < classes):
        raise ValueError(
            f"params.yaml: split.{subset}_fraction={fraction} of {len(firsts)} {_word(rows)} "
            f"leaves {count} for {subset} and {len(firsts) - count} for the rest, and the smallest "
            f"class, {name}, has {smallest}; each of the {classes} classes needs one on both "
            "sides: change the fraction or add images"
        )
    if in_groups:
        share = _as_folds(fraction, min(smallest, _MOST_FOLDS))
        return _number_folds(labels, units, share.denominator, split.seed) < share.numerator
    chosen = firsts[_draw(labels[firsts], count, split.seed)]
    return np.isin(units, units[chosen])


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
    by_class = np.split(np.argsort(labels, kind="stable"), np.cumsum(sizes)[:-1])
    for rows, start, number in zip(by_class, kept, drawn, strict=True):
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


def _take_fold(rows: pd.DataFrame, split: Split) -> np.ndarray:
    """Choose one of the folds; True where a row is in it."""
    units, labels = _number_units(rows), rows["label"].to_numpy()
    smallest, name = _smallest_class(rows, units)
    if smallest < split.folds:
        raise ValueError(
            f"params.yaml: split.folds={split.folds} is too many for class {name}, which has "
            f"{smallest} {_word(rows)}; lower it or add images of that class"
        )
    if (rows["group"] != "").any():
        return _number_folds(labels, units, split.folds, split.seed) == split.fold
    from sklearn.model_selection import StratifiedKFold  # a second, which others save

    firsts = np.unique(units, return_index=True)[1]
    splitter = StratifiedKFold(split.folds, shuffle=True, random_state=split.seed)
    _, chosen = list(splitter.split(firsts, labels[firsts]))[split.fold]
    return np.isin(units, units[firsts[chosen]])


def _number_folds(labels: np.ndarray, units: np.ndarray, folds: int, seed: int) -> np.ndarray:
    """Cut rows into stratified folds with each unit in one; return the fold of each row."""
    from sklearn.model_selection import StratifiedGroupKFold

    splitter = StratifiedGroupKFold(folds, shuffle=True, random_state=seed)
    numbers = np.empty(len(labels), int)
    for number, (_, held_out) in enumerate(splitter.split(labels, labels, units)):
        numbers[held_out] = number
    return numbers


def _smallest_class(rows: pd.DataFrame, units: np.ndarray) -> tuple[int, str]:
    """Find the class with the fewest units; return how many, and its name."""
    counts = {}
    for name in sorted(rows["class"].unique()):
        numbers = np.sort(units[rows["class"] == name])
        counts[name] = 1 + np.count_nonzero(np.diff(numbers))
    smallest = min(counts, key=counts.get)
    return counts[smallest], smallest


def _require_all_classes(rows: pd.DataFrame, held_out: np.ndarray, subset: str) -> None:
    for side, chosen in ((subset, held_out), ("the rest", ~held_out)):
        lacking = set(rows["class"].unique()) - set(rows["class"][chosen].unique())
        if lacking:
            raise ValueError(
                f"params.yaml: the split leaves no image of class {sorted(lacking)[0]} in {side}: "
                f"its {_word(rows)} are too few or too large; change split.seed, the fraction or "
                "folds, or add images of that class"
            )


def _require_training_images(classes: pd.Series, subsets: pd.Series) -> None:
    """Refuse published parts in which a class can be tested but not learnt."""
    unlearnt = classes[~classes.isin(classes[subsets == "train"].unique())]
    if len(unlearnt):
        name = unlearnt.iloc[0]
        count = (unlearnt == name).sum()
        raise ValueError(
            f"class {name} has {count} images, but none for training (training images that equal a "
            "published val or test image do not count); add some, or remove the class from the "
            "source"
        )


def _word(rows: pd.DataFrame) -> str:
    return "images" if (rows["group"] == "").all() else "groups"
