"""From a source's files to data/raw: IDX files for arrays of pixels, one archive for image files.

What a source holds is told by its files: images in class folders, MNIST's IDX files, CIFAR-10's
binary batches, or CSV files of pixels.
"""

import gzip
import itertools
import re
import shutil
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np

from imgpipe.archives import unpack
from imgpipe.cifar import parse_cifar
from imgpipe.entries import Entries, Entry
from imgpipe.idx import appending_idx
from imgpipe.image_tree import (
    find_layout,
    is_image_name,
    refuse_large_file,
    write_image_archive,
)
from imgpipe.pixel_csv import parse_pixel_csv
from imgpipe.wording import shorten

IMAGE_ARCHIVE, IMAGE_INDEX = "images.tar", "images.csv"
# MNIST's names; the digit is the number of the array's dimensions.
IDX_IMAGES = {"train": "train-images-idx{}-ubyte", "test": "t10k-images-idx{}-ubyte"}
IDX_LABELS = {"train": "train-labels-idx1-ubyte", "test": "t10k-labels-idx1-ubyte"}

_IDX_NAME = re.compile(r"(train|t10k)-(images-idx[34]|labels-idx1)-ubyte(\.gz)?")
_CIFAR_NAME = re.compile(r"(data_batch_\d+|test_batch)\.bin")

# From a file and its name to blocks of its images and labels.
Parser = Callable[[BinaryIO, str], Iterator[tuple[np.ndarray, np.ndarray]]]


def store_raw(entries: Entries, folder: Path, part_folders: dict[str, str] | None) -> str:
    """Write a source's files into `folder` in one of the two raw forms.

    Args:
        entries: the source's files.
        folder: an existing empty folder.
        part_folders: the dataset's `part_folders` in params.yaml.

    Returns:
        What was found, in words.

    Raises:
        ValueError: the files are no dataset in any known form, or one of them is damaged.
    """
    if any(is_image_name(entry.name) for entry in entries):
        return _store_image_tree(entries, folder, part_folders)
    if found := _matching(entries, _IDX_NAME):
        return _store_idx_files(found, folder)
    if found := _matching(entries, _CIFAR_NAME):
        return _store_cifar(found, folder)
    if found := _matching(entries, re.compile(r".*\.csv", re.IGNORECASE)):
        return _store_pixel_csvs(found, folder)
    shown = _word(entry.name for entry in entries)
    raise ValueError(
        f"holds no images, IDX, CSV or CIFAR-10 files (but {shown or 'nothing at all'}); images "
        "are expected as <class>/<image> or {train,val,test}/<class>/<image>"
    )


def _matching(entries: Entries, pattern: re.Pattern) -> dict[str, Entry]:
    """Pick entries by file name."""
    found = {}
    for entry in entries:
        name = entry.name.rpartition("/")[2]
        if pattern.fullmatch(name):
            if name in found:
                raise _one_is_needed(found[name], entry)
            found[name] = entry
    return found


def _one_is_needed(one: Entry, other: Entry) -> ValueError:
    return ValueError(
        f"{shorten(one.name)} and {shorten(other.name)}: one is needed; remove the other"
    )


def _store_image_tree(entries: Entries, folder: Path, part_folders: dict[str, str] | None) -> str:
    lay_out = find_layout((entry.name for entry in entries), part_folders)
    stored, ignored = 0, []
    for entry in entries:
        if lay_out(entry.name) is not None:
            refuse_large_file(entry)
            stored += 1
        elif len(ignored) < 4:  # one more than are named
            ignored.append(entry.name)
    write_image_archive(entries.sorted_by(lay_out), folder / IMAGE_ARCHIVE, folder / IMAGE_INDEX)
    words = f"{stored:,} image files"
    if ignored:
        words += f" ({len(entries) - stored} other files ignored: {_word(ignored)})"
    return words


def _word(names: Iterable[str]) -> str:
    """Word three names of many."""
    first = list(itertools.islice(names, 4))
    return ", ".join(map(shorten, first[:3])) + (", …" if len(first) > 3 else "")


def _store_idx_files(found: dict[str, Entry], folder: Path) -> str:
    _check_idx_set(found)
    for name, entry in found.items():
        with entry.open() as file, (folder / name.removesuffix(".gz")).open("wb") as target:
            if name.endswith(".gz"):
                unpack(gzip.GzipFile(fileobj=file), target, entry.size, entry.name)
            else:
                shutil.copyfileobj(file, target, 1 << 20)
    return f"{len(found)} IDX files"


def _check_idx_set(found: dict[str, Entry]) -> None:
    """Refuse IDX files of which one stands there in two forms, or whose companion is missing."""
    kinds = {}  # as train-images: gzipped or not, grey or in colour, one is enough
    for name, entry in found.items():
        other = kinds.setdefault(name.partition("-idx")[0], entry)
        if other is not entry:
            raise _one_is_needed(other, entry)
    needed = [IDX_IMAGES["train"].format(3), IDX_LABELS["train"]]
    if any(kind.startswith("t10k") for kind in kinds):
        needed += [IDX_IMAGES["test"].format(3), IDX_LABELS["test"]]
    missing = [name for name in needed if name.partition("-idx")[0] not in kinds]
    if missing:
        raise ValueError(
            f"has {', '.join(found)} but lacks {', '.join(missing)}; images and labels are needed "
            "of train, and of t10k both or none, gzipped or not"
        )


def _store_cifar(found: dict[str, Entry], folder: Path) -> str:
    if not any(name.startswith("data") for name in found):
        raise ValueError(
            f"has {', '.join(found)} but lacks data_batch_1.bin and those after it; the images to "
            "train on are needed"
        )
    for part, start in (("train", "data"), ("test", "test")):
        batches = [entry for name, entry in found.items() if name.startswith(start)]
        if batches:
            _write_part(folder, part, batches, parse_cifar, dimensions=4)
    return f"{len(found)} batches in CIFAR-10's binary format"


def _store_pixel_csvs(found: dict[str, Entry], folder: Path) -> str:
    for name, entry in found.items():
        if "train" in name.lower() and "test" in name.lower():
            raise ValueError(
                f"{shorten(entry.name)}: has both 'train' and 'test' in its name, which tells what "
                "it is for; rename it"
            )
    for part in ("train", "test"):
        chosen = [entry for name, entry in found.items() if part in name.lower()]
        if len(chosen) != 1 and (chosen or part == "train"):
            raise ValueError(
                f"{len(chosen)} of its CSV files ({', '.join(found)}) have {part!r} in their names "
                "where one is needed"
            )
        if chosen:
            _write_part(folder, part, chosen, parse_pixel_csv, dimensions=3)
    return f"{len(found)} CSV files"


def _write_part(
    folder: Path, part: str, entries: list[Entry], parse: Parser, dimensions: int
) -> None:
    """Write the images and labels of some files, one after the other, block by block."""
    with (
        appending_idx(folder / IDX_IMAGES[part].format(dimensions)) as append_images,
        appending_idx(folder / IDX_LABELS[part]) as append_labels,
    ):
        for entry in entries:
            with entry.open() as file:
                for images, labels in parse(file, entry.name):
                    append_images(images)
                    append_labels(labels)
