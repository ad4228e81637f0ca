"""train: train the model. Reads the train and val arrays or features; writes data/model/.

data/model holds the weights of one epoch, the architecture, the input contract with the class
names, and the backbone's weights if there is one: all that prediction needs. plots/history.csv has
a line an epoch, metrics/train.json the scores on train and val at the best one. Test data is not
read here. A killed training goes on after its last epoch, which data/unfinished/train holds;
metrics/environment.json, which is no output for DVC, says on what it was computed.
data/tensorboard/runs, no output either, has the curves of this and earlier trainings, one folder
each, of the present one while it runs.
"""

import json
import os
import re
import time
from pathlib import Path

import numpy as np

from imgpipe.arrays import open_array
from imgpipe.contract import BACKBONE_WEIGHTS, Contract, save_trained
from imgpipe.environment import record_environment
from imgpipe.files import remove, replacing, write_json
from imgpipe.history import choose_epoch, write_history
from imgpipe.params import Params, load_params
from imgpipe.schema import Backbone
from imgpipe.stage import WORK, importing_keras, run_stage
from imgpipe.unfinished import open_work

CLASS_NAMES = Path("data/split/class_names.json")
ARRAYS = Path("data/arrays")
FEATURES = Path("data/features")
MODEL = Path("data/model")
HISTORY = Path("plots/history.csv")
METRICS = Path("metrics/train.json")
ENVIRONMENT = Path("metrics/environment.json")
LOGS = Path("data/tensorboard/runs")


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
    files = {subset: list_files(subset, contract.backbone) for subset in ("train", "val")}
    train, val = (read_subset(*files[subset]) for subset in ("train", "val"))
    inputs = [*files["train"], *files["val"]]
    work = open_work(WORK / "train", describe_training(params, contract), inputs)

    with importing_keras():
        from imgpipe.training import train_new_model
        from imgpipe.training_log import TrainingLog

    log = TrainingLog(choose_log_folder(contract, work.name), describe_training(params, contract))
    class_count = len(contract.class_names)
    model, history = train_new_model(params, class_count, train, val, work, log)
    with replacing(MODEL) as folder:
        folder.mkdir()
        save_trained(folder, model, contract, FEATURES / "backbone" / BACKBONE_WEIGHTS)
    write_history(history, HISTORY)
    kept = choose_epoch(history, params.recipe.restore_best_weights)
    write_json(summarise(kept, len(history)), METRICS)
    record_environment(ENVIRONMENT, "train", "float32")
    remove(WORK / "train")
    print(
        f"train: {params.model_name}, val accuracy {kept['val_accuracy']:.4f} at epoch "
        f"{kept['epoch']} of {len(history)}, {time.perf_counter() - started:.0f} s"
    )


def read_backbone() -> Backbone | None:
    """Read the settings of the backbone that made the features, if there is one."""
    settings = json.loads((FEATURES / "backbone/settings.json").read_text())
    return settings and Backbone.model_validate(settings)


def list_files(subset: str, backbone: Backbone | None) -> list[Path]:
    """Name the files of a subset: its inputs, images or features, and its labels."""
    inputs = FEATURES / f"{subset}.npy" if backbone else ARRAYS / f"{subset}_images.npy"
    return [inputs, ARRAYS / f"{subset}_labels.npy"]


def read_subset(inputs: Path, labels: Path) -> tuple[np.ndarray, np.ndarray]:
    """Open the inputs and the labels of a subset."""
    return open_array(inputs), np.array(open_array(labels))


def describe_training(params: Params, contract: Contract) -> dict:
    """Say what a training depends on beside its arrays, to know an unfinished one again."""
    return {
        "model": contract.model,
        "class_names": contract.class_names,
        "recipe": params.recipe.model_dump(),
        "options": params.options,
        "seed": params.seed,
    }


def choose_log_folder(contract: Contract, training: str) -> Path:
    """Name the folder of a training's log: the same for an equal training, and after a kill.

    An experiment in a temporary folder logs into the project that it was started from (DVC_ROOT),
    where it can be watched, and is kept.
    """
    name = re.sub(r"[^\w.-]", "_", f"{contract.dataset}-{contract.model}-{training[:8]}")
    return Path(os.environ.get("DVC_ROOT", "")) / LOGS / name


def summarise(kept: dict, epochs: int) -> dict:
    """Make the metrics of the epoch whose weights the model keeps."""
    names = {"accuracy": "train_accuracy", "loss": "train_loss"}
    scores = {names.get(k, k): round(v, 6) for k, v in kept.items() if k != "epoch"}
    return {"kept_epoch": kept["epoch"], "epochs": epochs, **scores}


if __name__ == "__main__":
    run_stage(main)
