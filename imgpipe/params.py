"""Reading and checking params.yaml, before any stage does any work."""

import difflib
import inspect
import re
from importlib import import_module
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

from pydantic import TypeAdapter, ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from imgpipe.files import sha256_of_file
from imgpipe.schema import Backbone, Dataset, Recipe, Seed

PARAMS_FILE = "params.yaml"


class Params(NamedTuple):
    """The checked parameters of the run that params.yaml asks for."""

    dataset_name: str
    dataset: Dataset
    model_name: str
    recipe: Recipe
    options: dict[str, Any]  # keyword arguments of the architecture's build_model
    seed: int


def load_params(path: str | Path = PARAMS_FILE) -> Params:
    """Read and check params.yaml.

    Only the chosen dataset's and the chosen model's blocks are checked: an unfinished block for
    another model hinders nobody.

    Args:
        path: a file with the keys dataset, model, seed, datasets and models; YAML 1.2, which is
            what DVC writes (`1e-05` is a number in it).

    Returns:
        The checked parameters.

    Raises:
        ValueError: an unknown, missing or misspelt key, a wrong type, a value out of range; the
            message names the file, the key, the value and the rule.
        FileNotFoundError: there is no such file.
    """
    path = Path(path)
    try:
        content = YAML(typ="safe", pure=True).load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise FileNotFoundError(
            f"{path}: not found; run from the project's folder, which holds it"
        ) from None
    except (YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"{path.name}: not valid YAML: {' '.join(str(error).split())}") from None
    if not isinstance(content, dict):
        raise ValueError(f"{path.name}: must be a mapping with dataset, model, seed, …")
    checker = _Checker(path.name)
    checker.check_keys(content, {"dataset", "model", "seed", "datasets", "models"}, "")
    seed = checker.check(Seed, content["seed"], "seed")
    dataset_name = checker.choose(content, "dataset")
    model_name = checker.choose(content, "model")
    dataset = checker.check(Dataset, content["datasets"][dataset_name], f"datasets.{dataset_name}")
    recipe, options = _check_model(checker, content["models"][model_name], model_name)
    return Params(dataset_name, dataset, model_name, recipe, options, seed)


def _check_model(checker: "_Checker", block: Any, name: str) -> tuple[Recipe, dict[str, Any]]:
    """Check a model's block: the recipe's keys, and the options that its build_model takes."""
    key = f"models.{name}"
    if not isinstance(block, dict):
        raise checker.error(key, block, "must be a mapping of the model's parameters")
    takes_features, option_types = describe_architecture(name)
    checker.check_keys(block, set(Recipe.model_fields) | set(option_types), f"{key}.")
    recipe = checker.check(Recipe, {k: block[k] for k in Recipe.model_fields}, key)
    options = {k: checker.check(kind, block[k], f"{key}.{k}") for k, kind in option_types.items()}
    if takes_features and not recipe.backbone:
        raise checker.error(f"{key}.backbone", None, "must be given: this model takes features")
    if recipe.backbone and not takes_features:
        raise ValueError(
            f"{checker.file}: {key}.backbone must be null: this model takes the images themselves"
        )
    if recipe.augmented_epochs and recipe.backbone:
        raise checker.error(
            f"{key}.augmented_epochs",
            recipe.augmented_epochs,
            "must be 0 for a model with a backbone, whose features are computed once",
        )
    total_epochs = recipe.epochs + recipe.augmented_epochs
    if recipe.schedule and recipe.schedule.warmup_epochs >= total_epochs:
        raise checker.error(
            f"{key}.schedule.warmup_epochs",
            recipe.schedule.warmup_epochs,
            f"must be less than the {total_epochs} epochs of the training",
        )
    if recipe.augmented_epochs and not recipe.augmentation:
        raise checker.error(
            f"{key}.augmentation", None, "must be given when augmented_epochs is not 0"
        )
    _check_weights(checker, recipe.backbone, f"{key}.backbone")
    return recipe, options


def _check_weights(checker: "_Checker", backbone: Backbone | None, key: str) -> None:
    """Refuse a weights file without its sum, and a sum without a file."""
    if backbone is None:
        return
    is_file = backbone.weights not in (None, "imagenet")
    if is_file and backbone.weights_sha256 is None:
        raise ValueError(
            f"{checker.file}: {key}.weights={backbone.weights} is a file, so "
            f"{key}.weights_sha256 must hold its SHA-256 sum ({_sum_hint(backbone.weights)}): "
            "features computed with one file are then never taken for another's"
        )
    if not is_file and backbone.weights_sha256 is not None:
        raise checker.error(
            f"{key}.weights_sha256",
            backbone.weights_sha256,
            "must be null unless weights is a file",
        )


def _sum_hint(weights: str) -> str:
    path = Path(weights).expanduser()
    if not path.is_file():
        return "and there is no such file"
    return f"now {sha256_of_file(path)}"


