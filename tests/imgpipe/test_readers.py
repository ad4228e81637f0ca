"""imgpipe.readers: one table and one way to the pixels."""

import io
import pickle

import numpy as np
import pytest

from imgpipe.entries import Entry
from imgpipe.idx import write_idx
from imgpipe.image_tree import write_image_archive
from imgpipe.readers import list_raw_images, raw_reader, read_ids
from tiny import encode_image, make_images, write_idx_dataset


def colours(count, size=8):
    return make_images(count, size=size, channels=3)[0]


def write_image_files(folder, files):
    """Write data/raw as fetch does: name to content."""
    entries = [
        (name, Entry(name, len(content), lambda content, _: io.BytesIO(content), content))
        for name, content in sorted(files.items())
    ]
    write_image_archive(entries, folder / "images.tar", folder / "images.csv")


def test_reads_any_rows_in_any_order(tmp_path):
    write_idx_dataset(tmp_path, train=20, test=10)
    table, class_names = list_raw_images(tmp_path, None)
    train, test = make_images(20, seed=20)[0], make_images(10, seed=10)[0]
    everything = np.concatenate([train, test])
    rows = np.array([29, 0, 20, 19, 5])
    np.testing.assert_array_equal(list(raw_reader(tmp_path)(rows)), everything[rows])
    ids = [f"train/{n:05d}" for n in range(20)] + [f"test/{n:05d}" for n in range(10)]
    assert list(read_ids(tmp_path)) == ids
    assert list(table["part"]) == ["train"] * 20 + ["test"] * 10
    assert list(table["label"]) == [i % 10 for i in range(20)] + list(range(10))
    assert class_names == list("0123456789")


def test_colour_arrays_without_a_test_part(tmp_path):
    images = colours(6)
    write_idx(tmp_path / "train-images-idx4-ubyte", images)
    write_idx(tmp_path / "train-labels-idx1-ubyte", np.arange(6) % 2)
    table, class_names = list_raw_images(tmp_path, ["a", "b"])
    np.testing.assert_array_equal(list(raw_reader(tmp_path)(np.array([5, 2]))), images[[5, 2]])
    assert set(table["part"]) == {"whole"} and class_names == ["a", "b"]


@pytest.mark.parametrize(
    ("name", "array", "message"),
    [
        ("train-labels-idx1-ubyte", np.zeros(19), "do not go with labels of shape"),
        ("train-labels-idx1-ubyte", np.full(20, 10), "label 10 found where class_names"),
        ("t10k-images-idx3-ubyte", np.zeros((10, 9, 9)), "both must have one size"),
        ("train-images-idx3-ubyte", np.zeros((20, 784)), "do not go with labels"),
    ],
)
def test_refuses_files_that_do_not_fit(tmp_path, name, array, message):
    write_idx_dataset(tmp_path, train=20, test=10)
    write_idx(tmp_path / name, array)
    with pytest.raises(ValueError, match=message):
        list_raw_images(tmp_path, list("abcdefghij"))


@pytest.fixture
def archive(tmp_path):
    images = colours(4)
    files = {
        "test/猫/4.png": encode_image(images[3]),
        "train/dog/1.png": encode_image(images[0]),
        "train/dog/2.jpg": b"no image",
        "train/猫/3.png": encode_image(images[2][:5]),
        "train/猫/5.png": b"",
    }
    write_image_files(tmp_path, files)
    return tmp_path, images


def test_an_archive_of_image_files(archive):
    folder, images = archive
    table, class_names = list_raw_images(folder, None)
    assert class_names == ["dog", "猫"]
    assert list(table["label"]) == [1, 0, 0, 1, 1]
    assert list(table["part"]) == ["test", "train", "train", "train", "train"]
    read = pickle.loads(pickle.dumps(raw_reader(folder)))
    one, other, wrong, empty = read(np.array([3, 0, 2, 4]))
    np.testing.assert_array_equal(one, images[2][:5])
    np.testing.assert_array_equal(other, images[3])
    assert str(wrong) == "train/dog/2.jpg: cannot be decoded as an image (not an image file)"
    assert str(empty) == "train/猫/5.png: is empty"


def test_another_archive_in_the_same_place_is_seen(archive):
    folder, images = archive
    list(raw_reader(folder)(np.array([0])))
    files = {f"whole/{name}/1.png": encode_image(images[1]) for name in "ab"}
    write_image_files(folder, files)
    table, _ = list_raw_images(folder, None)
    assert list(read_ids(folder)) == ["a/1.png", "b/1.png"] and set(table["part"]) == {"whole"}
    np.testing.assert_array_equal(next(raw_reader(folder)(np.array([0]))), images[1])


@pytest.mark.parametrize(
    "damage",
    [
        b"",
        b"part,class\n",
        b"part,class,id,offset,size\nwhole,a,a/1,x,5\nwhole,b,b/1,0,5\n",
        b"\xff",
    ],
)
def test_a_damaged_table_of_files_is_refused(archive, damage):
    folder, _ = archive
    (folder / "images.csv").write_bytes(damage)
    with pytest.raises(ValueError, match=r"images\.csv: is damaged .*; run dvc repro -f fetch"):
        list_raw_images(folder, None), list(raw_reader(folder)(np.array([0])))


def test_classes_of_an_archive_in_the_order_asked_for(archive):
    folder, _ = archive
    assert list(list_raw_images(folder, ["猫", "dog"])[0]["label"]) == [0, 1, 1, 0, 0]
    with pytest.raises(ValueError, match=r"class_names \(cat, dog\) lacks the class folders 猫"):
        list_raw_images(folder, ["cat", "dog"])


def test_a_single_class_is_refused(tmp_path):
    write_image_files(tmp_path, {"whole/a/1.png": b"", "whole/a/2.png": b""})
    with pytest.raises(
        ValueError, match=r"all images are in one class folder, a, .*; add a folder"
    ):
        list_raw_images(tmp_path, None)


@pytest.mark.parametrize("class_names", [None, ["a", "b"]])
def test_a_single_label_is_refused(tmp_path, class_names):
    for part, count in (("train", 6), ("t10k", 3)):
        write_idx(tmp_path / f"{part}-images-idx3-ubyte", np.zeros((count, 5, 5)))
        write_idx(tmp_path / f"{part}-labels-idx1-ubyte", np.zeros(count))
    with pytest.raises(ValueError, match=r"all images have the label 0, .*; add images of another"):
        list_raw_images(tmp_path, class_names)


@pytest.mark.parametrize(
    ("labels", "told"), [([0, 1, 255, 1], "up to 255 but none is 2"), ([1, 2, 2, 1], "none is 0")]
)
def test_labels_with_gaps_need_names(tmp_path, labels, told):
    write_idx(tmp_path / "train-images-idx3-ubyte", np.zeros((4, 5, 5)))
    write_idx(tmp_path / "train-labels-idx1-ubyte", np.array(labels))
    with pytest.raises(ValueError, match=rf"there are labels .*{told}; mend the labels, or name"):
        list_raw_images(tmp_path, None)
    names = [str(n) for n in range(256)]
    assert list(list_raw_images(tmp_path, names)[0]["label"]) == labels


@pytest.mark.parametrize("name", ["a ", " a", "a" * 201])
def test_a_class_folder_that_cannot_be_told_from_others_is_refused(tmp_path, name):
    write_image_files(tmp_path, {f"whole/{name}/1.png": b"", "whole/b/2.png": b""})
    with pytest.raises(ValueError, match=r"the class folder '.*' has blanks .* characters; rename"):
        list_raw_images(tmp_path, None)
