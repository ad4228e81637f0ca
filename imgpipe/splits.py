"""Cutting a dataset into train, val and test, and the manifest that records the cut."""

import hashlib
from collections.abc import Callable

import numpy as np
import pandas as pd
from sklearn.model_selection import train_test_split

from imgpipe.arrays import blocks


def hash_images(read: Callable[[np.ndarray], np.ndarray], count: int) -> list[str]:
    """Hash each image's pixels, block by block.

    Args:
        read: row numbers to uint8 (n, height, width, channels).
        count: number of images.

    Returns:
        One SHA-256 sum an image, as 64 hexadecimal digits.
    """
    sums = []
    for block in blocks(count):
        images = read(np.arange(block.start, block.stop))
        sums += [hashlib.sha256(image.tobytes()).hexdigest() for image in images]
    return sums


def split_holdout(table: pd.DataFrame, *, val_fraction: float, seed: int) -> pd.Series:
    """Hold out a share of the training part as val; the test part stays as published.

    Rows are put into the order of their content before any draw: the same images give the same
    subsets whatever order the source lists them in.

    Args:
        table: columns id, label, part ("train" or "test"), sha256.
        val_fraction: share of the training part, in (0, 1); drawn class by class, so that the
            class ratios stay.
        seed: another seed draws another val.

    Returns:
        The subset of each row: "train", "val" or "test", on the table's index.

    Raises:
        ValueError: a class is too small to stand in both train and val.
    """
    subsets = pd.Series("test", index=table.index, name="subset")
    published_train = table[table["part"] == "train"].sort_values(["sha256", "label", "id"])
    counts = published_train["label"].value_counts()
    val_count = round(len(published_train) * val_fraction)
    train_count = len(published_train) - val_count
    if counts.min() < 2 or min(val_count, train_count) < len(counts):
        raise ValueError(
            f"params.yaml: val_fraction={val_fraction} of {len(published_train)} training "
            f"images leaves {val_count} for val and {train_count} for train, and the smallest "
            f"class has {counts.min()}; each of the {len(counts)} classes needs an image in both: "
            "change val_fraction or add images"
        )
    train, val = train_test_split(
        published_train.index.to_numpy(),
        test_size=val_count,
        stratify=published_train["label"],
        random_state=seed,
    )
    subsets[train] = "train"
    subsets[val] = "val"
    return subsets
