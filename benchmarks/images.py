"""Data for the contenders and the stages to work on."""

import io
import tarfile
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.networks import CLASSES
from imgpipe.arrays import blocks, write_array

POSITIVE_SHARE = 0.1  # of VGG16's features of Fashion-MNIST's images at 150×150
ARRAYS = Path("data/arrays")  # of a pipeline that has run; without them there is generated data


def write_clothes(folder: Path, subset: str, count: int) -> dict[str, str]:
    """Write grey images of 28×28 and their labels, Fashion-MNIST's where it has been fetched.

    Args:
        folder: where they go.
        subset: of which they are taken.
        count: of images; repeated if there are not so many.

    Returns:
        "inputs" and "labels": paths of .npy files, uint8 (count, 28, 28, 1) and int64 (count,).
    """
    images, labels = make_photos(min(count, 1000), 28)[..., :1], np.arange(1000) % CLASSES
    stored = [ARRAYS / f"{subset}_{kind}.npy" for kind in ("images", "labels")]
    if all(path.is_file() for path in stored):
        found, found_labels = (np.load(path, mmap_mode="r") for path in stored)
        if found.shape[1:] == images.shape[1:] and found_labels.max() < CLASSES:
            images, labels = found, found_labels
    rows = np.arange(count) % len(images)
    paths = {"inputs": folder / "inputs.npy", "labels": folder / "labels.npy"}
    np.save(paths["inputs"], images[rows])
    np.save(paths["labels"], labels[rows])
    return {name: str(path) for name, path in paths.items()}


def make_photos(count: int, size: int, seed: int = 0) -> np.ndarray:
    """Make pictures of soft coloured patches with a little noise, as photographs have it.

    Returns:
        uint8 (count, size, size, 3).
    """
    rng = np.random.default_rng(seed)
    photos = np.empty((count, size, size, 3), np.uint8)
    for photo in photos:
        patches = Image.fromarray(rng.integers(0, 256, (6, 6, 3), dtype=np.uint8))
        soft = np.asarray(patches.resize((size, size), Image.Resampling.BICUBIC), np.int16)
        photo[:] = np.clip(soft + rng.integers(-8, 9, (size, size, 1)), 0, 255)
    return photos


def write_photo_archive(path: Path, count: int, size: int) -> None:
    """Write a tar archive of JPEG files, as <class>/<number>.jpg, classes in turn.

    A zip's list of members would be most of the memory of who reads it: Python's reader holds it.
    """
    with tarfile.open(path, "w") as archive:
        for number, block in enumerate(blocks(count)):
            photos = make_photos(block.stop - block.start, size, seed=number)
            for row, photo in enumerate(photos, block.start):
                file = io.BytesIO()
                Image.fromarray(photo).save(file, "JPEG", quality=85)
                member = tarfile.TarInfo(f"class{row % CLASSES}/{row:07d}.jpg")
                member.size = file.tell()
                file.seek(0)
                archive.addfile(member, file)
            archive.members.clear()  # of half a million they would take half a gigabyte


def write_features(folder: Path, count: int, width: int) -> dict[str, str]:
    """Write features such as a network's last pooling gives: none below 0, and most of them 0.

    As in those of Fashion-MNIST's images, some are hardly ever more than 0 and others often.

    Returns:
        "inputs" and "labels": paths of .npy files, float16 (count, width) and int64 (count,).
    """
    rng = np.random.default_rng(0)
    shares = np.minimum(rng.exponential(POSITIVE_SHARE, width), 1).astype(np.float32)
    paths = {"inputs": folder / "inputs.npy", "labels": folder / "labels.npy"}

    def draw(rows: int) -> np.ndarray:
        values = np.abs(rng.standard_normal((rows, width), np.float32))
        return np.where(rng.random((rows, width), np.float32) < shares, values, 0)

    parts = (draw(block.stop - block.start) for block in blocks(count))
    write_array(paths["inputs"], (count, width), np.float16, parts)
    np.save(paths["labels"], rng.integers(0, CLASSES, count))
    return {name: str(path) for name, path in paths.items()}