def describe_architecture(model: str) -> tuple[bool, dict[str, Any]]:
    """Tell what `imgpipe/models/<model>.py` takes.

    Its `build_model` says so in one place: the first argument is `image_shape` or, for a model
    that takes a backbone's features, `feature_shape`; the keyword-only arguments, with the types
    as annotations, are its options.

    Returns:
        Whether it takes features, and the name and type of each option.

    Raises:
        ValueError: there is no such module, or it lacks one of these.
    """
    file = f"imgpipe/models/{model}.py"
    try:
        module = import_module(f"imgpipe.models.{model}")
        arguments = inspect.signature(module.build_model, eval_str=True).parameters
    except ModuleNotFoundError as error:
        if error.name != f"imgpipe.models.{model}":
            raise
        raise ValueError(
            f"{file}: not found; the block models.{model} in {PARAMS_FILE} needs this file with a "
            "function build_model"
        ) from None
    except AttributeError:
        raise ValueError(f"{file}: has no function build_model; add it") from None
    first = next(iter(arguments), "none")
    if first not in ("image_shape", "feature_shape"):
        raise ValueError(
            f"{file}: the first argument of build_model is {first}; name it image_shape, or "
            "feature_shape if the model takes a backbone's features"
        )
    options = {a.name: a.annotation for a in arguments.values() if a.kind is a.KEYWORD_ONLY}
    for option, kind in options.items():
        if kind is inspect.Parameter.empty:
            raise ValueError(f"{file}: build_model's option {option} has no type; annotate it")
    return first == "feature_shape", options


class _Checker:
    """Checks values and words what is wrong with them as `<file>: <key>=<value> <rule>`."""

    def __init__(self, file: str):
        self.file = file

    def error(self, key: str, value: Any, rule: str) -> ValueError:
        shown = "null" if value is None else f"{value:g}" if isinstance(value, float) else value
        return ValueError(f"{self.file}: {key}={shown} {rule}")

    def check_keys(self, mapping: dict, known: set[str], prefix: str) -> None:
        for key in mapping:
            if key not in known:
                raise self._unknown_key(f"{prefix}{key}", known)
        for key in sorted(known):
            if key not in mapping:
                raise self._missing_key(f"{prefix}{key}")

    def choose(self, content: dict, kind: Literal["dataset", "model"]) -> str:
        """Return content[kind] once it names a block of the catalogue beside it."""
        catalogue, name = content[f"{kind}s"], content[kind]
        if not isinstance(catalogue, dict):
            raise self.error(f"{kind}s", catalogue, f"must be a mapping of {kind} blocks")
        if not isinstance(name, str):
            raise self.error(kind, name, f"must be the name of one {kind}")
        if name not in catalogue:
            close = difflib.get_close_matches(name, map(str, catalogue), n=1)
            meant = f"; did you mean {close[0]}?" if close else ""
            raise ValueError(
                f"{self.file}: {kind}={name} is not in {kind}s; "
                f"known: {', '.join(map(str, catalogue))}{meant}"
            )
        return name

    def check(self, kind: Any, value: Any, key: str) -> Any:
        """Return `value` as `kind`, a pydantic type; raise ValueError on its first fault."""
        try:
            return TypeAdapter(kind).validate_python(value, strict=True)
        except ValidationError as error:
            raise self._worded(kind, error.errors()[0], key) from None

    def _worded(self, kind: Any, fault: dict, key: str) -> ValueError:
        # In a union (`str | list[str]`) pydantic names the branch in the path: not a key.
        steps = [s for s in fault["loc"] if isinstance(s, int) or not re.search(r"\[|^str$", s)]
        path = key + "".join(f"[{s}]" if isinstance(s, int) else f".{s}" for s in steps)
        if fault["type"] == "extra_forbidden":
            return self._unknown_key(path, _known_keys(kind, steps[:-1]))
        if fault["type"] == "missing":
            return self._missing_key(path)
        if fault["msg"].startswith("."):  # a rule about one key of a block, worded there
            return ValueError(f"{self.file}: {path}{fault['msg']}")
        rule = fault["msg"].replace("Input should be", "must be")
        return self.error(path, fault["input"], rule)

    def _unknown_key(self, key: str, known: set[str]) -> ValueError:
        close = difflib.get_close_matches(key.rpartition(".")[2], known, n=1)
        remedy = f"did you mean {close[0]}?" if close else f"known: {', '.join(sorted(known))}"
        return ValueError(f"{self.file}: unknown key {key}; {remedy}")

    def _missing_key(self, key: str) -> ValueError:
        return ValueError(f"{self.file}: missing key {key}; add it")


def _known_keys(block: Any, steps: list) -> set[str]:
    """Follow `steps` into the blocks within `block`; return the keys of the last one."""
    for step in steps:
        if isinstance(step, str):
            block = block.model_fields[step].annotation
        while inner := [a for a in get_args(block) if a is not type(None)]:
            block = inner[0]
    return set(block.model_fields)
