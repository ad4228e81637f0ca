"""The input contract: what a trained model expects, and how both are stored."""

import json
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path

from imgpipe.files import write_json
from imgpipe.schema import Backbone

# The files of a trained model.
ARCHITECTURE = "model.json"
WEIGHTS = "model.weights.h5"
CONTRACT = "contract.json"
BACKBONE_WEIGHTS = "backbone.weights.h5"  # only where the contract has a backbone


@dataclass(frozen=True)
class Contract:
    """What goes into a model and what comes out, the same in training, evaluation, prediction.

    Attributes:
        dataset: name of the dataset that it was trained on.
        model: name of the model.
        class_names: in the order of the model's outputs.
        image_size: (height, width) to which images are brought.
        channels: 1 for grey, 3 for RGB.
        backbone: the frozen network between images and model, its precision resolved, or None
            where the model takes the uint8 images themselves.
    """

    dataset: str
    model: str
    class_names: list[str]
    image_size: list[int]
    channels: int
    backbone: Backbone | None


def save_trained(folder: Path, model, contract: Contract, backbone_weights: Path) -> None:
    """Write a trained model into an existing folder; the same model gives the same bytes.

    Args:
        folder: where the files go.
        model: the trained keras.Model.
        contract: stored beside it.
        backbone_weights: file of the backbone's weights, copied if the contract has a backbone.
    """
    (folder / ARCHITECTURE).write_text(model.to_json(indent=1) + "\n", encoding="utf-8")
    model.save_weights(folder / WEIGHTS)
    content = asdict(contract)
    if contract.backbone:
        content["backbone"] = contract.backbone.model_dump()
        shutil.copyfile(backbone_weights, folder / BACKBONE_WEIGHTS)
    write_json(content, folder / CONTRACT)


def load_contract(path: Path) -> Contract:
    """Read a contract back.

    Raises:
        FileNotFoundError: there is none; nothing was trained.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path}: not found, nothing was trained yet; run dvc repro")
    content = json.loads(path.read_text("utf-8"))
    backbone = content.pop("backbone")
    return Contract(**content, backbone=backbone and Backbone.model_validate(backbone))
