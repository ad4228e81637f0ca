"""The schema of params.yaml: types of values, and what each block holds.

A validator's message is written to follow `key=value`; imgpipe.params puts file and key before it.
"""

import re
import unicodedata
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError

from imgpipe.addresses import find_secret, hide_secrets, is_address


def _rule(holds, rule: str) -> AfterValidator:
    """Make a validator that fails with `rule`, written to follow `key=value` in a message."""

    def check(value):
        if not holds(value):
            raise PydanticCustomError("rule", "{rule}", {"rule": rule})
        return value

    return AfterValidator(check)


# The vocabulary of types: for the blocks below, and for the options of an architecture.
Share = Annotated[float, _rule(lambda x: 0 <= x < 1, "must lie in [0, 1)")]
Rate = Annotated[float, _rule(lambda x: 0 < x <= 1, "must lie in (0, 1]")]
Positive = Annotated[float, _rule(lambda x: 0 < x < float("inf"), "must be greater than 0")]
NonNegative = Annotated[float, _rule(lambda x: 0 <= x < float("inf"), "must be 0 or greater")]
_AT_MOST_A_MILLION = _rule(lambda n: n <= 1_000_000, "must be 1,000,000 or less")
Count = Annotated[int, _rule(lambda n: n >= 1, "must be 1 or greater"), _AT_MOST_A_MILLION]
CountOrZero = Annotated[int, _rule(lambda n: n >= 0, "must be 0 or greater"), _AT_MOST_A_MILLION]
Seed = Annotated[int, _rule(lambda n: 0 <= n < 2**32, "must lie in [0, 2**32)")]
ImageSize = Annotated[
    list[Count],
    _rule(lambda size: len(size) == 2, "must be [height, width] in pixels"),
    _rule(lambda size: max(size) <= 4096, "must be 4,096 or less pixels each way"),
]
BackboneImageSize = Annotated[
    ImageSize, _rule(lambda size: min(size) >= 32, "must be 32 or more pixels each way for a VGG")
]
_ABOVE_0 = _rule(lambda x: x is None or x > 0, "must be greater than 0")
Sha256 = Annotated[
    str,
    _rule(lambda h: re.fullmatch("[0-9a-f]{64}", h), "must be a SHA-256 sum: 64 digits 0-9a-f"),
]


_ON_ONE_LINE = _rule(
    lambda texts: all(map(str.isprintable, [texts] if isinstance(texts, str) else texts)),
    "must hold no line ends and no control characters",
)


def _is_place(text: str) -> bool:
    return text.startswith("~") or is_address(text) or Path(text).is_absolute()


# A relative path would mean another place in an experiment's temporary folder.
Source = Annotated[
    str | list[str],
    _rule(
        lambda s: _is_place(s) if isinstance(s, str) else s and all(map(_is_place, s)),
        "must be an absolute path, begin with ~ or be an https:// address, or a list of such "
        "(experiments also run in other folders, where a relative path would mean another place)",
    ),
    _ON_ONE_LINE,
]
Pattern = Annotated[
    str,
    _rule(lambda p: _group_count(p) == 1, "must be a regular expression with one (group)"),
    _ON_ONE_LINE,
]
LONGEST_CLASS_NAME = 200  # characters


def is_class_name(name: str) -> bool:
    """Tell whether a class's name can be told from others, and shown."""
    return name.strip() == name and 0 < len(name) <= LONGEST_CLASS_NAME


# As folders' names are brought into one form, too.
ClassNames = Annotated[
    list[str],
    AfterValidator(lambda names: [unicodedata.normalize("NFC", name) for name in names]),
    _rule(lambda names: 2 <= len(set(names)) == len(names), "must be 2 or more names, each once"),
    _rule(
        lambda names: all(map(is_class_name, names)),
        f"must be names of 1 to {LONGEST_CLASS_NAME} characters, without blanks around them",
    ),
    _ON_ONE_LINE,
]
Channels = Annotated[
    Any, _rule(lambda n: type(n) is int and n in (1, 3), "must be 1 or 3, a whole number")
]
PartFolders = Annotated[
    dict[Literal["train", "val", "test"], str],
    _rule(
        lambda folders: len({name.lower() for name in folders.values()}) == len(folders) > 0,
        "must name a folder for each of the parts that there are, each once",
    ),
    _rule(
        lambda folders: (
            all(name not in ("", ".", "..") for name in folders.values())
            and not any("/" in name or "\\" in name for name in folders.values())
        ),
        "must be folders' names alone, without what lies around them",
    ),
]
Files = Annotated[
    dict[str, Sha256],
    _rule(
        lambda files: files and all(re.fullmatch(r"\w[\w.+-]*", name) for name in files),
        "must map one or more plain file names to SHA-256 sums",
    ),
]


def _group_count(pattern: str) -> int:
    """Count a regular expression's groups; -1 if it is none."""
    try:
        return re.compile(pattern).groups
    except (re.error, RecursionError, OverflowError):
        return -1


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

    @model_validator(mode="before")
    @classmethod
    def _check_keys(cls, content):
        # Pydantic would refuse them too, but would not say which keys are known.
        known = list(cls.model_fields)
        for key in content if isinstance(content, dict) else ():
            if key not in known:
                raise PydanticCustomError("unknown_key", "unknown", {"key": key, "known": known})
        return content

    @model_validator(mode="before")
    @classmethod
    def _check_secrets(cls, content):
        # Before any other rule, whose message would show the value as it is.
        for path, text in _texts_in(content if isinstance(content, dict) else {}):
            if rule := find_secret(text):
                raise PydanticCustomError(
                    "rule", "{rule}", {"rule": f"{path}={hide_secrets(text)} {rule}"}
                )
        return content


