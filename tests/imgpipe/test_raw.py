"""imgpipe.raw: what a source holds is told by its files, and stored in one of two forms."""

import gzip
import io
import tracemalloc
import zipfile

import numpy as np
import pytest

from imgpipe import image_tree, pixel_csv
from imgpipe.entries import open_entries
from imgpipe.idx import open_idx, write_idx
from imgpipe.raw import store_raw
from tiny import make_images, write_idx_dataset, write_zip


def store(tmp_path, *sources, part_folders=None):
    target = tmp_path / "raw"
    target.mkdir()
    with open_entries(list(sources), tmp_path) as entries:
        words = store_raw(entries, target, part_folders)
    return target, words


def write_csv(path, images, labels):
    header = ",".join(["label", *(f"pixel{n + 1}" for n in range(images[0].size))])
    rows = np.column_stack([labels, images.reshape(len(images), -1)])
    np.savetxt(path, rows, fmt="%d", delimiter=",", header=header, comments="")


def test_csv_files_give_the_bytes_of_idx_files(tmp_path):
    write_idx_dataset(tmp_path / "idx", train=20, test=10)
    (tmp_path / "csv").mkdir()
    for part, count in (("train", 20), ("test", 10)):
        images, labels = make_images(count, seed=count)
        write_csv(tmp_path / f"csv/fashion-mnist_{part}.csv", images, labels)
    target, words = store(tmp_path, tmp_path / "csv")
    assert words == "2 CSV files"
    expected = {file.name: file.read_bytes() for file in (tmp_path / "idx").iterdir()}
    assert {file.name: file.read_bytes() for file in target.iterdir()} == expected


def test_idx_files_gzipped_or_not_in_an_archive(tmp_path):
    write_idx_dataset(tmp_path / "idx", train=20, test=10)
    expected = {file.name: file.read_bytes() for file in (tmp_path / "idx").iterdir()}
    files = {f"raw/{name}.gz": gzip.compress(content) for name, content in expected.items()}
    target, _ = store(tmp_path, write_zip(tmp_path / "a.zip", files))
    assert {file.name: file.read_bytes() for file in target.iterdir()} == expected


def test_cifar_batches(tmp_path):
    images, labels = make_images(30, size=32, channels=3)
    records = np.column_stack([labels, images.transpose(0, 3, 1, 2).reshape(30, -1)])
    records = records.astype(np.uint8)
    files = {"batches.meta.txt": b"airplane\n", "test_batch.bin": records[20:].tobytes()}
    for number in range(2):
        batch = records[10 * number : 10 * (number + 1)]
        files[f"data_batch_{number + 1}.bin"] = batch.tobytes()
    files = {f"cifar-10-batches-bin/{name}": content for name, content in files.items()}
    target, _ = store(tmp_path, write_zip(tmp_path / "a.zip", files))
    np.testing.assert_array_equal(open_idx(target / "train-images-idx4-ubyte"), images[:20])
    np.testing.assert_array_equal(open_idx(target / "t10k-images-idx4-ubyte"), images[20:])
    np.testing.assert_array_equal(open_idx(target / "t10k-labels-idx1-ubyte"), labels[20:])


def test_images_are_one_file_and_what_is_ignored_is_named(tmp_path):
    files = {"a/1.jpg": b"1", "b/2.jpg": b"2", "labels.csv": b"3", "LICENSE": b"4"}
    target, words = store(tmp_path, write_zip(tmp_path / "a.zip", files))
    assert sorted(file.name for file in target.iterdir()) == ["images.csv", "images.tar"]
    assert words == "2 image files (2 other files ignored: LICENSE, labels.csv)"


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({}, "holds no images, IDX, CSV or CIFAR-10 files .but nothing at all"),
        ({"a.txt": b"", "b.txt": b""}, r"but a\.txt, b\.txt"),
        ({"some.csv": b"label,pixel1\n0,0\n"}, "0 of its CSV files .some.csv. have 'train'"),
        ({"train1.csv": b"", "train2.csv": b""}, "2 of its CSV files"),
        ({"x/Train_test.csv": b""}, "^x/Train_test.csv: has both 'train' and 'test' in its name"),
        ({"x/data_batch_1.bin": b"123"}, "not a multiple of the 3073"),
    ],
)
def test_what_is_no_dataset(tmp_path, files, message):
    with pytest.raises(ValueError, match=message):
        store(tmp_path, write_zip(tmp_path / "a.zip", files))


IDX = {f"{part}-{kind}" for part in ("train", "t10k") for kind in ("images-idx3", "labels-idx1")}


