"""One view of both raw forms: a table of images, and their pixels by row number."""

import functools
import io
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from imgpipe.idx import open_idx
from imgpipe.image_tree import WHOLE
from imgpipe.images import decode_image
from imgpipe.raw import IDX_IMAGES, IDX_LABELS, IMAGE_ARCHIVE


@dataclass(frozen=True)
class RawImages:
    """A dataset as its publisher cut it.

    Attributes:
        table: one row an image, in a fixed order: id (str, unique), label (int), part ("train",
            "val", "test", or "whole" where the publisher has not cut it).
        class_names: in label order.
        read: row numbers (n,) to an iterator over their images, each uint8 (height, width, 1 or 3)
            or, where it cannot be decoded, the ValueError that says why. An optional second
            argument is decode_image's `at_least`. It can be pickled.
    """

    table: pd.DataFrame
    class_names: list[str]
    read: Callable[..., Iterator[np.ndarray | ValueError]]


def open_raw_images(folder: Path, class_names: list[str] | None) -> RawImages:
    """Open what `fetch` left in `folder`, without reading the images.

    Args:
        folder: data/raw.
        class_names: the dataset's, in label order; None for the names of the class folders in
            alphabetical order, or the labels themselves where there are no folders.

    Raises:
        ValueError: a file is damaged, or its classes are not those of `class_names`.
        FileNotFoundError: a file is missing.
    """
    if (folder / IMAGE_ARCHIVE).is_file():
        return _open_image_archive(folder / IMAGE_ARCHIVE, class_names)
    return _open_idx_dataset(folder, class_names)


def _open_image_archive(path: Path, class_names: list[str] | None) -> RawImages:
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
    steps = [name.split("/") for name in names]
    found = sorted({step[1] for step in steps})
    class_names = class_names or found
    if set(found) - set(class_names):
        raise ValueError(
            f"params.yaml: class_names ({', '.join(class_names)}) lacks the class folders "
            f"{', '.join(sorted(set(found) - set(class_names)))}; add them, or set class_names to "
            "null to take the folders' names"
        )
    if len(found) < 2:
        raise ValueError(f"all images are in one class folder, {found[0]}; two or more are needed")
    labels = {name: label for label, name in enumerate(class_names)}
    table = pd.DataFrame(
        {
            "id": [name.removeprefix(f"{WHOLE}/") for name in names],
            "label": [labels[step[1]] for step in steps],
            "part": [step[0] for step in steps],
        }
    )
    return RawImages(table, class_names, functools.partial(_read_archive, path))


def _read_archive(
    path: Path, rows: np.ndarray, at_least: list[int] | None = None
) -> Iterator[np.ndarray | ValueError]:
    archive = _archive_of_this_process(path, path.stat().st_mtime_ns)
    members = archive.infolist()
    for row in rows:
        name = members[row].filename.removeprefix(f"{WHOLE}/")
        content = archive.read(members[row])
        try:
            if not content:
                raise ValueError(f"{name}: is empty")
            yield decode_image(io.BytesIO(content), name, at_least=at_least)
        except ValueError as error:
            yield error


@functools.lru_cache(maxsize=1)
def _archive_of_this_process(path: Path, changed: int) -> zipfile.ZipFile:
    """Open an archive once: reading the list of its members takes longer than a block of images."""
    return zipfile.ZipFile(path)


def _open_idx_dataset(folder: Path, class_names: list[str] | None) -> RawImages:
    files, shapes, tables = [], [], []
    for part in IDX_IMAGES:
        choices = [folder / IDX_IMAGES[part].format(dimensions) for dimensions in (3, 4)]
        file = next((choice for choice in choices if choice.is_file()), choices[0])
        if part == "test" and not file.is_file():
            continue
        images = open_idx(file)
        labels = open_idx(folder / IDX_LABELS[part])
        if images.ndim not in (3, 4) or labels.ndim != 1 or len(images) != len(labels):
            raise ValueError(
                f"{file}: images of shape {images.shape} do not go with labels of "
                f"shape {labels.shape}; one label an image is needed"
            )
        if images.ndim == 4 and images.shape[-1] not in (1, 3):
            raise ValueError(f"{file}: images of shape {images.shape} are neither grey nor RGB")
        files.append(file)
        shapes.append(images.shape[1:])
        ids = [f"{part}/{number:05d}" for number in range(len(labels))]
        tables.append(pd.DataFrame({"id": ids, "label": np.asarray(labels, int), "part": part}))
    if len(set(shapes)) > 1:
        raise ValueError(
            f"{folder}: train images of {shapes[0]} and test images of {shapes[1]} pixels; both "
            "must have one size"
        )
    table = pd.concat(tables, ignore_index=True)
    class_count = int(table["label"].max()) + 1
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
    return RawImages(table, class_names, functools.partial(_read_idx, files, len(tables[0])))


def _read_idx(
    files: list[Path], train_count: int, rows: np.ndarray, at_least: list[int] | None = None
) -> Iterator[np.ndarray]:
    # Opened anew for each block: a map that stays open keeps all pages it ever touched. As plain
    # arrays, whose rows are had in half of the time.
    arrays = [np.asarray(open_idx(file)) for file in files]
    for row in rows:
        image = arrays[0][row] if row < train_count else arrays[1][row - train_count]
        yield np.array(image if image.ndim == 3 else image[..., np.newaxis])
