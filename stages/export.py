"""export: write the trained model as one network that runs without this project. Run by hand.

python -m stages.export --format onnx|tflite|saved_model [--out FOLDER]

Reads data/model; compares on images of data/arrays. Writes a folder, by default
data/export/<dataset>-<model>/<format>: the network, export.json (what goes in, what comes out, the
class names, how it compared) and README.md (how to run it).
"""

import argparse
import re
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from imgpipe.arrays import open_array
from imgpipe.contract import CONTRACT, Contract, load_contract
from imgpipe.files import holding, replacing, write_json
from imgpipe.stage import WORK, importing_keras, quiet_import, run_main
from imgpipe.wording import shorten

MODEL = Path("data/model")
IMAGES = Path("data/arrays/test_images.npy")
EXPORTS = Path("data/export")
PACKAGES = {"onnx": ["tf2onnx", "onnx", "onnxruntime"], "tflite": [], "saved_model": []}
FILES = {  # that exports consist of
    "README.md",
    "assets",
    "export.json",
    "fingerprint.pb",
    "model.onnx",
    "model.tflite",
    "saved_model.pb",
    "variables",
}
BUSY = "another export is running in this folder; wait until it has ended"


def main():
    """Convert, compare, and only then give it its name."""
    arguments = parse_arguments()
    require_packages(arguments.format)
    contract = load_contract(MODEL / CONTRACT)
    images = open_images(contract)
    out = arguments.out or choose_folder(contract, arguments.format)
    require_replaceable(out)
    with holding(WORK / "export.lock", BUSY), replacing(out) as folder:
        folder.mkdir()
        comparison = convert(arguments.format, images, folder)
        size = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
    others = f"all but {comparison.other_classes:,}" if comparison.other_classes else "all"
    print(
        f"export: {out}, {size / 1e6:,.1f} MB; of {comparison.images:,} test images {others} in "
        f"the trained model's class, probabilities within {comparison.largest_difference:.1e}"
    )


def convert(format: str, images: np.ndarray, folder: Path):
    """Write a network with its description into an existing folder; return the comparison."""
    with importing_keras():
        import tensorflow as tf

        from imgpipe.export import (
            DESCRIPTION,
            choose_images,
            compare_export,
            describe_export,
            join_network,
            run_export,
            write_network,
            write_readme,
        )
        from imgpipe.inspection import measure_cost
        from imgpipe.trained import load_trained

    tf.config.set_visible_devices([], "GPU")  # whose arithmetic rounds more than is allowed
    trained = load_trained(MODEL)
    images = choose_images(images, measure_cost(trained)["multiply_adds"])
    description = describe_export(trained.contract)
    network = join_network(trained)
    with quiet_import():  # converters and runtimes print as much
        path = write_network(format, network, folder, description)
        exported = run_export(format, path, images)
    comparison = compare_export(exported, trained, images)
    write_json(description | {"comparison": asdict(comparison)}, folder / DESCRIPTION)
    write_readme(folder / "README.md", format, description, comparison)
    return comparison


def require_packages(format: str) -> None:
    """Make sure that what a format needs is installed.

    Raises:
        ValueError: it is not.
    """
    if missing := [name for name in PACKAGES[format] if find_spec(name) is None]:
        raise ValueError(
            f"--format {format} needs {', '.join(missing)}; run "
            "python -m pip install -r requirements-export.txt --require-hashes"
        )


def open_images(contract: Contract) -> np.ndarray:
    """Open the test images.

    Raises:
        FileNotFoundError: there are none.
        ValueError: they are not such as the model takes.
    """
    images = open_array(IMAGES)
    expected = (*contract.image_size, contract.channels)
    if images.dtype != np.uint8 or images.shape[1:] != expected or not len(images):
        raise ValueError(
            f"{IMAGES}: holds {images.dtype} {images.shape} where the model in {MODEL} takes "
            f"uint8 images of {expected}; run dvc repro"
        )
    return images


def choose_folder(contract: Contract, format: str) -> Path:
    """Name the folder after the model.

    Raises:
        ValueError: a name in the contract, which may be a stranger's, makes no folder's name.
    """
    for name in (contract.dataset, contract.model):
        if not re.fullmatch(r"\w[\w.-]*", name):
            raise ValueError(
                f"{MODEL / CONTRACT}: the name {shorten(name)} makes no folder's name; give one "
                "with --out"
            )
    return EXPORTS / f"{contract.dataset}-{contract.model}" / format


def require_replaceable(out: Path) -> None:
    """Make sure that a folder is new, empty or an earlier export.

    Raises:
        ValueError: it holds something else.
    """
    if not out.exists() and not out.is_symlink():
        return
    is_folder = out.is_dir() and not out.is_symlink()
    names = {file.name for file in out.iterdir()} if is_folder else {out.name}
    if names - FILES or (names and "export.json" not in names):
        raise ValueError(f"{out}: exists and is no earlier export; give another --out")


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m stages.export",
        description="Write the trained model as one network that runs without this project.",
    )
    parser.add_argument("--format", required=True, choices=PACKAGES)
    parser.add_argument("--out", type=Path, metavar="FOLDER", help="instead of one in data/export")
    return parser.parse_args()


if __name__ == "__main__":
    run_main(main)
