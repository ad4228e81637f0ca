"""One view of both raw forms: a table of images, and their pixels by row number."""

import functools
import io
import os
import struct
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pandas as pd
from pandas.api.types import union_categoricals

from imgpipe.arrays import SUBSETS, TABLE_ROWS
from imgpipe.idx import open_idx
from imgpipe.image_tree import WHOLE
from imgpipe.images import decode_image
from imgpipe.raw import IDX_IMAGES, IDX_LABELS, IMAGE_ARCHIVE, IMAGE_INDEX
from imgpipe.schema import LONGEST_CLASS_NAME, is_class_name
from imgpipe.wording import shorten, word_error

_PARTS = pd.CategoricalDtype([*SUBSETS, WHOLE])
_PLACE = struct.Struct("qq")  # offset and size of an image file in the archive


def list_raw_images(folder: Path, class_names: list[str] | None) -> tuple[pd.DataFrame, list[str]]:
    """List a dataset as its publisher cut it, without reading the images.

    Args:
        folder: data/raw.
        class_names: the dataset's, in label order; None for the names of the class folders in
            alphabetical order, or the labels themselves where there are no folders.

    Returns:
        table: one row an image, in a fixed order: label (int32), part (categories "train", "val",
            "test", or "whole" where the publisher has not cut it).
        class_names: in label order.

    Raises:
        ValueError: a file is damaged, or its classes are not those of `class_names`.
        FileNotFoundError: a file is missing.
    """
    if (folder / IMAGE_INDEX).is_file():
        return _list_image_files(folder / IMAGE_INDEX, class_names)
    return _list_idx_images(folder, class_names)


def read_ids(folder: Path) -> Iterator[str]:
    """Give the id of each image, in the order of list_raw_images."""
    if (folder / IMAGE_INDEX).is_file():
        for block in _read_index(folder / IMAGE_INDEX, {"id": str}):
            yield from block["id"]
    else:
        for part in IDX_LABELS:
            if (folder / IDX_LABELS[part]).is_file():
                for number in range(len(open_idx(folder / IDX_LABELS[part]))):
                    yield f"{part}/{number:05d}"


def raw_reader(folder: Path) -> Callable[..., Iterator[np.ndarray | ValueError]]:
    """Make what reads a dataset's images.

    Args:
        folder: data/raw, in which list_raw_images has found nothing wrong.

    Returns:
        A function from row numbers (n,) to an iterator over their images, each uint8 (height,
        width, 1 or 3) or, where it cannot be decoded, the ValueError that says why. An optional
        second argument is decode_image's `at_least`. It can be pickled.
    """
    if (folder / IMAGE_INDEX).is_file():
        return functools.partial(_read_image_files, folder)
    files = [found for part in IDX_IMAGES if (found := _find_idx_images(folder, part))]
    return functools.partial(_read_idx, files)


def _list_image_files(index: Path, class_names: list[str] | None) -> tuple[pd.DataFrame, list[str]]:
    parts, classes = [], []
    for block in _read_index(index, {"part": _PARTS, "class": "category"}):
        parts.append(block["part"])
        classes.append(block["class"])
    classes = union_categoricals(classes, sort_categories=True)
    found = list(classes.categories)
    if not found:
        raise ValueError(f"{index}: is damaged (it is empty); run dvc repro -f fetch")
    odd = [name for name in found if not is_class_name(name)]
    if odd:
        raise ValueError(
            f"the class folder {shorten(odd[0])!r} has blanks around its name, or more than "
            f"{LONGEST_CLASS_NAME} characters; rename it"
        )
    class_names = class_names or found
    if set(found) - set(class_names):
        raise ValueError(
            f"params.yaml: class_names ({', '.join(class_names)}) lacks the class folders "
            f"{', '.join(sorted(set(found) - set(class_names)))}; add them, or set class_names to "
            "null to take the folders' names"
        )
    if len(found) < 2:
        raise ValueError(
            f"all images are in one class folder, {found[0]}, where two or more are needed; add a "
            "folder of images of another class"
        )
    labels = np.array([class_names.index(name) for name in found], np.int32)[classes.codes]
    return pd.DataFrame({"label": labels, "part": pd.concat(parts)}), class_names


def _read_index(index: Path, types: dict[str, Any]) -> Iterator[pd.DataFrame]:
    """Read some columns of the table of image files, block by block: else it is held thrice."""
    try:
        yield from pd.read_csv(
            index, usecols=list(types), dtype=types, keep_default_na=False, chunksize=TABLE_ROWS
        )
    except ValueError as error:  # which pandas's own errors are, too
        raise ValueError(
            f"{index}: is damaged ({word_error(error)}); run dvc repro -f fetch"
        ) from None