@pytest.mark.parametrize(
    ("present", "lacking"),
    [
        ({"train-images-idx3"}, "train-labels-idx1-ubyte"),
        ({"train-labels-idx1"}, "train-images-idx3-ubyte"),
        ({"t10k-images-idx3", "t10k-labels-idx1"}, "train-images-idx3-ubyte, train-labels-idx1-"),
        (IDX - {"t10k-labels-idx1"}, "t10k-labels-idx1-ubyte"),
        (IDX - {"t10k-images-idx3"}, "t10k-images-idx3-ubyte"),
        (IDX - {"train-images-idx3"} | {"train-images-idx2"}, "train-images-idx3-ubyte"),
    ],
)
@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_idx_files_whose_companion_is_missing(tmp_path, present, lacking, suffix):
    """Found in fetch, whose words are of the user's files, and before anything is stored."""
    files = {f"x/{name}-ubyte{suffix}": b"" for name in present}
    with pytest.raises(
        ValueError, match=f"^has .*{suffix} but lacks {lacking}.*; images and labels"
    ):
        store(tmp_path, write_zip(tmp_path / "a.zip", files))
    assert not list((tmp_path / "raw").iterdir())


@pytest.mark.parametrize(
    ("name", "twin"),
    [
        ("train-images-idx3-ubyte", "train-images-idx3-ubyte.gz"),
        ("t10k-labels-idx1-ubyte", "t10k-labels-idx1-ubyte.gz"),
        ("train-images-idx3-ubyte", "train-images-idx4-ubyte"),
        ("t10k-images-idx3-ubyte", "t10k-images-idx4-ubyte.gz"),
    ],
)
def test_twins_of_an_idx_file_are_refused(tmp_path, name, twin):
    files = {f"{kind}-ubyte": b"" for kind in IDX} | {twin: b""}
    with pytest.raises(ValueError, match=rf"^{name} and {twin}: one is needed; remove the other$"):
        store(tmp_path, write_zip(tmp_path / "a.zip", files))


def test_cifar_without_images_to_train_on(tmp_path):
    files = {"x/test_batch.bin": bytes(3073)}
    with pytest.raises(ValueError, match=r"^has test_batch\.bin but lacks data_batch_1\.bin"):
        store(tmp_path, write_zip(tmp_path / "a.zip", files))


def test_idx_arrays_of_colour_round_trip(tmp_path):
    images = make_images(3, size=5, channels=3)[0]
    write_idx(tmp_path / "images", images)
    np.testing.assert_array_equal(open_idx(tmp_path / "images"), images)


def test_a_gzipped_idx_file_that_unpacks_to_too_much_is_refused(tmp_path):
    files = {"train-images-idx3-ubyte.gz": gzip.compress(bytes(70 << 20))}
    files["train-labels-idx1-ubyte"] = b""
    with pytest.raises(
        ValueError, match=r"^train-images-idx3-ubyte\.gz: unpacks to over 200 times"
    ):
        store(tmp_path, write_zip(tmp_path / "a.zip", files))


def test_an_image_file_larger_than_any_is_refused_by_name(tmp_path, monkeypatch):
    monkeypatch.setattr(image_tree, "LARGEST_FILE", 5)
    files = {"a/1.jpg": b"12345", "b/2.jpg": b"123456"}
    with pytest.raises(ValueError, match=r"^b/2\.jpg: has 6 bytes, more than the 5 that an image"):
        store(tmp_path, write_zip(tmp_path / "a.zip", files))
    assert not list((tmp_path / "raw").iterdir())


def hold_at_most(size, tmp_path, *sources):
    tracemalloc.start()
    stored = store(tmp_path, *sources)
    assert tracemalloc.get_traced_memory()[1] < size
    tracemalloc.stop()
    return stored


def test_cifar_batches_of_any_size_take_the_memory_of_a_block(tmp_path):
    """A zip of a few megabytes can hold gigabytes of black images."""
    files = {f"data_batch_{number}.bin": bytes(10_000 * 3073) for number in (1, 2)}
    path = write_zip(tmp_path / "a.zip", files, zipfile.ZIP_DEFLATED)
    target, _ = hold_at_most(16 << 20, tmp_path, path)
    assert open_idx(target / "train-images-idx4-ubyte").shape == (20_000, 32, 32, 3)


def test_a_csv_file_of_any_size_takes_the_memory_of_a_block(tmp_path, monkeypatch):
    monkeypatch.setattr(pixel_csv, "_BLOCK", 1 << 16)
    header = b"label," + b",".join(b"pixel%d" % (n + 1) for n in range(64)) + b"\n"
    line = b"1," + b"0," * 63 + b"0\n"
    list(pixel_csv.parse_pixel_csv(io.BytesIO(header + line), "a.csv"))  # which imports pandas
    files = {"train.csv": header + line * 40_000}
    path = write_zip(tmp_path / "a.zip", files, zipfile.ZIP_DEFLATED)
    target, _ = hold_at_most(2 << 20, tmp_path, path)
    assert open_idx(target / "train-images-idx3-ubyte").shape == (40_000, 8, 8)


def test_two_files_for_one_place_are_refused(tmp_path):
    files = {"a/train-labels-idx1-ubyte": b"1", "b/train-labels-idx1-ubyte": b"2"}
    with pytest.raises(
        ValueError, match=r"^a/train-labels-idx1-ubyte and b/train-labels.*: one is"
    ):
        store(tmp_path, write_zip(tmp_path / "a.zip", files))
