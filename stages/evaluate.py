"""evaluate: score the trained model on the test subset. Reads data/model and the test data.

metrics/test.json: accuracy with its interval and the other scores, and what the model costs.
plots/predictions.csv: one row a test image. plots/per_class.csv: one row a class.
plots/reliability.csv: one row a range of confidence. In data/evaluation:
probabilities.npy: float32 (n, classes). penultimate.npy: float16 (m, dimensions), what the last
layer gets for the rows that embedding.choose_rows names. activations.npz: the maps of each
convolution layer for the first test image. class_activation.npz: for some right and some wrong
predictions, their row, and where the model sees the predicted and the actual class.
"""

from pathlib import Path

import numpy as np
import pandas as pd

from imgpipe.arrays import open_array
from imgpipe.contract import CONTRACT, load_contract
from imgpipe.embedding import choose_rows
from imgpipe.evaluation import (
    choose_examples,
    score_classes,
    score_predictions,
    tabulate_predictions,
    tabulate_reliability,
)
from imgpipe.files import replacing, write_json, write_table
from imgpipe.stage import importing_keras, run_stage

MANIFEST = Path("data/split/manifest.csv")
ARRAYS = Path("data/arrays")
FEATURES = Path("data/features")
MODEL = Path("data/model")
EVALUATION = Path("data/evaluation")
METRICS = Path("metrics/test.json")
PREDICTIONS = Path("plots/predictions.csv")
PER_CLASS = Path("plots/per_class.csv")
RELIABILITY = Path("plots/reliability.csv")


def main():
    """Predict the test subset, score it, write the tables."""
    contract = load_contract(MODEL / CONTRACT)
    images = open_array(ARRAYS / "test_images.npy")
    labels = np.array(open_array(ARRAYS / "test_labels.npy"))
    inputs = open_array(FEATURES / "test.npy") if contract.backbone else images
    if len(inputs) != len(labels):
        raise ValueError(
            f"{FEATURES}/test.npy: has {len(inputs):,} rows for {len(labels):,} test images, so it "
            "is of another run; run dvc repro"
        )

    with importing_keras():
        from imgpipe.determinism import make_deterministic
        from imgpipe.inspection import (
            compute_activation_maps,
            compute_class_activation,
            compute_penultimate,
            measure_cost,
        )
        from imgpipe.trained import load_trained, predict_probabilities

    make_deterministic(0)  # nothing is drawn, but sums have an order
    trained = load_trained(MODEL)
    probabilities = predict_probabilities(trained.model, inputs)
    manifest = pd.read_csv(MANIFEST, keep_default_na=False)
    ids = manifest.loc[manifest["subset"] == "test", "id"].to_numpy()
    scores = score_predictions(labels, probabilities) | measure_cost(trained)
    write_json(scores, METRICS)
    predicted = probabilities.argmax(axis=1)
    predictions = tabulate_predictions(ids, labels, probabilities, contract.class_names)
    write_table(predictions, PREDICTIONS)
    write_table(score_classes(labels, predicted, contract.class_names), PER_CLASS)
    write_table(tabulate_reliability(labels, probabilities), RELIABILITY)
    examples = choose_examples(predictions)
    with replacing(EVALUATION) as folder:
        folder.mkdir()
        np.save(folder / "probabilities.npy", probabilities)
        vectors = compute_penultimate(trained.model, inputs, choose_rows(len(images)))
        np.save(folder / "penultimate.npy", vectors)
        maps = compute_activation_maps(trained.backbone or trained.model, images[0])
        np.savez(folder / "activations.npz", **maps)
        shown = {
            name: compute_class_activation(trained, images[examples], classes[examples])
            for name, classes in (("predicted", predicted), ("actual", labels))
        }
        np.savez(folder / "class_activation.npz", row=examples, **shown)
    print(
        f"evaluate: test accuracy {scores['accuracy']:.4f} (95 % {scores['accuracy_low']:.4f} to "
        f"{scores['accuracy_high']:.4f}) on {len(labels):,} images"
    )


if __name__ == "__main__":
    run_stage(main)
