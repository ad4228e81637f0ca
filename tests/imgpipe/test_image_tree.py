"""imgpipe.image_tree: parts and classes from folders, and the one stored form."""

import csv
import tarfile
import zipfile

import pytest

from imgpipe.entries import open_entries
from imgpipe.image_tree import find_layout, write_image_archive
from tiny import write_tar, write_zip

CUT = ["train/a/1.jpg", "train/b/2.PNG", "test/a/3.webp", "test/b/sub/4.tif"]
WHOLE = ["a/1.jpg", "b/2.jpg"]


def lay_out(names, part_folders):
    """Map each file that counts to its place."""
    find = find_layout(names, part_folders)
    return {name: place for name in names if (place := find(name))}


def test_a_tree_in_parts():
    assert lay_out(CUT, None) == {name: name for name in CUT}


def test_a_tree_that_is_not_cut():
    assert lay_out(WHOLE, None) == {"a/1.jpg": "whole/a/1.jpg", "b/2.jpg": "whole/b/2.jpg"}


@pytest.mark.parametrize("tree", [CUT, WHOLE])
@pytest.mark.parametrize("around", ["shoes", "my/shoes"])
def test_folders_around_the_tree_are_stripped(tree, around):
    names = [f"{around}/{name}" for name in tree]
    assert list(lay_out(names, None).values()) == list(lay_out(tree, None).values())


def test_folders_of_parts_that_are_not_there_are_told_with_those_that_are():
    for names in (CUT, [f"data/{name}" for name in CUT]):
        with pytest.raises(ValueError, match="names trian, but the folders are test, train; name"):
            lay_out(names, {"train": "trian", "test": "test"})


def test_usual_names_of_parts_in_any_case():
    names = ["Training/a/1.jpg", "valid/a/2.jpg", "VALIDATION/b/3.jpg", "Test/b/4.jpg"]
    assert list(lay_out(names, None).values()) == [
        "train/a/1.jpg",
        "val/a/2.jpg",
        "val/b/3.jpg",
        "test/b/4.jpg",
    ]


def test_own_names_of_parts():
    names = ["rps/rock/1.png", "rps-test-set/rock/2.png"]
    assert list(lay_out(names, {"train": "rps", "test": "rps-test-set"}).values()) == [
        "train/rock/1.png",
        "test/rock/2.png",
    ]
    with pytest.raises(ValueError, match="lies beside the folders rps"):
        lay_out([*names, "train/rock/3.png"], {"train": "rps"})


def test_classes_called_train_and_bus_with_no_parts():
    names = ["train/1.jpg", "bus/2.jpg"]
    assert list(lay_out(names, {}).values()) == ["whole/train/1.jpg", "whole/bus/2.jpg"]


def test_a_train_part_alone():
    assert lay_out(["train/a/1.jpg", "train/b/2.jpg"], None)["train/a/1.jpg"] == "train/a/1.jpg"


def test_wrong_files_count_in_class_folders_alone():
    names = ["a/1.jpg", "b/2.jpg", "b/notes.txt", "README.md"]
    assert set(lay_out(names, None)) == {"a/1.jpg", "b/2.jpg", "b/notes.txt"}


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ([], "no images found"),
        (["a/1.txt"], "no images found"),
        (["a/1.jpg", "b/2.jpg", "3.jpg"], r"3\.jpg: is in no class folder"),
        (["train/a/1.jpg", "train/2.jpg"], r"train/2\.jpg: is in no class folder"),
        (["train/a/1.jpg", "more/a/2.jpg"], r"more/a/2\.jpg: lies beside the folders train"),
    ],
)
def test_other_trees_are_refused_by_name(names, message):
    with pytest.raises(ValueError, match=message):
        lay_out(names, None)


def test_equal_images_give_equal_bytes_wherever_they_came_from(tmp_path):
    files = {"a/1.jpg": b"one", "b/é.jpg": b"two", "b/3.jpg": bytes(5000)}
    folder = tmp_path / "folder"
    for name, content in reversed(files.items()):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    backwards = dict(reversed(files.items()))
    sources = [
        folder,
        write_zip(tmp_path / "1", files, zipfile.ZIP_DEFLATED),
        write_zip(tmp_path / "2", backwards),
        write_tar(tmp_path / "3", backwards, "xz"),
    ]
    stored = set()
    for source in sources:
        with open_entries([source], tmp_path) as entries:
            found = [(f"whole/{entry.name}", entry) for entry in entries]
            write_image_archive(found, tmp_path / "out.tar", tmp_path / "out.csv")
        stored.add(tuple((tmp_path / name).read_bytes() for name in ("out.tar", "out.csv")))
    ((archive, table),) = stored
    with tarfile.open(tmp_path / "out.tar") as unpacked:
        members = {m.name: unpacked.extractfile(m).read() for m in unpacked.getmembers()}
    assert members == {f"whole/{name}": content for name, content in files.items()}
    rows = list(csv.DictReader(table.decode().splitlines()))
    assert [row["id"] for row in rows] == sorted(files)
    for row in rows:
        assert row["part"] == "whole" and row["class"] == row["id"][0]
        start = int(row["offset"])
        assert archive[start : start + int(row["size"])] == files[row["id"]]
