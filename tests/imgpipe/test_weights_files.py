"""imgpipe.weights_files: arrays of numbers are read, and nothing else that HDF5 can hold."""

import warnings

import h5py
import keras
import numpy as np
import pytest

from imgpipe.weights_files import load_weights


@pytest.fixture(scope="module")
def model():
    return keras.Sequential([keras.Input((4,)), keras.layers.Dense(3, name="dense")], name="small")


@pytest.fixture
def path(tmp_path, model):
    model.save_weights(tmp_path / "own.weights.h5")
    return tmp_path / "own.weights.h5"


def refused(model, path, reason):
    before = model.get_weights()
    with pytest.raises(ValueError, match=reason) as caught:
        load_weights(model, path, "give another")
    told = str(caught.value)
    assert told.startswith(f"{path}: does not hold the weights of small (")
    assert told.endswith("; give another") and told.isprintable() and len(told) < 500
    for kept, weights in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(kept, weights)


def test_what_was_saved_is_loaded(model, path):
    saved = model.get_weights()
    model.set_weights([weights + 1 for weights in saved])
    load_weights(model, path, "give another")
    for expected, weights in zip(saved, model.get_weights(), strict=True):
        np.testing.assert_array_equal(weights, expected)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_weights_that_are_no_numbers_are_refused(model, path, value):
    """A network of them answers all the same, as ReLU makes 0 of NaN."""
    with h5py.File(path, "r+") as file:
        file[KERNEL][2, 1] = value
    with pytest.raises(ValueError, match=r"own.weights.h5: .*kernel in it is infinite or no numb"):
        load_weights(model, path, "give another")
    model.set_weights([np.zeros_like(weights) for weights in model.get_weights()])


KERNEL = "layers/dense/vars/0"


def replace(path, make):
    with h5py.File(path, "r+") as file:
        del file[KERNEL]
        make(file)


def make_virtual(file):
    layout = h5py.VirtualLayout((4, 3), "f4")
    layout[:] = h5py.VirtualSource("/etc/passwd", "x", (4, 3))
    file.create_virtual_dataset(KERNEL, layout)


def make_enormous(file):
    file.create_dataset(KERNEL, (1 << 40, 3), "f4")


def make_enormous_and_compressed(file):
    file.create_dataset(KERNEL, (1 << 40, 3), "f4", chunks=(1024, 3), compression="gzip")


def make_cycle(file):
    file["layers/dense/again"] = file["layers"]
    file.create_dataset(KERNEL, data=np.zeros((4, 3), "f4"))


def make_many_names(file):
    file.create_dataset(KERNEL, data=np.zeros((4, 3), "f4"))
    file["layers/dense/vars/2"] = file[KERNEL]


def make_bad_attribute(file):
    file.create_dataset(KERNEL, data=np.zeros((4, 3), "f4"))
    file.attrs["layer_names"] = file[KERNEL].ref


def make_named_type(file):
    file.create_dataset(KERNEL, data=np.zeros((4, 3), "f4"))
    file["layers/type"] = np.dtype("f4")


def make_references(file):
    file.create_dataset(KERNEL, data=[[file["layers"].ref] * 3] * 4, dtype=h5py.ref_dtype)


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda f: f.__setitem__(KERNEL, h5py.ExternalLink("/etc/passwd", "x")), "0 in it is a link"),
        (lambda f: f.__setitem__(KERNEL, h5py.SoftLink("/layers")), "0 in it is a link"),
        (lambda f: f.create_dataset(KERNEL, (4, 3), "f4", external="/etc/passwd"), "another file"),
        (make_virtual, "refers to another file"),
        (make_references, "holds no numbers"),
        (lambda f: f.create_dataset(KERNEL, (4, 3), h5py.string_dtype()), "holds no numbers"),
        (lambda f: f.create_dataset(KERNEL, (4, 3), h5py.vlen_dtype("f4")), "holds no numbers"),
        (lambda f: f.create_dataset(KERNEL, (4, 3), [("a", "f4")]), "holds no numbers"),
        (lambda f: f.create_dataset(KERNEL, (4, 3), "V8"), "holds no numbers"),
        (lambda f: f.create_dataset(KERNEL, (4, 3), "c8"), "holds no numbers"),
        (lambda f: f.create_dataset(KERNEL, dtype="f4", data=h5py.Empty("f4")), "holds no numbers"),
        (make_enormous, "claims more bytes than are stored"),
        (make_enormous_and_compressed, "its arrays claim [0-9,]+ bytes"),
        (
            lambda f: f.create_dataset(KERNEL, (4, 3), "f4", compression="lzf"),
            "compressed by other means than gzip",
        ),
        (make_cycle, "stands in two places"),
        (make_many_names, "stands in two places"),
        (make_bad_attribute, "attribute layer_names in it is neither text nor numbers"),
        (make_named_type, "type in it is no array"),
        (lambda f: f.create_dataset(KERNEL, data=np.zeros((3, 4), "f4")), "."),
        (lambda f: None, "."),
        (lambda f: f.__delitem__("layers"), "."),
    ],
)  # fmt: skip
def test_what_is_not_plain_arrays_of_this_model(model, path, make, reason):
    replace(path, make)
    refused(model, path, reason)


def test_gzipped_arrays_are_read(model, path):
    kernel = np.arange(12, dtype="f4").reshape(4, 3)
    replace(path, lambda f: f.create_dataset(KERNEL, data=kernel, compression="gzip", shuffle=True))
    load_weights(model, path, "give another")
    np.testing.assert_array_equal(model.get_weights()[0], kernel)


@pytest.mark.parametrize("kept", [0.0, 0.1, 0.5, 0.9, 0.99])
def test_a_truncated_file(model, path, kept):
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * kept)])
    refused(model, path, ".")


@pytest.mark.parametrize("name", ["own.keras", "own.weights.json", "own.bin", "own", "own.npz"])
def test_the_content_and_the_suffix_must_both_be_hdf5(model, path, name):
    refused(model, path.rename(path.with_name(name)), r"its name must end in \.h5 or \.hdf5")


def test_a_pickle_is_not_opened(model, tmp_path):
    path = tmp_path / "own.weights.h5"
    with path.open("wb") as file:
        np.savez(file, x=np.array([{}], object))
    refused(model, path, "it is not an HDF5 file")


def test_a_missing_file(model, tmp_path):
    with pytest.raises(FileNotFoundError, match="own: no such file; give another"):
        load_weights(model, tmp_path / "own", "give another")


def test_a_layer_that_keras_only_warns_of_is_an_error(model, path, monkeypatch):
    def load(self, path):
        warnings.warn("Skipping nested container: layers keep their weights", stacklevel=1)

    monkeypatch.setattr(type(model), "load_weights", load)
    refused(model, path, "Skipping nested container")
