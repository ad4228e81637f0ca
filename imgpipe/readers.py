"""One view of every dataset format: a table of images, and their pixels by row number."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from imgpipe.idx import open_idx


@dataclass(frozen=True)
class RawImages:
    """A dataset as its publisher cut it.

    Attributes:
        table: one row an image, in a fixed order: id (str, unique), label (int), part
            ("train" or "test").
        read: row numbers, (n,) integers, to their images: uint8 (n, height, width, channels).
    """

    table: pd.DataFrame
    read: Callable[[np.ndarray], np.ndarray]


def open_raw_images(folder: Path, format: str, class_count: int) -> RawImages:
    """Open what `fetch` left in `folder`, without reading the images.

    Args:
        folder: data/raw.
        format: the dataset's `format` in params.yaml.
        class_count: how many classes the dataset declares.

    Raises:
        ValueError: a file is damaged, or holds labels beyond `class_count`.
        FileNotFoundError: a file is missing.
    """
    return {"idx": _open_idx_dataset}[format](folder, class_count)


def _open_idx_dataset(folder: Path, class_count: int) -> RawImages:
    files, shapes, tables = [], [], []
    for part, stem in (("train", "train"), ("test", "t10k")):
        files.append(folder / f"{stem}-images-idx3-ubyte")
        images = open_idx(files[-1])
        labels = open_idx(folder / f"{stem}-labels-idx1-ubyte")
        if images.ndim != 3 or labels.ndim != 1 or len(images) != len(labels):
            raise ValueError(
                f"{folder}/{stem}-*: images of shape {images.shape} do not go with labels of "
                f"shape {labels.shape}; one label an image is needed"
            )
        if labels.max() >= class_count:
            raise ValueError(
                f"{folder}/{stem}-labels-idx1-ubyte: label {labels.max()} found where class_names "
                f"in params.yaml has {class_count} names (0 to {class_count - 1})"
            )
        shapes.append(images.shape[1:])
        ids = [f"{part}/{number:05d}" for number in range(len(labels))]
        tables.append(pd.DataFrame({"id": ids, "label": np.asarray(labels, int), "part": part}))
    if shapes[0] != shapes[1]:
        raise ValueError(
            f"{folder}: train images of {shapes[0]} and test images of {shapes[1]} pixels; both "
            "must have one size"
        )
    train_count = len(tables[0])

    def read(rows: np.ndarray) -> np.ndarray:
        rows = np.asarray(rows)
        images = np.empty((len(rows), *shapes[0], 1), np.uint8)
        in_train = rows < train_count
        # Opened anew for each block: a map that stays open keeps all pages it ever touched.
        images[in_train, ..., 0] = open_idx(files[0])[rows[in_train]]
        images[~in_train, ..., 0] = open_idx(files[1])[rows[~in_train] - train_count]
        return images

    return RawImages(pd.concat(tables, ignore_index=True), read)
