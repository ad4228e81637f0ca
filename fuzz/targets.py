"""What reads files from strangers, each with small whole files to start from, and one property.

Whatever the bytes: the reader returns, or raises ValueError or OSError with one short line that
names the file; it warns of nothing and leaves nothing behind.
"""

import functools
import gzip
import io
import json
import lzma
import shutil
import tarfile
import tempfile
import warnings
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from imgpipe.cifar import parse_cifar
from imgpipe.contract import Contract, load_contract, save_trained
from imgpipe.entries import open_entries
from imgpipe.idx import open_idx, write_idx
from imgpipe.images import decode_image
from imgpipe.params import load_params
from imgpipe.pixel_csv import parse_pixel_csv

PARAMS = Path(__file__).parents[1] / "params.yaml"
LONGEST_MESSAGE = 600  # characters


@dataclass(frozen=True)
class Target:
    """One reader.

    Attributes:
        file_name: what the file is called.
        read: reads the file at a path to its end.
        make_seeds: makes whole files.
    """

    file_name: str
    read: Callable[[Path], None]
    make_seeds: Callable[[], list[bytes]]


def check(target: Target, content: bytes) -> None:
    """Have a target read a file of these bytes; raise AssertionError if the property fails."""
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings(action="error"):
        warnings.simplefilter("ignore", DeprecationWarning)  # Keras's own, of NumPy
        path = Path(folder) / target.file_name
        path.write_bytes(content)
        try:
            target.read(path)
        except (ValueError, OSError) as error:
            message = str(error)
            assert target.file_name in message, message
            assert len(message) < LONGEST_MESSAGE + len(folder), message
            assert message.isprintable(), message
        left = [file.name for file in Path(folder).iterdir()]
        assert left == [target.file_name], left


def _read_archive(path: Path) -> None:
    with (
        tempfile.TemporaryDirectory() as scratch,
        open_entries([path], Path(scratch)) as entries,
    ):
        for entry in entries:
            try:
                with entry.open() as file:
                    while file.read(1 << 16):
                        pass
            except ValueError as error:
                raise ValueError(f"{path}: {error}") from None
        left = [file.name for file in Path(scratch).iterdir()]
        assert not left, left


def _zip_seeds() -> list[bytes]:
    seeds = []
    for method in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        file = io.BytesIO()
        with zipfile.ZipFile(file, "w", method) as archive:
            archive.comment = b"c"
            archive.mkdir("cats")
            archive.writestr("cats/1.jpg", b"one" * 50)
            with archive.open("dogs/ü.jpg", "w", force_zip64=True) as member:
                member.write(b"two")
        seeds.append(file.getvalue())
    return seeds


def _tar_seeds() -> list[bytes]:
    seeds = []
    for format in (tarfile.PAX_FORMAT, tarfile.GNU_FORMAT):
        file = io.BytesIO()
        with tarfile.open(fileobj=file, mode="w", format=format) as archive:
            for name in ("cats/1.jpg", "dogs/" + 60 * "long" + "ü.jpg"):
                member = tarfile.TarInfo(name)
                member.size = 100
                archive.addfile(member, io.BytesIO(bytes(100)))
        seeds.append(file.getvalue()[:-8192])
    return [*seeds, gzip.compress(seeds[0], mtime=0), lzma.compress(seeds[1])]


def _idx_seeds() -> list[bytes]:
    seeds = []
    for shape in ((5,), (2, 3, 4), (1, 2, 2, 3)):
        with tempfile.NamedTemporaryFile() as file:
            write_idx(Path(file.name), np.zeros(shape, np.uint8))
            seeds.append(Path(file.name).read_bytes())
    return seeds


def _read_cifar(path: Path) -> None:
    with path.open("rb") as file:
        for _ in parse_cifar(file, path.name):
            pass


def _cifar_seeds() -> list[bytes]:
    return [bytes(3073), bytes(2 * 3073)]


def _read_csv(path: Path) -> None:
    with path.open("rb") as file:
        for _ in parse_pixel_csv(file, path.name):
            pass