def _read_image_files(
    folder: Path, rows: np.ndarray, at_least: list[int] | None = None
) -> Iterator[np.ndarray | ValueError]:
    index = folder / IMAGE_INDEX
    changed = index.stat().st_mtime_ns
    places = _places_of_this_process(index, changed).fileno()
    with (folder / IMAGE_ARCHIVE).open("rb") as archive:
        for row in rows:
            offset, size = _PLACE.unpack(os.pread(places, _PLACE.size, _PLACE.size * row))
            content = os.pread(archive.fileno(), size, offset)
            try:
                if not content:
                    raise ValueError(": is empty")
                yield decode_image(io.BytesIO(content), "", at_least=at_least)
            except ValueError as error:  # it lacks the name, which few images need
                yield ValueError(f"{_ids_of_this_process(index, changed)[row]}{error}")


@functools.lru_cache(maxsize=1)
def _places_of_this_process(index: Path, changed: int) -> BinaryIO:
    """Write where the image files lie to a file of _PLACE, once: to read the table takes long.

    Not to memory, where they would be in each worker.
    """
    places = tempfile.TemporaryFile()  # noqa: SIM115 - is closed with the process
    for block in _read_index(index, {"offset": np.int64, "size": np.int64}):
        places.write(block[["offset", "size"]].to_numpy().tobytes())
    places.flush()
    return places


@functools.lru_cache(maxsize=1)
def _ids_of_this_process(index: Path, changed: int) -> np.ndarray:
    return pd.concat(_read_index(index, {"id": str}))["id"].to_numpy()


def _find_idx_images(folder: Path, part: str) -> Path | None:
    choices = (folder / IDX_IMAGES[part].format(dimensions) for dimensions in (3, 4))
    return next((choice for choice in choices if choice.is_file()), None)


def _list_idx_images(folder: Path, class_names: list[str] | None) -> tuple[pd.DataFrame, list[str]]:
    shapes, tables = [], []
    for part in IDX_IMAGES:
        file = _find_idx_images(folder, part)
        if not file and part == "test":
            continue
        file = file or folder / IDX_IMAGES[part].format(3)
        images = open_idx(file)
        labels = open_idx(folder / IDX_LABELS[part])
        if images.ndim not in (3, 4) or labels.ndim != 1 or len(images) != len(labels):
            raise ValueError(
                f"{file}: images of shape {images.shape} do not go with labels of "
                f"shape {labels.shape}; one label an image is needed"
            )
        if images.ndim == 4 and images.shape[-1] not in (1, 3):
            raise ValueError(f"{file}: images of shape {images.shape} are neither grey nor RGB")
        shapes.append(images.shape[1:])
        parts = pd.Categorical([part], dtype=_PARTS).repeat(len(labels))
        tables.append(pd.DataFrame({"label": np.asarray(labels, np.int32), "part": parts}))
    if len(set(shapes)) > 1:
        raise ValueError(
            f"{folder}: train images of {shapes[0]} and test images of {shapes[1]} pixels; both "
            "must have one size"
        )
    table = pd.concat(tables, ignore_index=True)
    class_count = int(table["label"].max()) + 1
    if table["label"].nunique() < 2:
        raise ValueError(
            f"{folder}: all images have the label {class_count - 1}, where two or more classes are "
            "needed; add images of another class"
        )
    if class_names is None:
        missing = set(range(class_count)) - set(table["label"])
        if missing:
            raise ValueError(
                f"{folder}: there are labels up to {class_count - 1} but none is {min(missing)}; "
                "mend the labels, or name all classes in class_names in params.yaml"
            )
        class_names = [str(label) for label in range(class_count)]
    if class_count > len(class_names):
        raise ValueError(
            f"{folder}: label {class_count - 1} found where class_names in params.yaml has "
            f"{len(class_names)} names (0 to {len(class_names) - 1}); mend the labels, or name all "
            "classes"
        )
    if len(tables) == 1:
        table["part"] = WHOLE
    return table, class_names


def _read_idx(
    files: list[Path], rows: np.ndarray, at_least: list[int] | None = None
) -> Iterator[np.ndarray]:
    # Opened anew for each block: a map that stays open keeps all pages it ever touched. As plain
    # arrays, whose rows are had in half of the time.
    arrays = [np.asarray(open_idx(file)) for file in files]
    train_count = len(arrays[0])
    for row in rows:
        image = arrays[0][row] if row < train_count else arrays[1][row - train_count]
        yield np.array(image if image.ndim == 3 else image[..., np.newaxis])
