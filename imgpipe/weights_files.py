"""Looking into a weights file before Keras reads it: HDF5 can do more than hold arrays."""

import warnings
from pathlib import Path

import h5py
import keras
import numpy as np

from imgpipe.wording import shorten, word_error

_SUFFIXES = (".h5", ".hdf5")  # Keras chooses by the suffix how to read a file
# In an honest file arrays take as much as the file, or some times more if it is compressed.
_LEAST_BOMB, _BOMB_FACTOR = 64 << 20, 200
_MOST_OBJECTS = 100_000
_LARGEST_ATTRIBUTE = 1 << 20  # values
_FILTERS = (h5py.h5z.FILTER_DEFLATE, h5py.h5z.FILTER_SHUFFLE, h5py.h5z.FILTER_FLETCHER32)


def load_weights(model: keras.Model, path: Path, remedy: str) -> None:
    """Give a model the weights in a file.

    Args:
        model: to change.
        path: a file in either of Keras's two HDF5 layouts.
        remedy: what to do about a file that is not for this model.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is no HDF5 file of arrays of numbers, is damaged, refers to other files, was
            made for another model, or holds infinite values or such that are no numbers.
    """
    try:
        _check_file(path)
        # Keras warns of layers for which it found nothing, and leaves them as they were.
        with warnings.catch_warnings(action="error", category=UserWarning):
            model.load_weights(path)
        _check_values(model)
    except FileNotFoundError:
        raise FileNotFoundError(f"{path}: no such file; {remedy}") from None
    except Exception as error:  # HDF5 and Keras raise whatever there is on files that do not fit
        raise ValueError(
            f"{path}: does not hold the weights of {model.name} ({word_error(error)}); {remedy}"
        ) from None


def _check_values(model: keras.Model) -> None:
    """Refuse weights that make every answer wrong without a word: ReLU turns NaN into 0."""
    for variable in model.variables:
        if not np.isfinite(np.asarray(variable, np.float32)).all():
            raise ValueError(f"{variable.path} in it is infinite or no number")


def _check_file(path: Path) -> None:
    """Refuse a file that holds anything but arrays of numbers, or claims more than it holds."""
    with path.open("rb"):  # says so if it is missing or may not be read
        pass
    if not h5py.is_hdf5(path):
        raise ValueError("it is not an HDF5 file")
    if not path.name.lower().endswith(_SUFFIXES):
        raise ValueError(f"its name must end in {' or '.join(_SUFFIXES)}")
    with h5py.File(path, "r") as file:
        claimed = _check_group(file, set())
    if claimed > max(_LEAST_BOMB, _BOMB_FACTOR * path.stat().st_size):
        raise ValueError(f"its arrays claim {claimed:,} bytes")


def _check_group(group: h5py.Group, seen: set) -> int:
    """Check a group with all below it; return how many bytes its arrays claim."""
    _check_attributes(group)
    claimed = 0
    for name in group:
        if not isinstance(group.get(name, getlink=True), h5py.HardLink):
            raise ValueError(f"{shorten(name)} in it is a link")
        item = group[name]
        place = h5py.h5o.get_info(item.id).addr
        if place in seen or len(seen) >= _MOST_OBJECTS:
            raise ValueError(f"{shorten(name)} in it stands in two places, or is one too many")
        seen.add(place)
        if isinstance(item, h5py.Group):
            claimed += _check_group(item, seen)
        elif isinstance(item, h5py.Dataset):
            claimed += _check_array(item)
        else:
            raise ValueError(f"{shorten(name)} in it is no array")
    return claimed


def _check_array(array: h5py.Dataset) -> int:
    """Check one array without reading it; return how many bytes it claims."""
    name = shorten(array.name)
    layout = array.id.get_create_plist()
    if array.is_virtual or array.external:
        raise ValueError(f"{name} in it refers to another file")
    if array.dtype.kind not in "biuf" or array.dtype.hasobject or array.shape is None:
        raise ValueError(f"{name} in it holds no numbers")
    filters = {layout.get_filter(number)[0] for number in range(layout.get_nfilters())}
    if not filters <= set(_FILTERS):
        raise ValueError(f"{name} in it is compressed by other means than gzip")
    if not filters and array.nbytes > array.id.get_storage_size():
        raise ValueError(f"{name} in it claims more bytes than are stored")
    _check_attributes(array)
    return array.nbytes


def _check_attributes(item: h5py.Group | h5py.Dataset) -> None:
    for name in item.attrs:
        attribute = item.attrs.get_id(name)
        is_text = h5py.check_string_dtype(attribute.dtype) is not None
        if not (is_text or attribute.dtype.kind in "biufS"):
            raise ValueError(f"the attribute {shorten(name)} in it is neither text nor numbers")
        if np.prod(attribute.shape or (1,), dtype=object) > _LARGEST_ATTRIBUTE:
            raise ValueError(f"the attribute {shorten(name)} in it is too long")
