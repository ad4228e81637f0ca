"""Trees of image files: which folder is which part and class, and their one stored form.

The stored form is an uncompressed tar archive of `<part>/<class>/<file>`, its names sorted, its
times fixed, and a table that tells where in it each file lies: equal images give equal bytes,
wherever they came from. Whoever reads one image need not list the archive, which takes memory for
each.
"""

import csv
import tarfile
from pathlib import Path

from imgpipe.entries import Entry

SUFFIXES = frozenset(
    [
        ".bmp",
        ".dib",
        ".gif",
        ".jfif",
        ".jpe",
        ".jpeg",
        ".jpg",
        ".png",
        ".tif",
        ".tiff",
        ".webp",
    ]  # what Pillow reads
)
LARGEST_FILE = 256 << 20  # bytes; a file is read in one piece when it is decoded
WHOLE = "whole"  # the part of a tree that is not cut into parts
_PART_FOLDERS = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
    "testing": "test",
}
_LAYOUTS = "<class>/<image> or {train,val,test}/<class>/<image>"
INDEX_COLUMNS = ("part", "class", "id", "offset", "size")


def is_image_name(name: str) -> bool:
    """Tell by its ending whether a file claims to be an image."""
    return Path(name).suffix.lower() in SUFFIXES


def lay_out(names: list[str], part_folders: dict[str, str] | None) -> dict[str, str]:
    """Find part and class of each file of an image tree.

    Folders around the tree are stripped. Files of any kind count in a class folder, so that a
    wrong one is found where it is decoded; outside of the class folders only images do.

    Args:
        names: paths within the tree.
        part_folders: part ("train", "val", "test") to the name of its folder; None for the usual
            names, in upper or lower case. Without any such folder the tree is not cut.

    Returns:
        Path to `<part>/<class>/<rest>`, where part is "train", "val", "test" or, in a tree that is
        not cut, "whole". Files outside the class folders are left out.

    Raises:
        ValueError: there are no images, or an image lies outside the class folders.
    """
    steps = {name: name.split("/") for name in names}
    images = [steps[name] for name in names if is_image_name(name)]
    if not images:
        raise ValueError(f"no images found; expected {_LAYOUTS}")
    parts = _parts_by_folder(part_folders)
    around = 0
    while (
        len({image[around] for image in images}) == 1
        and min(map(len, images)) >= around + 3
        and images[0][around].lower() not in parts
    ):
        around += 1
    tops = {image[around].lower() for image in images}
    depth = around + (2 if tops & set(parts) else 1)  # of a file in a class folder
    for image in images:
        if depth == around + 2 and image[around].lower() not in parts:
            raise ValueError(
                f"{'/'.join(image)}: lies beside the folders "
                f"{', '.join(sorted(tops & set(parts)))}; expected {_LAYOUTS}"
            )
        if len(image) <= depth:
            raise ValueError(
                f"{'/'.join(image)}: is in no class folder; expected {_LAYOUTS}, the class being "
                "the folder's name"
            )
    laid_out = {}
    for name, path in steps.items():
        if len(path) > depth and path[:around] == images[0][:around]:
            part = parts.get(path[around].lower()) if depth == around + 2 else WHOLE
            if part:
                laid_out[name] = "/".join([part, *path[depth - 1 :]])
    return laid_out


def _parts_by_folder(part_folders: dict[str, str] | None) -> dict[str, str]:
    if part_folders is None:
        return _PART_FOLDERS
    return {folder.lower(): part for part, folder in part_folders.items()}


def write_image_archive(entries: dict[str, Entry], archive: Path, index: Path) -> None:
    """Write files into an uncompressed tar archive; the same files give the same bytes.

    Args:
        entries: `<part>/<class>/<rest>` to the file that goes there.
        archive: to write.
        index: CSV file to write, of INDEX_COLUMNS: a row for each file, in the archive's order; id
            is its name there, without WHOLE; offset and size, in bytes, tell where its content is.

    Raises:
        ValueError: a file is larger than any image, or damaged.
    """
    for entry in entries.values():
        if entry.size > LARGEST_FILE:
            raise ValueError(
                f"{entry.name}: has {entry.size:,} bytes, more than the {LARGEST_FILE:,} that an "
                "image file may have; make it smaller, or remove it"
            )
    with (
        tarfile.open(archive, "w") as target,
        index.open("w", encoding="utf-8", newline="") as table,
    ):
        rows = csv.writer(table, lineterminator="\n")
        rows.writerow(INDEX_COLUMNS)
        for name in sorted(entries):
            member = tarfile.TarInfo(name)  # of nobody, at the earliest time there is
            member.size = entries[name].size
            with entries[name].open() as file:
                target.addfile(member, file)
            target.members.clear()  # a million of them take a gigabyte
            offset = target.offset + member.size // -tarfile.BLOCKSIZE * tarfile.BLOCKSIZE
            part, class_name, _ = name.split("/", 2)
            rows.writerow([part, class_name, name.removeprefix(f"{WHOLE}/"), offset, member.size])
