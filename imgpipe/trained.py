"""A trained model read back from disk, and its use on images."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np

from imgpipe.arrays import blocks
from imgpipe.backbones import build_backbone, choose_batch_size, extract_features
from imgpipe.contract import (
    ARCHITECTURE,
    BACKBONE_WEIGHTS,
    CONTRACT,
    WEIGHTS,
    Contract,
    load_contract,
    read_json,
)
from imgpipe.footprint import choose_input_count, count_largest_output
from imgpipe.stage import progress_bar
from imgpipe.weights_files import load_weights
from imgpipe.wording import shorten, word_error

# Whose classes a stored model may consist of. Keras would import any module that another names.
_MODULES = frozenset(
    [
        "keras",
        "keras.constraints",
        "keras.initializers",
        "keras.layers",
        "keras.models",
        "keras.regularizers",
        "keras.src.models.functional",
        "keras.src.models.sequential",
    ]
)
_REMEDY = "run dvc repro"
_LARGEST_OUTPUT = 1 << 27  # values of a layer, for one image: half a gigabyte in float32
# Layers that run code of the file's, or read other files.
_UNSAFE_LAYERS = frozenset(
    [
        "FlaxLayer",
        "IntegerLookup",
        "JaxLayer",
        "Lambda",
        "StringLookup",
        "TFSMLayer",
        "TextVectorization",
        "TorchModuleWrapper",
    ]
)


@dataclass(frozen=True)
class TrainedModel:
    """A model with all that stands between an image and its prediction.

    Attributes:
        contract: what goes in and comes out.
        model: from images, or from the backbone's features, to probabilities.
        backbone: from images to features; None where the model takes the images.
    """

    contract: Contract
    model: keras.Model
    backbone: keras.Model | None

    def predict(self, images: np.ndarray) -> np.ndarray:
        """Classify images.

        Args:
            images: uint8 (n, height, width, channels), in the contract's size and channels.

        Returns:
            float32 (n, classes), probabilities.
        """
        inputs = images
        if self.backbone is not None:
            batch_size = choose_batch_size(self.contract.backbone.image_size)
            (inputs,) = extract_features(self.backbone, [images], batch_size)
        return predict_probabilities(self.model, inputs)


def predict_probabilities(model: keras.Model, inputs: np.ndarray) -> np.ndarray:
    """Run a trained model over images or features, whichever it takes.

    Returns:
        float32 (n, classes).
    """
    outputs = []
    with progress_bar(total=len(inputs), unit=" images", desc="predict") as bar:
        for block in blocks(len(inputs), choose_input_count(model)):
            outputs.append(model.predict_on_batch(inputs[block]))
            bar.update(len(outputs[-1]))
    return np.concatenate(outputs)


def load_trained(folder: Path) -> TrainedModel:
    """Read what contract.save_trained wrote.

    The files may come from a stranger: nothing in them is executed.

    Raises:
        FileNotFoundError: nothing was trained.
        ValueError: a file is damaged, does not fit the others, or holds more than a model's
            layers and weights.
    """
    contract = load_contract(folder / CONTRACT)
    model = _build_stored_model(folder / ARCHITECTURE, folder / WEIGHTS)
    load_weights(model, folder / WEIGHTS, _REMEDY)
    backbone, inputs = None, (*contract.image_size, contract.channels)
    if contract.backbone:
        backbone = build_backbone(contract.backbone, contract.channels)
        load_weights(backbone, folder / BACKBONE_WEIGHTS, _REMEDY)
        inputs = backbone.output_shape[1:]
    found = model.input_shape[1:], model.output_shape[1:]
    if found != (inputs, (len(contract.class_names),)):
        raise ValueError(
            f"{folder / ARCHITECTURE}: turns {found[0]} into {found[1]} where {CONTRACT} asks for "
            f"{inputs} into {len(contract.class_names)} classes; {_REMEDY}"
        )
    return TrainedModel(contract, model, backbone)


def _build_stored_model(path: Path, weights: Path) -> keras.Model:
    """Build the model that a file describes, once it is known to be harmless."""
    content = read_json(path)
    try:
        # How it was trained does not matter here.
        content = {key: content[key] for key in dict(content) if key != "compile_config"}
        _check_architecture(content)
        text = json.dumps(content)
        # Without values, a model of any size takes no memory.
        with keras.StatelessScope(initialize_variables=False):
            model = keras.models.model_from_json(text)
            count, largest = model.count_params(), count_largest_output(model)
        if count > weights.stat().st_size:
            keras.utils.clear_session()  # Keras would give the values later
            raise ValueError(f"it has {count:,} parameters, which {weights.name} cannot hold")
        if largest > _LARGEST_OUTPUT:
            keras.utils.clear_session()
            raise ValueError(f"a layer makes {largest:,} values of one image")
        return keras.models.model_from_json(text)
    except FileNotFoundError:
        raise FileNotFoundError(f"{weights}: no such file; {_REMEDY}") from None
    except Exception as error:  # Keras raises whatever there is on settings that make no model
        raise ValueError(f"{path}: describes no model ({word_error(error)}); {_REMEDY}") from None


def _check_architecture(content: Any) -> None:
    """Refuse a description that names a class which is no plain part of a Keras model."""
    if isinstance(content, list):
        for item in content:
            _check_architecture(item)
    elif isinstance(content, dict):
        name, module = content.get("class_name"), content.get("module")
        if "class_name" in content and name != "__keras_tensor__":
            words = isinstance(name, str) and isinstance(module, str)
            if not words or module not in _MODULES or not name.isidentifier():
                raise ValueError(f"it asks for {shorten(name)} from {shorten(module)}")
            if name in _UNSAFE_LAYERS:
                raise ValueError(f"it has a layer {name}")
        for item in content.values():
            _check_architecture(item)
