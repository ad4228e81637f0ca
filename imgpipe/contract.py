"""The input contract: what a trained model expects, and how both are stored."""

import json
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar

from pydantic import ConfigDict, TypeAdapter, ValidationError

from imgpipe.files import write_json
from imgpipe.schema import Backbone, Channels, ClassNames, ImageSize
from imgpipe.wording import shorten, word_error

# The files of a trained model.
ARCHITECTURE = "model.json"
WEIGHTS = "model.weights.h5"
CONTRACT = "contract.json"
BACKBONE_WEIGHTS = "backbone.weights.h5"  # only where the contract has a backbone
_LARGEST_JSON = 16 << 20  # bytes


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

    __pydantic_config__: ClassVar = ConfigDict(extra="forbid")

    dataset: str
    model: str
    class_names: ClassNames
    image_size: ImageSize
    channels: Channels
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
        ValueError: it is damaged, or not one that save_trained wrote.
    """
    content = read_json(path)
    try:
        return TypeAdapter(Contract).validate_python(content)
    except ValidationError as error:
        fault = error.errors(include_url=False)[0]
        where = ".".join(map(str, fault["loc"])) or "it"
        raise ValueError(
            f"{path}: {shorten(where)}: {shorten(fault['msg'], 200)}; run dvc repro"
        ) from None


def read_json(path: Path) -> Any:
    """Read one of the JSON files of a trained model.

    Raises:
        FileNotFoundError: there is none; nothing was trained.
        ValueError: it is too large, or not JSON.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path}: not found, nothing was trained yet; run dvc repro")
    if path.stat().st_size > _LARGEST_JSON:
        raise ValueError(f"{path}: is larger than {_LARGEST_JSON:,} bytes; run dvc repro")
    try:
        return json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise ValueError(
            f"{path}: is not whole JSON ({word_error(error)}); run dvc repro"
        ) from None
