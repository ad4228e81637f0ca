"""Cutting a dataset into train, val and test, so that nothing stands on two sides."""

from fractions import Fraction

import numpy as np
import pandas as pd
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold, train_test_split

from imgpipe.schema import Split

LEFT_OUT = ""  # the subset of a training image that is also a published val or test image
_MOST_FOLDS = 10  # into which groups are cut to hold out a share of them


def find_groups(ids: pd.Series, pattern: str | None) -> pd.Series:
    """Tell the group of each image from its file name.

    Args:
        ids: paths of the images.
        pattern: regular expression; its one group, searched for in the file name, is the image's
            group. None: no groups.

    Returns:
        str, on the index of `ids`; "" without a pattern.

    Raises:
        ValueError: the pattern is not found in a file name.
    """
    if pattern is None:
        return pd.Series("", index=ids.index)
    found = ids.str.rpartition("/")[2].str.extract(pattern, expand=False)
    if found.isna().any():
        missing = ids[found.isna()]
        raise ValueError(
            f"params.yaml: group_pattern={pattern} is not found in {len(missing)} file names, the "
            f"first {missing.iloc[0]}; change the pattern, or set it to null to do without groups"
        )
    return found


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
            none), sha256.
        split: the dataset's `split` block.

    Returns:
        The subset of each row: "train", "val", "test" or LEFT_OUT, on the table's index.

    Raises:
        ValueError: a class has too few images or groups to stand on each side, or none to train
            on.
    """
    subsets = table["part"].where(table["part"].isin(["val", "test"]), "train").rename("subset")
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
        rows = table[subsets == "train"].sort_values(["sha256", "label", "id"]).drop(columns="id")
        held_out = _take_fold(rows, split) if subset == folded else _hold_out(rows, split, subset)
        _require_all_classes(rows, held_out, subset)
        subsets[rows.index[held_out]] = subset
    return subsets


def _number_units(rows: pd.DataFrame) -> np.ndarray:
    """Number what must stay together: images of one group, equal images, and so on from there."""
    copies = pd.factorize(rows["sha256"])[0]
    if (rows["group"] == "").all():
        return copies
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
    _, chosen = train_test_split(
        firsts, test_size=count, stratify=labels[firsts], random_state=split.seed
    )
    return np.isin(units, units[chosen])


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
    firsts = np.unique(units, return_index=True)[1]
    splitter = StratifiedKFold(split.folds, shuffle=True, random_state=split.seed)
    _, chosen = list(splitter.split(firsts, labels[firsts]))[split.fold]
    return np.isin(units, units[firsts[chosen]])


def _number_folds(labels: np.ndarray, units: np.ndarray, folds: int, seed: int) -> np.ndarray:
    """Cut rows into stratified folds with each unit in one; return the fold of each row."""
    splitter = StratifiedGroupKFold(folds, shuffle=True, random_state=seed)
    numbers = np.empty(len(labels), int)
    for number, (_, held_out) in enumerate(splitter.split(labels, labels, units)):
        numbers[held_out] = number
    return numbers


def _smallest_class(rows: pd.DataFrame, units: np.ndarray) -> tuple[int, str]:
    """Find the class with the fewest units; return how many, and its name."""
    counts = pd.Series(units, index=rows.index).groupby(rows["class"]).nunique()
    return int(counts.min()), counts.idxmin()


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
    unlearnt = classes[~classes.isin(classes[subsets == "train"])]
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
