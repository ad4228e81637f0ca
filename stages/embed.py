"""embed: place the test images on a plane, by their pixels or by the model's view of them.

python -m stages.embed pixels|model
Reads data/arrays/test_images.npy, or data/evaluation/penultimate.npy. Of both, at most 10,000 rows
count (embedding.choose_rows). Writes plots/embedding_<space>.csv, one row an image: row (of the
test images), class, pca_1, pca_2, tsne_1, tsne_2; and the same as scatter plots,
plots/embedding_<space>.png.
"""

import argparse
import json
from pathlib import Path

import matplotlib
import numpy as np
import pandas as pd

from imgpipe.arrays import open_array
from imgpipe.embedding import choose_rows, find_components, flatten_images, place_neighbours
from imgpipe.figures import draw_embedding, save_figure
from imgpipe.files import replacing, write_table
from imgpipe.stage import run_stage

CLASS_NAMES = Path("data/split/class_names.json")
IMAGES = Path("data/arrays/test_images.npy")
LABELS = Path("data/arrays/test_labels.npy")
PENULTIMATE = Path("data/evaluation/penultimate.npy")
PLOTS = Path("plots")
SPACES = {"pixels": "raw pixels", "model": "the model's penultimate layer"}


def main():
    """Place the images, write the table, draw it."""
    parser = argparse.ArgumentParser(prog="python -m stages.embed")
    parser.add_argument("space", choices=SPACES)
    space = parser.parse_args().space
    matplotlib.rcdefaults()  # whatever the user's matplotlibrc says
    class_names = json.loads(CLASS_NAMES.read_text("utf-8"))
    labels = open_array(LABELS)
    rows = choose_rows(len(labels))
    vectors = flatten_images(open_array(IMAGES), rows) if space == "pixels" else read_model_view()
    components = find_components(vectors)
    neighbours = place_neighbours(components)
    table = pd.DataFrame(
        {
            "row": rows,
            "class": np.array(class_names, dtype=object)[labels[rows]],
            "pca_1": components[:, 0],
            "pca_2": components[:, 1],
            "tsne_1": neighbours[:, 0],
            "tsne_2": neighbours[:, 1],
        }
    )
    write_table(table, PLOTS / f"embedding_{space}.csv")
    with replacing(PLOTS / f"embedding_{space}.png") as path:
        save_figure(draw_embedding(table, class_names, SPACES[space]), path)
    print(f"embed: {len(table):,} test images by {SPACES[space]}, PCA and t-SNE")


def read_model_view() -> np.ndarray:
    """Read what the model's last layer gets for each image."""
    return np.asarray(open_array(PENULTIMATE), np.float32)


if __name__ == "__main__":
    run_stage(main)