def _texts_in(content, path: str = ""):
    """Yield all texts within nested mappings and lists, each with its path."""
    if isinstance(content, str):
        yield path, content
    elif isinstance(content, dict):
        for key, value in content.items():
            yield from _texts_in(value, f"{path}.{key}")
    elif isinstance(content, list):
        for index, value in enumerate(content):
            yield from _texts_in(value, f"{path}[{index}]")


class PublicSource(_Block):
    """One place to look for a dataset's files: exactly one of the keys."""

    folder: str | None = None
    url: Annotated[
        str | None,
        _rule(lambda u: u is None or is_address(u), "must begin with https:// and a host"),
    ] = None
    debian_package: str | None = None

    @model_validator(mode="after")
    def _check_one_key(self):
        if len(self.model_fields_set) != 1:
            raise PydanticCustomError("rule", "must have one of folder, url, debian_package")
        return self


class Split(_Block):
    """How images are cut into train, val and test; parts that the source has stay as they are."""

    method: Literal["holdout", "kfold"]
    val_fraction: Annotated[Share, _ABOVE_0]  # of the images that are not test
    test_fraction: Annotated[Share, _ABOVE_0] | None  # where holdout finds no test part
    folds: Annotated[Count, _rule(lambda n: n >= 2, "must be 2 or greater")] | None
    fold: CountOrZero | None  # which of the folds, from 0, is held out
    seed: Seed

    @model_validator(mode="after")
    def _check_folds(self):
        given = self.folds is not None, self.fold is not None
        if self.method == "holdout" and any(given):
            key = "folds" if given[0] else "fold"
            raise PydanticCustomError(
                "rule", f".{key}={getattr(self, key)} must be null unless method is kfold"
            )
        if self.method == "kfold" and not all(given):
            key = "fold" if given[0] else "folds"
            raise PydanticCustomError("rule", f".{key}=null must be given where method is kfold")
        if self.method == "kfold" and self.fold >= self.folds:
            raise PydanticCustomError(
                "rule", f".fold={self.fold} must be less than folds={self.folds}"
            )
        return self


class Dataset(_Block):
    """One block under datasets: what the images are and where they come from."""

    source: Source | None
    public_sources: list[PublicSource]
    files: Files | None
    part_folders: PartFolders | None
    class_names: ClassNames | None
    image_size: ImageSize
    channels: Channels
    group_pattern: Pattern | None
    on_bad_image: Literal["error", "skip"]
    split: Split

    @model_validator(mode="after")
    def _check_public_sources(self):
        if self.public_sources and not self.files:
            raise PydanticCustomError(
                "rule",
                ".files=null must name the files with their sums where public_sources has any",
            )
        return self


class Backbone(_Block):
    """A frozen VGG network: which part of it turns images into features, and how."""

    network: Literal["vgg16", "vgg19"]
    weights: Annotated[
        str | None,
        _rule(
            lambda w: w is None or "://" not in w,
            "must be imagenet, null or a file of yours; download it, and give its path and sum",
        ),
    ]
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


class Features(_Block):
    """Which images a backbone turns into features, beside the plain ones."""

    augmented_copies: CountOrZero  # of the training images, for augmented_epochs to draw from


class Augmentation(_Block):
    """Ranges of the random changes; each image draws uniformly between minus and plus."""

    rotation: NonNegative  # degrees
    width_shift: NonNegative  # below 1 a share of the width, from 1 up pixels
    height_shift: NonNegative  # the same of the height
    shear: NonNegative  # degrees
    zoom: Share  # 0.08 scales each axis by 0.92 to 1.08
    horizontal_flip: bool  # left for right, in half of the images
    vertical_flip: bool  # top for bottom, likewise
    brightness: Share  # 0.1 adds up to 0.1 of the range of pixels, 25.5, or takes it away
    contrast: Share  # 0.1 scales differences from the image's mean by 0.9 to 1.1


class _Schedule(_Block):
    warmup_epochs: NonNegative  # of a straight rise from 0; the decay begins after it


class ConstantSchedule(_Schedule):
    """The learning rate stays as it is."""

    decay: Literal["constant"]


class CosineSchedule(_Schedule):
    """Half a cosine, from learning_rate to 0 at the end of training."""

    decay: Literal["cosine"]


class ExponentialSchedule(_Schedule):
    """A fall to `rate` times the learning rate in every `steps` batches."""

    decay: Literal["exponential"]
    steps: Count
    rate: Rate
    staircase: bool  # at once at the end of the steps, not bit by bit


Schedule = Annotated[
    ConstantSchedule | CosineSchedule | ExponentialSchedule, Field(discriminator="decay")
]


class EarlyStopping(_Block):
    """Training ends once the validation accuracy has stopped rising."""

    patience: Count  # epochs without a rise
    min_delta: NonNegative  # what counts as a rise


class Recipe(_Block):
    """One block under models without the options of its architecture."""

    backbone: Backbone | None
    features: Features | None
    epochs: CountOrZero
    augmented_epochs: CountOrZero
    augmentation: Augmentation | None
    batch_size: Count
    optimizer: Literal["adam", "adamw", "sgd", "rmsprop"]
    momentum: Share
    weight_decay: NonNegative
    learning_rate: Annotated[Positive, _rule(lambda x: x <= 1000, "must be 1,000 or less")]
    schedule: Schedule | None
    early_stopping: EarlyStopping | None
    restore_best_weights: bool  # those of the epoch that was best on val; or of the last one
    label_smoothing: Share
    class_weights: Literal["balanced"] | None
