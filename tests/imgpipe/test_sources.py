"""imgpipe.sources: published files by their sums, anything else as the user gives it."""

import hashlib
import shutil
from pathlib import Path

import pytest

from imgpipe.schema import Dataset, PublicSource
from imgpipe.sources import fetch_dataset
from tiny import write_idx_dataset, write_image_tree, write_zip

SPLIT = {"method": "holdout", "val_fraction": 0.2, "seed": 1}
SPLIT |= {"test_fraction": None, "folds": None, "fold": None}
IMAGES = {"a/1.jpg": b"1", "b/2.jpg": b"2"}


def make_dataset(**changes):
    block = {
        "source": None,
        "public_sources": [],
        "files": None,
        "part_folders": None,
        "class_names": None,
        "image_size": [8, 8],
        "channels": 3,
        "group_pattern": None,
        "on_bad_image": "error",
        "split": SPLIT,
    }
    return Dataset.model_validate(block | changes)


def fetch(tmp_path, **changes):
    folder, scratch = tmp_path / "work/raw", tmp_path / "work/scratch"
    folder.mkdir(parents=True)
    scratch.mkdir()
    words = fetch_dataset(make_dataset(**changes), folder, scratch)
    return sorted(file.name for file in folder.iterdir()), words


def sum_of(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_any_tree_of_images_is_taken_as_it_is(tmp_path):
    tree = write_image_tree(tmp_path / "tree", {"a": 2, "b": 3})
    names, words = fetch(tmp_path, source=str(tree))
    assert names == ["images.zip"]
    assert words == f"5 image files from your {tree}"


def test_an_archive_at_an_address(tmp_path, monkeypatch):
    archive = write_zip(tmp_path / "a.zip", IMAGES)
    address = "https://example.org/photos/a.zip?download=1"

    def download(url, path):
        assert url == address
        return Path(shutil.copy(archive, path))

    monkeypatch.setattr("imgpipe.sources.download", download)
    names, words = fetch(tmp_path, source=address)
    assert names == ["images.zip"] and words == f"2 image files from your {address}"


def test_an_address_that_does_not_answer(tmp_path):
    address = "https://host.invalid/photos.zip"
    with pytest.raises(OSError, match=rf"^{address}: cannot be downloaded \(.*; check the address"):
        fetch(tmp_path, source=address)


def test_several_archives(tmp_path):
    one = write_zip(tmp_path / "a.zip", {"rps/a/1.jpg": b"1"})
    other = write_zip(tmp_path / "b.zip", {"rps-test-set/a/1.jpg": b"2"})
    parts = {"train": "rps", "test": "rps-test-set"}
    _, words = fetch(tmp_path, source=[str(one), str(other)], part_folders=parts)
    assert words == f"2 image files from your {one}, {other}"


def test_published_archives_by_name_must_have_the_pinned_sum(tmp_path):
    path = write_zip(tmp_path / "published.zip", IMAGES)
    pinned = {"published.zip": sum_of(path)}
    names, words = fetch(tmp_path / "1", source=str(path), files=pinned)
    assert names == ["images.zip"] and words == f"2 image files from source {path}"
    fetch(tmp_path / "2", source=str(tmp_path), files=pinned)  # the folder it lies in
    path.write_bytes(path.read_bytes() + b"x")
    with pytest.raises(ValueError, match=r"published.zip has the SHA-256 sum"):
        fetch(tmp_path / "3", source=str(path), files=pinned)


def test_images_in_place_of_the_published_files(tmp_path):
    """Another form of the data is nothing that a sum could be pinned for."""
    path = write_zip(tmp_path / "jpg.zip", IMAGES)
    public = [PublicSource(folder="/nowhere")]
    _, words = fetch(
        tmp_path, source=str(path), files={"published.tar.gz": "0" * 64}, public_sources=public
    )
    assert words == f"2 image files from your {path}"


def test_the_next_source_where_the_own_one_is_not_there(tmp_path):
    pinned = write_idx_dataset(tmp_path / "public")
    public = [PublicSource(folder=str(tmp_path / "public"))]
    _, words = fetch(tmp_path, source="/nowhere", files=pinned, public_sources=public)
    assert words == f"4 IDX files from folder {tmp_path / 'public'}"


def test_an_own_source_that_is_damaged_is_named(tmp_path):
    path = write_zip(tmp_path / "a.zip", {"readme": b""})
    with pytest.raises(ValueError, match=rf"^{path}: holds no images"):
        fetch(tmp_path, source=str(path))
