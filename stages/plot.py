"""plot: draw the figures. Reads the arrays, the scores and the tables; writes plots/*.png."""

import json
from pathlib import Path

import matplotlib
import numpy as np
import pandas as pd

from imgpipe import figures
from imgpipe.arrays import open_array
from imgpipe.files import replacing
from imgpipe.stage import progress_bar, run_stage

ARRAYS = Path("data/arrays")
EVALUATION = Path("data/evaluation")
TRAIN_METRICS = Path("metrics/train.json")
PLOTS = Path("plots")


def main():
    """Draw and write each figure."""
    matplotlib.rcdefaults()  # whatever the user's matplotlibrc says
    kept_epoch = json.loads(TRAIN_METRICS.read_text())["kept_epoch"]
    predictions, per_class = read_table("predictions"), read_table("per_class")
    class_names = per_class["class"].tolist()
    test_images = open_array(ARRAYS / "test_images.npy")
    first = predictions.iloc[0]
    heat = read_arrays("class_activation")
    examples = heat.pop("row")
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
        "per_class": figures.draw_class_scores(per_class),
        "reliability": figures.draw_reliability(pd.read_csv(PLOTS / "reliability.csv")),
        "activations": figures.draw_activations(
            test_images[0],
            read_arrays("activations"),
            f"Activation maps of test image {first['id']}: {first['actual']}, "
            f"predicted {first['predicted']} ({first['probability']:.2f})",
        ),
        "class_activation": figures.draw_class_activation(
            test_images[examples], predictions.iloc[examples], heat
        ),
    }
    for name, figure in progress_bar(drawn.items(), unit=" figures", desc="draw"):
        with replacing(PLOTS / f"{name}.png") as path:
            figures.save_figure(figure, path)
    print(f"plot: {len(drawn)} figures in {PLOTS}/")


def read_table(name: str) -> pd.DataFrame:
    """Read one of the tables in plots/, whose names may look like numbers or missing values."""
    words = dict.fromkeys(("id", "actual", "predicted", "class"), str)
    return pd.read_csv(PLOTS / f"{name}.csv", keep_default_na=False, dtype=words)


def read_arrays(name: str) -> dict[str, np.ndarray]:
    """Read arrays that evaluate has stored under names."""
    return dict(np.load(EVALUATION / f"{name}.npz", allow_pickle=False))


if __name__ == "__main__":
    run_stage(main)
