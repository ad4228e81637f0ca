"""Trees of image files: which folder is which part and class, and their one stored form.

The stored form is an uncompressed tar archive of `<part>/<class>/<file>`, its names sorted, its
times fixed, and a table that tells where in it each file lies: equal images give equal bytes,
wherever they came from. Whoever reads one image need not list the archive, which takes memory for
each.
"""

import csv
import tarfile
from collections.abc import Callable, Iterable
from pathlib import Path

from imgpipe.entries import Entry
from imgpipe.wording import shorten

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


def find_layout(
    names: Iterable[str], part_folders: dict[str, str] | None
) -> Callable[[str], str | None]:
    """Find how an image tree is laid out.

    Folders around the tree are stripped. Files of any kind count in a class folder, so that a
    wrong one is found where it is decoded; outside of the class folders only images do.

    Args:
        names: paths within the tree.
        part_folders: part ("train", "val", "test") to the name of its folder; None for the usual
            names, in upper or lower case. Without any such folder the tree is not cut.

    Returns:
        A function from a path to `<part>/<class>/<rest>`, where part is "train", "val", "test" or,
        in a tree that is not cut, "whole"; or to None for a file outside the class folders.

    Raises:
        ValueError: there are no images, an image lies outside the class folders, or a folder that
            `part_folders` names is not there.
    """
    firsts = {}  # of the images of each folder: of a million images there are a few folders
    for name in names:
        if is_image_name(name):
            firsts.setdefault(name.rpartition("/")[0], name)
    if not firsts:
        raise ValueError(f"no images found; expected {_LAYOUTS}")
    steps = [folder.split("/") if folder else [] for folder in firsts]
    parts = _parts_by_folder(part_folders)
    around, shortest = 0, min(map(len, steps))
    while (
        shortest >= around + 2
        and len({path[around] for path in steps}) == 1
        and steps[0][around].lower() not in parts
    ):
        around += 1
    outer, tops = steps[0][:around], {path[around].lower() for path in steps if len(path) > around}
    missing = [name for name in (part_folders or {}).values() if name.lower() not in tops]
    if missing:
        raise ValueError(
            f"part_folders in params.yaml names {', '.join(missing)}, but the folders are "
            f"{shorten(', '.join(sorted(tops)), 200)}; name those, or set it to null"
        )
    is_cut = bool(tops & set(parts))
    depth = around + (2 if is_cut else 1)  # of a file in a class folder

    def lay_out(name: str) -> str | None:
        path = name.split("/")
        if len(path) <= depth or path[:around] != outer:
            return None
        part = parts.get(path[around].lower()) if is_cut else WHOLE
        return "/".join([part, *path[depth - 1 :]]) if part else None

    _refuse_stray_images(firsts.values(), lay_out, around, tops & set(parts))
    return lay_out


def _refuse_stray_images(
    names: Iterable[str], lay_out: Callable[[str], str | None], around: int, tops: set[str]
) -> None:
    for name in names:
        if lay_out(name) is None:
            steps = name.split("/")
            if tops and steps[around].lower() not in tops:
                raise ValueError(
                    f"{name}: lies beside the folders {', '.join(sorted(tops))}; expected "
                    f"{_LAYOUTS}"
                )
            raise ValueError(
                f"{name}: is in no class folder; expected {_LAYOUTS}, the class being the folder's "
                "name"
            )


def _parts_by_folder(part_folders: dict[str, str] | None) -> dict[str, str]:
    if part_folders is None:
        return _PART_FOLDERS
    return {folder.lower(): part for part, folder in part_folders.items()}


def refuse_large_file(entry: Entry) -> None:
    """Refuse a file that is larger than any image."""
    if entry.size > LARGEST_FILE:
        raise ValueError(
            f"{entry.name}: has {entry.size:,} bytes, more than the {LARGEST_FILE:,} that an "
            "image file may have; make it smaller, or remove it"
        )


def write_image_archive(files: Iterable[tuple[str, Entry]], archive: Path, index: Path) -> None:
    """Write files into an uncompressed tar archive; the same files give the same bytes.

    Args:
        files: `<part>/<class>/<rest>` and the file that goes there, sorted.
        archive: to write.
        index: CSV file to write, of INDEX_COLUMNS: a row for each file, in the archive's order; id
            is its name there, without WHOLE; offset and size, in bytes, tell where its content is.

    Raises:
        ValueError: a file is damaged, or two of them go to one place.
    """
    last = None
    with (
        tarfile.open(archive, "w") as target,
        index.open("w", encoding="utf-8", newline="") as table,
    ):
        rows = csv.writer(table, lineterminator="\n")
        rows.writerow(INDEX_COLUMNS)
        for name, entry in files:
            if last and last[0] == name:
                raise ValueError(f"{entry.name} and {last[1].name}: are one file, {name}")
            last = name, entry
            member = tarfile.TarInfo(name)  # of nobody, at the earliest time there is
            member.size = entry.size
            with entry.open() as file:
                target.addfile(member, file)
            target.members.clear()  # a million of them take a gigabyte
            offset = target.offset + member.size // -tarfile.BLOCKSIZE * tarfile.BLOCKSIZE
            part, class_name, _ = name.split("/", 2)
            rows.writerow([part, class_name, name.removeprefix(f"{WHOLE}/"), offset, member.size])
