"""imgpipe.readers: one table and one way to the pixels."""

import numpy as np
import pytest

from imgpipe.readers import open_raw_images
from tiny import make_images, write_idx, write_idx_dataset


def test_reads_any_rows_in_any_order(tmp_path):
    write_idx_dataset(tmp_path, train=20, test=10)
    raw = open_raw_images(tmp_path, "idx", 10)
    train, test = make_images(20, seed=20)[0], make_images(10, seed=10)[0]
    everything = np.concatenate([train, test])
    rows = np.array([29, 0, 20, 19, 5])
    np.testing.assert_array_equal(raw.read(rows), everything[rows])
    assert raw.table["id"].is_unique
    assert list(raw.table["part"]) == ["train"] * 20 + ["test"] * 10
    assert list(raw.table["label"]) == [i % 10 for i in range(20)] + list(range(10))


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
        open_raw_images(tmp_path, "idx", 10)
