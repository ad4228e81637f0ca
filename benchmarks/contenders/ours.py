"""This project: started as its stages are, and doing what they do."""

import functools
import json
import tempfile
from pathlib import Path

import numpy as np

from imgpipe.arrays import blocks, open_array
from imgpipe.contract import Contract, save_trained
from imgpipe.params import PARAMS_FILE, Params, load_params
from imgpipe.schema import Backbone
from imgpipe.stage import importing_keras, run_main
from imgpipe.yaml_file import read_yaml

EPOCHS = 1_000_000  # until the process is ended
BATCH_SIZE = 256


def _started_as_stages_are(contend):
    @functools.wraps(contend)
    def start(lap, **settings):
        run_main(lambda: contend(lap, **settings))

    return start


@_started_as_stages_are
def extract_features(
    lap, images: str, size: int, layer: str, pooling: str, weights: str, checked: int, kind: str
):
    """Turn stored images into features, as the stage does.

    Args:
        lap: see benchmarks.contenders.
        images: a .npy file, uint8 (n, height, width, channels).
        size: height and width of the network's images.
        layer: where VGG16 is cut.
        pooling: as in params.yaml.
        weights: a weights file.
        checked: of how many images the answer has the features.
        kind: the answer's name.
    """
    with importing_keras():
        from imgpipe import backbones
        from imgpipe.determinism import make_deterministic

    make_deterministic(backbones.RANDOM_WEIGHTS_SEED)
    stored = open_array(Path(images))
    settings = Backbone(
        network="vgg16",
        weights=None,
        weights_sha256=None,
        layer=layer,
        pooling=pooling,
        image_size=[size, size],
        scaling="imagenet",
        precision=backbones.resolve_precision("auto"),
    )
    backbone = backbones.build_backbone(settings, stored.shape[3], Path(weights))
    batch_size = backbones.choose_batch_size(settings.image_size)
    cut = list(blocks(len(stored), 8 * batch_size))

    def load_parts():
        while True:
            for block in cut:
                yield np.array(stored[block])

    rows = []
    for features in backbones.extract_features(backbone, load_parts(), batch_size):
        rows.append(features)
        if len(rows) == len(cut):
            lap({kind: np.concatenate(rows)[:checked]})
            rows.clear()


@_started_as_stages_are
def train(lap, model: str, inputs: str, labels: str, augmented: bool = False):
    """Train with the model's recipe, on batches of 256; a lap is an epoch, its checkpoint included.

    Args:
        lap: see benchmarks.contenders.
        model: name in params.yaml.
        inputs: a .npy file, uint8 images or float16 features.
        labels: a .npy file, integers.
        augmented: whether the epochs are augmented.
    """
    params = load_params_of(model)
    epochs = {"epochs": EPOCHS, "augmented_epochs": 0}
    if augmented:
        epochs = {"epochs": 0, "augmented_epochs": EPOCHS}
    recipe = params.recipe.model_copy(update={"batch_size": BATCH_SIZE, **epochs})
    subset = open_array(Path(inputs)), np.load(labels)
    few = [array[:32] for array in subset]  # validation is not what is measured

    with importing_keras():
        from imgpipe.training import train_new_model

    class_count = subset[1].max() + 1
    with tempfile.TemporaryDirectory() as work:
        params = params._replace(recipe=recipe)
        train_new_model(params, int(class_count), subset, few, Path(work), _LapAnEpoch(lap))


class _LapAnEpoch:
    """Stands in for the training's log, which is told of each epoch's end."""

    def __init__(self, lap):
        self.lap = lap

    def begin(self, *_):
        """Log nothing."""

    def add_epoch(self, *_):
        """End a lap."""
        self.lap()


@_started_as_stages_are
def predict_singly(lap, model: str, images: str):
    """Classify one image after the other with a model that was read back from disk."""
    params, stored = load_params_of(model), open_array(Path(images))
    class_names = [str(number) for number in range(10)]
    shape = stored.shape[1:]
    contract = Contract(
        dataset="benchmark",
        model=model,
        class_names=class_names,
        image_size=list(shape[:2]),
        channels=shape[2],
        backbone=None,
    )

    with importing_keras():
        from imgpipe.trained import load_trained
        from imgpipe.training import build_model

    with tempfile.TemporaryDirectory() as folder:
        untrained = build_model(model, shape, len(class_names), params.options)
        save_trained(Path(folder), untrained, contract, Path(folder))
        trained = load_trained(Path(folder))
    while True:
        for number in range(len(stored)):
            trained.predict(stored[number : number + 1])
        lap()


def load_params_of(model: str) -> Params:
    """Load params.yaml as it would be with another model chosen."""
    content = read_yaml(Path(PARAMS_FILE)) | {"model": model}
    with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
        json.dump(content, file)
        file.flush()
        return load_params(file.name)
