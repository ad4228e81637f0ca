"""The input contract: what a trained model expects, stored beside its weights."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from imgpipe.files import replacing
from imgpipe.params import Backbone

BACKBONE_WEIGHTS = "backbone.weights.h5"  # beside a contract that has a backbone


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


def save_contract(contract: Contract, path: Path) -> None:
    """Write a contract as JSON."""
    content = asdict(contract)
    if contract.backbone:
        content["backbone"] = contract.backbone.model_dump()
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", "utf-8")


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
