"""A trained model read back from disk, and its use on images."""

from dataclasses import dataclass
from pathlib import Path

import keras
import numpy as np

import imgpipe.schedules  # noqa: F401 - a stored model may name the class in it
from imgpipe.backbones import build_backbone, choose_batch_size, extract_features
from imgpipe.contract import (
    ARCHITECTURE,
    BACKBONE_WEIGHTS,
    CONTRACT,
    WEIGHTS,
    Contract,
    load_contract,
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
    return model.predict(inputs, batch_size=1024, verbose=0)


def load_trained(folder: Path) -> TrainedModel:
    """Read what contract.save_trained wrote.

    Raises:
        FileNotFoundError: nothing was trained.
    """
    contract = load_contract(folder / CONTRACT)
    model = keras.models.model_from_json((folder / ARCHITECTURE).read_text("utf-8"))
    model.load_weights(folder / WEIGHTS)
    backbone = None
    if contract.backbone:
        backbone = build_backbone(contract.backbone, contract.channels)
        backbone.load_weights(folder / BACKBONE_WEIGHTS)
    return TrainedModel(contract, model, backbone)
