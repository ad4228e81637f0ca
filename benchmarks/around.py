"""What people wait for beside the computing: DVC, the first stages, scores, predictions.

python -m benchmarks.around [--rounds N] [--jpegs N] [--images N]

Runs in temporary copies of this folder, which needs the results of the default pipeline.
"""

import argparse
import itertools
import statistics
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.images import write_clothes, write_photo_archive
from benchmarks.projects import (
    copy_finished,
    copy_project,
    edit_params,
    run,
    run_dvc,
    run_stage,
    use_photos,
)
from benchmarks.race import Contender, race
from benchmarks.tables import print_machine, print_table, word_figure, word_ratio
from imgpipe.params import PARAMS_FILE, load_params
from imgpipe.stage import run_main

EXPECTED = ("fashion_mnist", "cnn1")
KERAS = "plain Keras, `model.predict`"
JPEGS = 60_000
JPEG_SIZE = 32  # pixels, as CIFAR-10 has them
SLOWEST_TO_START = ("embed", "plot", "split")  # of the stages without TensorFlow


def main(words: list[str] | None = None):
    """Measure everything once or several times; print a table of waits and one of predictions."""
    arguments = parse_arguments(words)
    params = load_params()
    if (params.dataset_name, params.model_name) != EXPECTED:
        raise ValueError(
            f"params.yaml: dataset={params.dataset_name}, model={params.model_name} must be "
            f"{' and '.join(EXPECTED)} to be measured; git checkout params.yaml dvc.lock and run "
            "dvc checkout"
        )
    print_machine()
    with tempfile.TemporaryDirectory(prefix="imgpipe-around-") as folder:
        rows = time_finished(Path(folder), arguments.rounds)
        rows += time_first_stages(Path(folder), arguments.rounds)
        rows += time_decoding(Path(folder), arguments.jpegs, arguments.rounds)
    columns = ["", "seconds", "aim"]
    print_table(f"Waits, medians of {arguments.rounds}", columns, rows)
    compare_predictions(arguments.images, arguments.rounds)


def parse_arguments(words: list[str] | None) -> argparse.Namespace:
    """Read the command line, or the words that stand for it."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.around", description=__doc__.splitlines()[0]
    )
    parser.add_argument("--rounds", type=int, default=3, metavar="N", help="(3)")
    parser.add_argument("--jpegs", type=int, default=JPEGS, metavar="N", help="(60,000)")
    parser.add_argument(
        "--images", type=int, default=100, metavar="N", help="predicted one by one (100)"
    )
    return parser.parse_args(words)


def time_finished(folder: Path, rounds: int) -> list[list[str]]:
    """Time what is done with a finished pipeline.

    Returns:
        Rows of what, the median of its seconds, how many it should take.
    """
    project, photo = folder / "finished", folder / "photo.png"
    copy_finished(project)
    Image.fromarray(np.load(project / "data/arrays/test_images.npy")[0, ..., 0]).save(photo)
    run_dvc(project, "repro")  # looks at the bytes of every file; later ones need not

    def time_start(name: str) -> float:
        return run(project, sys.executable, "-c", f"import stages.{name}").seconds

    def time_stages(*names: str) -> float:
        return sum(run_stage(project, name).seconds for name in names)

    rows = [
        time_row(
            "`dvc repro` with nothing to do", 1.5, rounds, lambda: run_dvc(project, "repro").seconds
        ),
        time_row(
            "`features` of a model without a backbone", 0.7, rounds, lambda: time_stages("features")
        ),
        time_row(
            "`predict`, one image, cold",
            6,
            rounds,
            lambda: run_stage(project, "predict", str(photo)).seconds,
        ),
        time_row("`evaluate` and `plot`", 20, rounds, lambda: time_stages("evaluate", "plot")),
        *(
            time_row(f"`{name}`, until it starts", 0.7, rounds, partial(time_start, name))
            for name in SLOWEST_TO_START
        ),
    ]
    epochs = itertools.cycle([1, load_params(project / PARAMS_FILE).recipe.epochs])

    def choose_other() -> float:
        setting = f"models.{EXPECTED[1]}.epochs={next(epochs)}"
        return run_dvc(project, "exp", "run", "--set-param", setting).seconds

    choose_other()  # trains: from now on both models are known
    rows.append(time_row("`dvc exp run` back to a known model", 5, rounds, choose_other))
    return rows


def time_first_stages(folder: Path, rounds: int) -> list[list[str]]:
    """Time the stages before the model, on the raw files that lie in the finished copy."""
    project = folder / "first"
    copy_project(project)
    source = folder / "finished/data/raw"
    edit_params(project, {f"datasets.{EXPECTED[0]}.source": str(source)})

    def measure() -> float:
        stages = ("fetch", "split", "preprocess")
        return sum(run_stage(project, stage).seconds for stage in stages)

    return [time_row("`fetch`, `split` and `preprocess` of Fashion-MNIST", 8, rounds, measure)]


def time_decoding(folder: Path, count: int, rounds: int) -> list[list[str]]:
    """Time how JPEG files of CIFAR-10's size become arrays."""
    project, photos = folder / "decoding", folder / "photos.tar"
    copy_project(project)
    write_photo_archive(photos, count, JPEG_SIZE)
    use_photos(project, photos, JPEG_SIZE)
    for stage in ("fetch", "split"):
        run_stage(project, stage)
    name = f"`preprocess` of {count:,} JPEG files, {JPEG_SIZE}×{JPEG_SIZE}"
    aim = 15 if count == JPEGS else None
    return [time_row(name, aim, rounds, lambda: run_stage(project, "preprocess").seconds)]


def time_row(name: str, aim: float | None, rounds: int, measure: Callable[[], float]) -> list[str]:
    """Make a row of a name, the median of some measurements in seconds, and the aim."""
    seconds = statistics.median(measure() for _ in range(rounds))
    return [name, word_figure(seconds), word_figure(aim) if aim else ""]


def compare_predictions(count: int, rounds: int) -> None:
    """Print how long a model that is in memory takes for one image at a time."""
    with tempfile.TemporaryDirectory() as folder:
        images = {"images": write_clothes(Path(folder), "test", count)["inputs"]}
        contenders = [
            Contender(KERAS, "plain_keras", "predict_singly", {"network": "cnn4", **images}, count),
            Contender("imgpipe", "ours", "predict_singly", {"model": "cnn4", **images}, count),
        ]
        results = race(contenders, rounds, "predictions")
    rows = [
        [
            name,
            f"{word_figure(1000 * result.seconds)} ms",
            word_ratio(result.seconds / results[KERAS].seconds),
        ]
        for name, result in results.items()
    ]
    print_table("cnn4, one image at a time, warm", ["", "an image", "of plain Keras"], rows)


if __name__ == "__main__":
    run_main(main)
