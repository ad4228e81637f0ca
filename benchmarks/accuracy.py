"""Test accuracy of the faster ways to train and to compute features, beside Keras's own.

python -m benchmarks.accuracy [--model NAME] [--epochs N] [--seeds N …] [--images N]

Needs the arrays of the default pipeline: run make repro first.
"""

import argparse
import io
import statistics
import tempfile
from contextlib import AbstractContextManager, nullcontext, redirect_stdout
from pathlib import Path
from unittest import mock

import numpy as np

from benchmarks.contenders.ours import load_params_of
from benchmarks.images import ARRAYS
from benchmarks.tables import print_machine, print_table
from imgpipe.arrays import open_array
from imgpipe.params import Params
from imgpipe.stage import importing_keras, progress_bar, run_main

BACKBONE = "vgg16_block4"  # the model whose features and head are compared
TEST_IMAGES = 2000  # whose features are computed
KERAS, OURS = "Keras's own", "imgpipe"
Pair = tuple[np.ndarray, np.ndarray]  # inputs and labels


def main(words: list[str] | None = None):
    """Train with each seed in both ways, and heads on features of both ways."""
    arguments = parse_arguments(words)
    arrays = {subset: read_subset(subset) for subset in ("train", "val", "test")}
    print_machine()
    with importing_keras():
        from imgpipe import backbones, training

    params = load_params_of(arguments.model)
    epochs = {"epochs": arguments.epochs, "augmented_epochs": 0}
    params = params._replace(recipe=params.recipe.model_copy(update=epochs))
    slow_layers = mock.patch.object(training, "speed_up", lambda model, *_: model)
    ways = {KERAS: slow_layers, OURS: nullcontext()}
    compare(f"{arguments.model}, {arguments.epochs} epochs", ways, params, arguments.seeds, arrays)
    if arguments.images:
        settings = load_params_of(BACKBONE)
        slow = mock.patch.object(backbones, "_has_fast_convolutions", lambda backbone: False)
        for name, way in {KERAS: slow, OURS: nullcontext()}.items():
            with way:
                features = extract(settings, arrays, arguments)
            title = (
                f"{BACKBONE}, a head on {arguments.images:,} images' features; features of: {name}"
            )
            compare(title, {OURS: nullcontext()}, settings, arguments.seeds, features)


def parse_arguments(words: list[str] | None) -> argparse.Namespace:
    """Read the command line, or the words that stand for it."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.accuracy", description=__doc__.splitlines()[0]
    )
    parser.add_argument("--model", default="cnn3", metavar="NAME", help="(cnn3)")
    parser.add_argument("--epochs", type=int, default=4, metavar="N", help="(4)")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3], metavar="N")
    parser.add_argument(
        "--images", type=int, default=4000, metavar="N", help="for a head (4,000); 0 for none"
    )
    parser.add_argument(
        "--weights", type=Path, metavar="FILE", help="VGG16's without its top; else random ones"
    )
    return parser.parse_args(words)


def read_subset(name: str) -> Pair:
    """Read a subset's images and labels."""
    return tuple(open_array(ARRAYS / f"{name}_{kind}.npy") for kind in ("images", "labels"))


def compare(
    title: str,
    ways: dict[str, AbstractContextManager],
    params: Params,
    seeds: list[int],
    arrays: dict[str, Pair],
) -> None:
    """Print the test accuracies of each way, with each seed.

    Args:
        title: of the table.
        ways: name to the context in which it is trained so; entered for each seed.
        params: the model and its recipe.
        seeds: of the trainings.
        arrays: subset to inputs and labels.
    """
    rows = []
    with progress_bar(total=len(ways) * len(seeds), desc=title, unit=" trainings") as bar:
        for name, way in ways.items():
            found = []
            for seed in seeds:
                with way:
                    found.append(train(params._replace(seed=seed), arrays))
                bar.update()
            mean, spread = statistics.mean(found), max(found) - min(found)
            rows.append([name, *(f"{value:.4f}" for value in (*found, mean, spread))])
    columns = ["", *(f"seed {seed}" for seed in seeds), "mean", "largest − smallest"]
    print_table(title, columns, rows)


def train(params: Params, arrays: dict[str, Pair]) -> float:
    """Train, and return the share of the test images in their own class."""
    from imgpipe.training import plain_batches, train_new_model

    class_count = int(arrays["train"][1].max()) + 1
    with tempfile.TemporaryDirectory() as work, redirect_stdout(io.StringIO()):  # of epochs
        subsets = arrays["train"], arrays["val"]
        model, _ = train_new_model(params, class_count, *subsets, Path(work), None)
    probabilities = model.predict(plain_batches(*arrays["test"], 1024), verbose=0)
    return float((probabilities.argmax(axis=1) == arrays["test"][1]).mean())


def extract(
    params: Params, arrays: dict[str, Pair], arguments: argparse.Namespace
) -> dict[str, Pair]:
    """Compute the features of the first images of each subset."""
    from imgpipe import backbones

    settings = params.recipe.backbone.model_copy(update={"precision": "float32"})
    backbone = backbones.build_backbone(settings, arrays["train"][0].shape[3], arguments.weights)
    features = {}
    batch_size = backbones.choose_batch_size(settings.image_size)
    for subset, (images, labels) in arrays.items():
        count = arguments.images if subset == "train" else TEST_IMAGES
        parts = [np.array(images[:count])]
        (rows,) = backbones.extract_features(backbone, parts, batch_size)
        features[subset] = rows, np.array(labels[:count])
    return features


if __name__ == "__main__":
    run_main(main)
