"""imgpipe.sources: published files by their sums, anything else as the user gives it."""

import hashlib
import re

import pytest

from https_server import serving
from imgpipe import downloads
from imgpipe.files import remove
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
    names, words, _ = fetch_recorded(tmp_path, {}, **changes)
    return names, words


def fetch_recorded(tmp_path, recorded, **changes):
    """Fetch a dataset, and make sure that nothing but downloads stays behind."""
    folder, scratch = tmp_path / "work/raw", tmp_path / "work/scratch"
    remove(folder)
    folder.mkdir(parents=True)
    try:
        words, sums = fetch_dataset(make_dataset(**changes), folder, scratch, recorded)
    finally:
        assert {path.name for path in scratch.iterdir()} <= {"downloads"}
    return sorted(file.name for file in folder.iterdir()), words, sums


def sum_of(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_any_tree_of_images_is_taken_as_it_is(tmp_path):
    tree = write_image_tree(tmp_path / "tree", {"a": 2, "b": 3})
    names, words = fetch(tmp_path, source=str(tree))
    assert names == ["images.csv", "images.tar"]
    assert words == f"5 image files from your {tree}"


@pytest.fixture
def site(tmp_path, monkeypatch):
    """A web server with one archive of images."""
    monkeypatch.setattr(downloads, "RETRY_SECONDS", 0)
    with serving(monkeypatch) as site:
        site.files["/a.zip"] = write_zip(tmp_path / "a.zip", IMAGES).read_bytes()
        yield site


def sum_of_bytes(content):
    return hashlib.sha256(content).hexdigest()


def test_an_archive_at_an_address(tmp_path, site):
    address = site.url + "a.zip?download=1"
    before = {"https://other/": "0" * 64}
    names, words, sums = fetch_recorded(tmp_path, before, source=address)
    assert names == ["images.csv", "images.tar"]
    assert words == f"2 image files from your {site.url}a.zip?download=***"
    assert sums == {"https://other/": "0" * 64, address: sum_of_bytes(site.files["/a.zip"])}
    assert list(sums) == sorted(sums)
    assert len(before) == 1  # the caller's own mapping stays as it was


def test_an_address_must_have_the_same_bytes_ever_after(tmp_path, site):
    address, old = site.url + "a.zip", site.files["/a.zip"]
    _, _, sums = fetch_recorded(tmp_path / "1", {}, source=address)
    assert fetch_recorded(tmp_path / "2", sums, source=address)[2] == sums
    new = site.files["/a.zip"] = write_zip(tmp_path / "a.zip", {"a/1.jpg": b"other"}).read_bytes()
    told = (
        f"{address}: now has the SHA-256 sum {sum_of_bytes(new)}, but sources.lock has "
        f"{sum_of_bytes(old)} from the first time; if the new content is meant, remove this "
        "address's line from sources.lock and run dvc repro -f fetch"
    )
    with pytest.raises(ValueError, match=f"^{re.escape(told)}$"):
        fetch_recorded(tmp_path / "3", sums, source=address)
    _, _, sums = fetch_recorded(tmp_path / "3", {}, source=address)
    assert sums == {address: sum_of_bytes(new)}


def test_an_address_with_a_query_is_another_address(tmp_path, site):
    site.files["/b.zip"] = write_zip(tmp_path / "b.zip", {"a/1.jpg": b"b"}).read_bytes()
    site.answers["/get"] = lambda handler: handler.send_file(
        site.files[f"/{handler.path[-1]}.zip"], site
    )
    _, _, sums = fetch_recorded(tmp_path, {}, source=site.url + "get?file=a")
    _, _, sums = fetch_recorded(tmp_path, sums, source=site.url + "get?file=b")
    assert len(set(sums.values())) == 2


def test_several_addresses_of_one_file_name(tmp_path, site):
    for part in ("train", "test"):
        path = write_zip(tmp_path / "x.zip", {f"{part}/a/1.jpg": part.encode()})
        site.files[f"/{part}/x.zip"] = path.read_bytes()
    own = write_zip(tmp_path / "val.zip", {"val/a/1.jpg": b"val"})
    places = [site.url + "train/x.zip", str(own), site.url + "test/x.zip"]
    _, words, sums = fetch_recorded(tmp_path, {}, source=places[::2])
    assert words.startswith("2 image files") and sorted(sums) == sorted(places[::2])
    _, _, sums = fetch_recorded(tmp_path, {}, source=places[:2])
    assert list(sums) == places[:1]  # a file's sum is DVC's business


def test_an_address_s_download_is_continued_by_the_next_run(tmp_path, site, monkeypatch):
    site.drops = [50]
    monkeypatch.setattr(downloads, "TRIES", 1)
    with pytest.raises(OSError, match="broke off"):
        fetch(tmp_path, source=site.url + "a.zip")
    fetch(tmp_path, source=site.url + "a.zip")
    assert [request.range for request in site.requests] == [None, "bytes=50-"]


def test_a_bad_file_at_an_address_is_fetched_anew_once_it_is_mended(tmp_path, site):
    good, site.files["/a.zip"] = site.files["/a.zip"], b"no zip"
    with pytest.raises(ValueError, match=rf"{site.url}a\.zip: is not a whole"):
        fetch(tmp_path, source=site.url + "a.zip")
    site.files["/a.zip"], site.headers = good, {"ETag": '"2"'}
    fetch(tmp_path, source=site.url + "a.zip")


def test_a_name_cannot_lead_out_of_the_scratch_folder(tmp_path, site):
    site.answers["/a/..%2F..%2F..%2F..%2Fx.zip"] = lambda handler: handler.send_file(
        site.files["/a.zip"], site
    )
    fetch(tmp_path, source=site.url + "a/..%2F..%2F..%2F..%2Fx.zip")
    assert [path.parent.parent.name for path in tmp_path.rglob("x.zip")] == ["downloads"]


def test_an_address_that_does_not_answer(tmp_path):
    address = "https://host.invalid/photos.zip"
    told = rf"^{address}\?id=\*\*\*: cannot be downloaded \(.*; check the address"
    with pytest.raises(OSError, match=told) as caught:
        fetch(tmp_path, source=f"{address}?id=hidden")
    assert "hidden" not in str(caught.value)


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
    assert names == ["images.csv", "images.tar"] and words == f"2 image files from source {path}"
    fetch(tmp_path / "2", source=str(tmp_path), files=pinned)  # the folder it lies in
    path.write_bytes(path.read_bytes() + b"x")
    with pytest.raises(ValueError, match=r"published.zip has the SHA-256 sum"):
        fetch(tmp_path / "3", source=str(path), files=pinned)


def test_a_folder_that_may_not_be_read_is_named(tmp_path, monkeypatch):
    def refuse(path):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr("pathlib.Path.iterdir", refuse)
    with pytest.raises(
        PermissionError, match=rf"^{tmp_path}: cannot be read for want of permission"
    ):
        fetch_dataset(
            make_dataset(source=str(tmp_path), files={"a.zip": "0" * 64}),
            tmp_path,
            tmp_path / "scratch",
            {},
        )


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
