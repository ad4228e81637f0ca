"""plot: draw the figures. Reads the arrays, the scores and the tables; writes plots/*.png."""

import json
from pathlib import Path

import matplotlib
import numpy as np
import pandas as pd

from imgpipe import figures
from imgpipe.arrays import open_array
from imgpipe.contract import load_contract
from imgpipe.files import replacing
from imgpipe.stage import run_stage

ARRAYS = Path("data/arrays")
EVALUATION = Path("data/evaluation")
CONTRACT = Path("data/model/contract.json")
TRAIN_METRICS = Path("metrics/train.json")
PLOTS = Path("plots")


def main():
    """Draw and write each figure."""
    matplotlib.rcdefaults()  # whatever the user's matplotlibrc says
    class_names = load_contract(CONTRACT).class_names
    kept_epoch = json.loads(TRAIN_METRICS.read_text())["kept_epoch"]
    predictions = read_table("predictions")
    test_images = open_array(ARRAYS / "test_images.npy")
    first = predictions.iloc[0]
    drawn = {
        "samples": figures.draw_samples(
            open_array(ARRAYS / "train_images.npy"),
            open_array(ARRAYS / "train_labels.npy"),
            class_names,
        ),
        "curves": figures.draw_curves(read_table("history"), kept_epoch),
        "confusion": figures.draw_confusion(
            predictions["actual"], predictions["predicted"], class_names
        ),
        "mistakes": figures.draw_mistakes(test_images, predictions),
        "per_class": figures.draw_class_scores(read_table("per_class")),
        "activations": figures.draw_activations(
            test_images[0],
            dict(np.load(EVALUATION / "activations.npz", allow_pickle=False)),
            f"Activation maps of test image {first['id']}: {first['actual']}, "
            f"predicted {first['predicted']} ({first['probability']:.2f})",
        ),
    }
    for name, figure in drawn.items():
        with replacing(PLOTS / f"{name}.png") as path:
            figures.save_figure(figure, path)
    print(f"plot: {len(drawn)} figures in {PLOTS}/")


def read_table(name: str) -> pd.DataFrame:
    """Read one of the tables in plots/, whose class names may look like missing values."""
    return pd.read_csv(PLOTS / f"{name}.csv", keep_default_na=False)


if __name__ == "__main__":
    run_stage(main)
