"""The schema of params.yaml: types of values, and what each block holds.

A validator's message is written to follow `key=value`; imgpipe.params puts file and key before it.
"""

import re
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, model_validator
from pydantic_core import PydanticCustomError


def _rule(holds, rule: str) -> AfterValidator:
    """Make a validator that fails with `rule`, written to follow `key=value` in a message."""

    def check(value):
        if not holds(value):
            raise PydanticCustomError("rule", "{rule}", {"rule": rule})
        return value

    return AfterValidator(check)


# The vocabulary of types: for the blocks below, and for the options of an architecture.
Share = Annotated[float, _rule(lambda x: 0 <= x < 1, "must lie in [0, 1)")]
Positive = Annotated[float, _rule(lambda x: 0 < x < float("inf"), "must be greater than 0")]
NonNegative = Annotated[float, _rule(lambda x: 0 <= x < float("inf"), "must be 0 or greater")]
Count = Annotated[int, _rule(lambda n: n >= 1, "must be 1 or greater")]
CountOrZero = Annotated[int, _rule(lambda n: n >= 0, "must be 0 or greater")]
Seed = Annotated[int, _rule(lambda n: 0 <= n < 2**32, "must lie in [0, 2**32)")]
ImageSize = Annotated[
    list[Count], _rule(lambda size: len(size) == 2, "must be [height, width] in pixels")
]
BackboneImageSize = Annotated[
    ImageSize, _rule(lambda size: min(size) >= 32, "must be 32 or more pixels each way for a VGG")
]
Sha256 = Annotated[
    str,
    _rule(lambda h: re.fullmatch("[0-9a-f]{64}", h), "must be a SHA-256 sum: 64 digits 0-9a-f"),
]

SourcePath = Annotated[str, _rule(bool, "must name a file or folder, or be null")]
Files = Annotated[
    dict[str, Sha256],
    _rule(
        lambda files: files and all(re.fullmatch(r"\w[\w.+-]*", name) for name in files),
        "must map one or more plain file names to SHA-256 sums",
    ),
]


def _shares(count: int):
    """Make the type of `count` shares, given as a list or as one number for all."""

    def check(value):
        values = value if isinstance(value, list) else [value] * count
        for share in values:
            if isinstance(share, bool) or not isinstance(share, int | float):
                raise PydanticCustomError("rule", "must be a number")
            if not 0 <= share < 1:
                raise PydanticCustomError("rule", "must lie in [0, 1)")
        if len(values) != count:
            raise PydanticCustomError("rule", f"must be one number or a list of {count}")
        return values

    return Annotated[Any, AfterValidator(check)]


TwoShares = _shares(2)
ThreeShares = _shares(3)


def _vgg_layers(convolutions: tuple[int, ...]) -> list[str]:
    """List the layers of a VGG whose blocks have these numbers of convolutions."""
    return [
        f"block{block}_{name}"
        for block, count in enumerate(convolutions, 1)
        for name in [*(f"conv{n}" for n in range(1, count + 1)), "pool"]
    ]


# As keras.applications names them.
VGG_LAYERS = {"vgg16": _vgg_layers((2, 2, 3, 3, 3)), "vgg19": _vgg_layers((2, 2, 4, 4, 4))}


class _Block(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, protected_namespaces=())


class PublicSource(_Block):
    """One place to look for a dataset's files: exactly one of the keys."""

    folder: str | None = None
    url: Annotated[
        str | None,
        _rule(lambda u: u is None or u.startswith("https://"), "must begin with https://"),
    ] = None
    debian_package: str | None = None

    @model_validator(mode="after")
    def _check_one_key(self):
        if len(self.model_fields_set) != 1:
            raise PydanticCustomError("rule", "must have one of folder, url, debian_package")
        return self


class Split(_Block):
    """How the training part is cut into train and val."""

    val_fraction: Annotated[Share, _rule(lambda x: x > 0, "must be greater than 0")]


class Dataset(_Block):
    """One block under datasets: what the images are and where they come from."""

    format: Literal["idx"]
    source: SourcePath | list[SourcePath] | None
    public_sources: list[PublicSource]
    files: Files
    class_names: Annotated[
        list[str],
        _rule(
            lambda names: 2 <= len(set(names)) == len(names), "must be 2 or more names, each once"
        ),
    ]
    image_size: ImageSize
    channels: Literal[1, 3]
    split: Split


class Backbone(_Block):
    """A frozen VGG network: which part of it turns images into features, and how."""

    network: Literal["vgg16", "vgg19"]
    weights: str | None
    weights_sha256: Sha256 | None
    layer: str
    pooling: Literal["flatten", "max", "avg"]
    image_size: BackboneImageSize
    scaling: Literal["imagenet", "unit"]
    precision: Literal["auto", "float32", "bfloat16", "float16"]

    @model_validator(mode="after")
    def _check_layer(self):
        if self.layer not in VGG_LAYERS[self.network]:
            raise PydanticCustomError(
                "rule", f".layer={self.layer} must be one of {', '.join(VGG_LAYERS[self.network])}"
            )
        return self


class Augmentation(_Block):
    """Ranges of the random transforms; each image draws uniformly between minus and plus."""

    rotation: NonNegative  # degrees
    width_shift: Share  # share of the width
    height_shift: Share  # share of the height
    shear: NonNegative  # degrees
    zoom: Share  # 0.08 scales each axis by 0.92 to 1.08


class Schedule(_Block):
    """How the learning rate moves; without one it stays as it is."""

    decay: Literal["cosine"]  # half a cosine, from learning_rate to 0 at the end of training
    warmup_epochs: NonNegative  # of a straight rise from 0 before it


class Recipe(_Block):
    """One block under models without the options of its architecture."""

    backbone: Backbone | None
    epochs: Count
    augmented_epochs: CountOrZero
    augmentation: Augmentation | None
    batch_size: Count
    optimizer: Literal["adam", "rmsprop", "sgd"]
    learning_rate: Positive
    schedule: Schedule | None
