"""train: train the model. Reads the train and val arrays or features; writes data/model/.

data/model holds the weights of one epoch, the architecture, the input contract with the class
names, and the backbone's weights if there is one: all that prediction needs. plots/history.csv has
a line an epoch, metrics/train.json the scores on train and val at the best one. Test data is not
read here.
"""

import json
import time
from pathlib import Path

import numpy as np

from imgpipe.arrays import open_array
from imgpipe.contract import BACKBONE_WEIGHTS, Contract, save_trained
from imgpipe.files import replacing, write_json
from imgpipe.history import choose_epoch
from imgpipe.params import load_params
from imgpipe.schema import Backbone
from imgpipe.stage import quiet_import, run_main

CLASS_NAMES = Path("data/split/class_names.json")
ARRAYS = Path("data/arrays")
FEATURES = Path("data/features")
MODEL = Path("data/model")
HISTORY = Path("plots/history.csv")
METRICS = Path("metrics/train.json")


def main():
    """Train on train, choose the epoch by val, save its weights."""
    started = time.perf_counter()
    params = load_params()
    contract = Contract(
        dataset=params.dataset_name,
        model=params.model_name,
        class_names=json.loads(CLASS_NAMES.read_text("utf-8")),
        image_size=params.dataset.image_size,
        channels=params.dataset.channels,
        backbone=read_backbone(),
    )
    train, val = (read_subset(subset, contract.backbone) for subset in ("train", "val"))

    with quiet_import():
        from imgpipe.training import train_new_model

    model, history = train_new_model(params, len(contract.class_names), train, val, HISTORY)
    with replacing(MODEL) as folder:
        folder.mkdir()
        save_trained(folder, model, contract, FEATURES / "backbone" / BACKBONE_WEIGHTS)
    kept = choose_epoch(history, params.recipe.restore_best_weights)
    write_json(summarise(kept, len(history)), METRICS)
    print(
        f"train: {params.model_name}, val accuracy {kept['val_accuracy']:.4f} at epoch "
        f"{kept['epoch']} of {len(history)}, {time.perf_counter() - started:.0f} s"
    )


def read_backbone() -> Backbone | None:
    """Read the settings of the backbone that made the features, if there is one."""
    settings = json.loads((FEATURES / "backbone/settings.json").read_text())
    return settings and Backbone.model_validate(settings)


def read_subset(subset: str, backbone: Backbone | None) -> tuple[np.ndarray, np.ndarray]:
    """Open the inputs of a subset, images or features, and its labels."""
    inputs = FEATURES / f"{subset}.npy" if backbone else ARRAYS / f"{subset}_images.npy"
    return open_array(inputs), np.array(open_array(ARRAYS / f"{subset}_labels.npy"))


def summarise(kept: dict, epochs: int) -> dict:
    """Make the metrics of the epoch whose weights the model keeps."""
    names = {"accuracy": "train_accuracy", "loss": "train_loss"}
    scores = {names.get(k, k): round(v, 6) for k, v in kept.items() if k != "epoch"}
    return {"kept_epoch": kept["epoch"], "epochs": epochs, **scores}


if __name__ == "__main__":
    run_main(main)
