"""Images a second through frozen VGG16: Keras, PyTorch, and this project's features stage.

python -m benchmarks.features [--sizes N …] [--images N] [--rounds N] [--torch PYTHON]
"""

import argparse
import sys
import tempfile
from pathlib import Path

import numpy as np

from benchmarks.images import make_photos, write_clothes
from benchmarks.networks import count_multiply_adds
from benchmarks.race import Contender, Result, computes_in_bfloat16, find_torch, race
from benchmarks.tables import (
    NOT_INSTALLED,
    print_machine,
    print_table,
    word_figure,
    word_memory,
    word_ratio,
)
from imgpipe.stage import run_main

LARGEST = 224  # pixels: the size for which --images is meant
CHECKED = 32  # images whose features are compared
MATRIX = 3072  # rows and columns of the product that shows what the processor can do
KERAS = "plain Keras, `model.predict`"
MATRICES = "product of matrices"


def main(words: list[str] | None = None):
    """Measure each size."""
    arguments = parse_arguments(words)
    torch = find_torch(arguments.torch)
    print_machine(torch)
    with tempfile.TemporaryDirectory() as folder:
        weights = arguments.weights or write_random_weights(Path(folder))
        for size in arguments.sizes:
            count = count_images(arguments.images, size)
            write_images(Path(folder), size, count)
            contenders = list_contenders(Path(folder), size, count, weights.resolve())
            contenders += list_torch_contenders(Path(folder), arguments.torch, count)
            present = [one for one in contenders if torch or one.module != "pytorch"]
            results = race(present, arguments.rounds, f"features at {size}×{size}")
            print_results(size, contenders, results)


def parse_arguments(words: list[str] | None) -> argparse.Namespace:
    """Read the command line, or the words that stand for it."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.features", description=__doc__.splitlines()[0]
    )
    parser.add_argument("--sizes", type=int, nargs="+", default=[64, 150, 224], metavar="N")
    parser.add_argument(
        "--images",
        type=int,
        default=32,
        metavar="N",
        help=f"in a round at {LARGEST}×{LARGEST}; more at smaller sizes, for the same time (32)",
    )
    parser.add_argument("--rounds", type=int, default=3, metavar="N", help="(3)")
    parser.add_argument(
        "--weights", type=Path, metavar="FILE", help="VGG16's without its top; else random ones"
    )
    parser.add_argument("--torch", metavar="PYTHON", help="an interpreter that has PyTorch")
    return parser.parse_args(words)


def count_images(images: int, size: int) -> int:
    """Say how many images of a size take as long as `images` of the largest, in whole batches."""
    count = max(1, int(images * (LARGEST / size) ** 2))
    return count if count < 32 else count - count % 32


def write_random_weights(folder: Path) -> Path:
    """Write a weights file for VGG16."""
    path = folder / "random.weights.h5"
    writer = Contender("random weights", "plain_keras", "save_random_weights", {"path": str(path)})
    race([writer], rounds=0, description="random weights")
    return path


def write_images(folder: Path, size: int, count: int) -> None:
    """Write colour images of the network's size, and grey ones of 28×28."""
    np.save(folder / "rgb.npy", make_photos(count, size))
    write_clothes(folder, "test", count)


def list_contenders(folder: Path, size: int, count: int, weights: Path) -> list[Contender]:
    """List the ways of Keras and of this project to run the images through the network."""
    rgb, grey = str(folder / "rgb.npy"), str(folder / "inputs.npy")
    checked = min(CHECKED, count)
    whole = {"size": size, "layer": "block5_pool", "pooling": "flatten"}
    partial = {"size": size, "layer": "block3_pool", "pooling": "avg"}
    plain = {"rgb": rgb, "weights": str(weights)}
    ours = {"weights": str(weights), "checked": checked}
    settings = {
        "imgpipe": {"images": rgb, "kind": "rgb", **whole, **ours},
        "imgpipe, grey images of 28×28": {"images": grey, "kind": "grey", **whole, **ours},
        "imgpipe, up to block3_pool": {"images": rgb, "kind": "partial", **partial, **ours},
    }
    predicted = {"grey": grey, "checked": checked, **plain}
    return [
        Contender(MATRICES, "matrices", "multiply", {"size": MATRIX}),
        Contender(KERAS, "plain_keras", "predict_features", predicted, count),
        Contender("plain Keras, `tf.function`", "plain_keras", "call_features", plain, count),
        *(Contender(name, "ours", "extract_features", settings[name], count) for name in settings),
    ]


def list_torch_contenders(folder: Path, python: str | None, count: int) -> list[Contender]:
    """List PyTorch's ways; few images in bfloat16 where the processor does not compute in it."""
    few = count if computes_in_bfloat16() else max(1, count // 32)
    return [
        Contender(
            f"PyTorch, {precision}",
            "pytorch",
            "extract_features",
            {"rgb": str(folder / "rgb.npy"), "images": images, "precision": precision},
            images,
            python or sys.executable,
        )
        for precision, images in (("float32", count), ("bfloat16", few))
    ]


def print_results(size: int, contenders: list[Contender], results: dict[str, Result]) -> None:
    """Print a size's table, with what the arithmetic of a direct convolution allows."""
    keras, rows = results[KERAS], []
    for contender in contenders:
        result = results.get(contender.name)
        if result is None:
            rows.append([contender.name, NOT_INSTALLED])
        elif contender.name != MATRICES:
            rows.append(
                [
                    contender.name,
                    word_figure(1 / result.seconds),
                    word_ratio(keras.seconds / result.seconds),
                    word_cosine(result.answer, keras.answer) if contender.module == "ours" else "",
                    word_memory(result.peak_memory),
                ]
            )
    columns = ["", "images/s", "of plain Keras", "smallest cosine to it", "peak memory"]
    print_table(f"VGG16 at {size}×{size}", columns, rows)
    operations, peak = count_multiply_adds(size), MATRIX**3 / results[MATRICES].seconds
    print(
        f"\nAn image takes {operations / 1e9:.2f} billion multiply-adds, and a product of float32 "
        f"matrices makes {peak / 1e9:.1f} billion a second: direct convolution cannot exceed "
        f"{word_figure(peak / operations)} images/s, of which plain Keras reaches "
        f"{100 * operations / keras.seconds / peak:.0f} %.",
        flush=True,
    )


def word_cosine(answer: dict[str, np.ndarray], reference: dict[str, np.ndarray]) -> str:
    """Word the smallest cosine of an image's features to those of plain Keras."""
    ((kind, features),) = answer.items()
    ones, others = features.astype(np.float64), reference[kind].astype(np.float64)
    lengths = np.linalg.norm(ones, axis=1) * np.linalg.norm(others, axis=1)
    return f"{((ones * others).sum(axis=1) / lengths).min():.6f}"


if __name__ == "__main__":
    run_main(main)