def _csv_seeds() -> list[bytes]:
    text = "label,pixel1,pixel2,pixel3,pixel4\n1,2,3,4,5\n0,255,0,1,7\n"
    return [text.encode(), ("\ufeff" + text.replace("\n", "\r\n")).encode(), b'"label",pixel1\n']


def _image_seeds() -> list[bytes]:
    exif = Image.Exif()
    exif[0x0112] = 6
    exif[0x010E] = "text"
    seeds = []
    for mode in ("RGB", "L", "P", "1", "RGBA", "LA", "CMYK", "I;16", "F"):
        picture = Image.linear_gradient("L").resize((6, 4))
        picture = Image.new(mode, (6, 4)) if mode in ("I;16", "F") else picture.convert(mode)
        for format in ("BMP", "GIF", "JPEG", "PNG", "TIFF", "WEBP"):
            options = {} if format in ("BMP", "GIF") else {"exif": exif, "icc_profile": b"icc" * 9}
            if format == "TIFF":
                options = {"compression": "tiff_lzw"}
            file = io.BytesIO()
            try:
                picture.save(file, format, **options)
            except (OSError, ValueError):  # a format that lacks the mode
                continue
            seeds.append(file.getvalue())
    return seeds


def _params_seeds() -> list[bytes]:
    text = PARAMS.read_text("utf-8")
    small = "dataset: &a {x: [1, 2.5, null]}\nmodel: [*a, <<, '~']\nseed: 0x1F\n"
    return [text.encode(), small.encode(), b"a: &a {b: 1}\nc: {<<: *a, d: 2020-01-01}\n"]


def _contract_seeds() -> list[bytes]:
    content = {
        "dataset": "d",
        "model": "m",
        "class_names": ["a", "b"],
        "image_size": [4, 4],
        "channels": 1,
        "backbone": None,
    }
    return [json.dumps(content).encode()]


@functools.cache
def _stored_model() -> Path:
    """Make a folder with a small trained model; it lasts as long as this process."""
    import keras

    folder = tempfile.TemporaryDirectory()
    _stored_model.folder = folder
    layers = keras.layers
    model = keras.Sequential(
        [
            keras.Input((4, 4, 1), dtype="uint8"),
            layers.Rescaling(1 / 255),
            layers.Conv2D(2, 3),
            layers.Flatten(),
            layers.Dense(2),
        ]
    )
    contract = Contract(**json.loads(_contract_seeds()[0]))
    save_trained(Path(folder.name), model, contract, Path())
    return Path(folder.name)


def _read_architecture(path: Path) -> None:
    from imgpipe.trained import load_trained

    with tempfile.TemporaryDirectory() as folder:
        shutil.copytree(_stored_model(), folder, dirs_exist_ok=True)
        shutil.copy(path, folder)
        try:
            load_trained(Path(folder))
        except ValueError as error:  # another model than the other files are of
            raise ValueError(f"{path}: {error}") from None


def _architecture_seeds() -> list[bytes]:
    return [json.dumps(json.loads((_stored_model() / "model.json").read_bytes())).encode()]


@functools.cache
def _loaded_model():
    from imgpipe.trained import load_trained

    return load_trained(_stored_model()).model


def _read_weights(path: Path) -> None:
    from imgpipe.weights_files import load_weights

    load_weights(_loaded_model(), path, "give another")


def _weights_seeds() -> list[bytes]:
    return [(_stored_model() / "model.weights.h5").read_bytes()]


TARGETS = {
    "zip": Target("a.zip", _read_archive, _zip_seeds),
    "tar": Target("a.tar", _read_archive, _tar_seeds),
    "idx": Target("a-idx3-ubyte", lambda path: open_idx(path).sum(), _idx_seeds),
    "cifar": Target("a.bin", _read_cifar, _cifar_seeds),
    "csv": Target("a.csv", _read_csv, _csv_seeds),
    "image": Target("a.jpg", lambda path: decode_image(path, path.name), _image_seeds),
    "params": Target("params.yaml", load_params, _params_seeds),
    "contract": Target("contract.json", load_contract, _contract_seeds),
    "architecture": Target("model.json", _read_architecture, _architecture_seeds),
    "weights": Target("a.weights.h5", _read_weights, _weights_seeds),
}
