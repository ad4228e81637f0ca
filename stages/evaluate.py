"""evaluate: score the trained model on the test subset. Reads data/model and the test data.

metrics/test.json: accuracy with its interval and the other scores, and what the model costs.
plots/predictions.csv: one row a test image. plots/per_class.csv: one row a class.
data/evaluation/probabilities.npy: float32 (n, classes). data/evaluation/activations.npz: the maps
of each convolution layer for the first test image.
"""

from pathlib import Path

import numpy as np
import pandas as pd

from imgpipe.arrays import open_array
from imgpipe.contract import CONTRACT, load_contract
from imgpipe.evaluation import score_classes, score_predictions, tabulate_predictions
from imgpipe.files import replacing, write_json, write_table
from imgpipe.stage import quiet_import, run_stage

MANIFEST = Path("data/split/manifest.csv")
ARRAYS = Path("data/arrays")
FEATURES = Path("data/features")
MODEL = Path("data/model")
EVALUATION = Path("data/evaluation")
METRICS = Path("metrics/test.json")
PREDICTIONS = Path("plots/predictions.csv")
PER_CLASS = Path("plots/per_class.csv")


def main():
    """Predict the test subset, score it, write the tables."""
    contract = load_contract(MODEL / CONTRACT)
    images = open_array(ARRAYS / "test_images.npy")
    labels = np.array(open_array(ARRAYS / "test_labels.npy"))
    inputs = open_array(FEATURES / "test.npy") if contract.backbone else images

    with quiet_import():
        from imgpipe.determinism import make_deterministic
        from imgpipe.inspection import compute_activation_maps, measure_cost
        from imgpipe.trained import load_trained, predict_probabilities

    make_deterministic(0)  # nothing is drawn, but sums have an order
    trained = load_trained(MODEL)
    probabilities = predict_probabilities(trained.model, inputs)
    manifest = pd.read_csv(MANIFEST, keep_default_na=False)
    ids = manifest.loc[manifest["subset"] == "test", "id"].to_numpy()
    scores = score_predictions(labels, probabilities) | measure_cost(trained)
    write_json(scores, METRICS)
    write_table(tabulate_predictions(ids, labels, probabilities, contract.class_names), PREDICTIONS)
    write_table(score_classes(labels, probabilities.argmax(1), contract.class_names), PER_CLASS)
    with replacing(EVALUATION) as folder:
        folder.mkdir()
        np.save(folder / "probabilities.npy", probabilities)
        maps = compute_activation_maps(trained.backbone or trained.model, images[0])
        np.savez(folder / "activations.npz", **maps)
    print(
        f"evaluate: test accuracy {scores['accuracy']:.4f} (95 % {scores['accuracy_low']:.4f} to "
        f"{scores['accuracy_high']:.4f}) on {len(labels):,} images"
    )


if __name__ == "__main__":
    run_stage(main)
