"""A trained model on disk, and its use on images."""

import shutil
from dataclasses import dataclass
from pathlib import Path

import keras
import numpy as np

from imgpipe.backbones import build_backbone, choose_batch_size, extract_features
from imgpipe.contract import BACKBONE_WEIGHTS, Contract, load_contract, save_contract


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


def save_trained(
    folder: Path, model: keras.Model, contract: Contract, backbone_weights: Path
) -> None:
    """Write a trained model into `folder`; the same model gives the same bytes.

    Args:
        folder: made if missing.
        model: the trained model.
        contract: stored beside it.
        backbone_weights: file of the backbone's weights, copied if the contract has a backbone.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "model.json").write_text(model.to_json(indent=1) + "\n", encoding="utf-8")
    model.save_weights(folder / "model.weights.h5")
    if contract.backbone:
        shutil.copyfile(backbone_weights, folder / BACKBONE_WEIGHTS)
    save_contract(contract, folder / "contract.json")


def load_model(folder: Path) -> keras.Model:
    """Read the model that save_trained wrote, without its backbone."""
    model = keras.models.model_from_json((folder / "model.json").read_text(encoding="utf-8"))
    model.load_weights(folder / "model.weights.h5")
    return model


def load_trained(folder: Path) -> TrainedModel:
    """Read what save_trained wrote.

    Raises:
        FileNotFoundError: nothing was trained.
    """
    contract = load_contract(folder / "contract.json")
    backbone = None
    if contract.backbone:
        backbone = load_backbone(contract, folder / BACKBONE_WEIGHTS)
    return TrainedModel(contract, load_model(folder), backbone)


def load_backbone(contract: Contract, weights: Path) -> keras.Model:
    """Build a contract's backbone with the weights that it had in training."""
    backbone = build_backbone(contract.backbone, contract.channels)
    backbone.load_weights(weights)
    return backbone
