"""Reading and checking params.yaml, before any stage does any work."""

import difflib
import inspect
from collections.abc import Iterable
from importlib import import_module
from pathlib import Path
from typing import Any, Literal, NamedTuple

from pydantic import TypeAdapter, ValidationError

from imgpipe.addresses import hide_secrets
from imgpipe.files import sha256_of_file
from imgpipe.schema import Backbone, Dataset, Recipe, Seed
from imgpipe.wording import shorten
from imgpipe.yaml_file import read_yaml

PARAMS_FILE = "params.yaml"
_LONGEST_NAME = 80  # characters
OPTIMIZER_SETTINGS = {"momentum": ("sgd", "rmsprop"), "weight_decay": ("adamw",)}


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
        content = read_yaml(path)
    except FileNotFoundError:
        raise FileNotFoundError(
            f"{path}: not found; run from the project's folder, which holds it"
        ) from None
    if not isinstance(content, dict):
        raise ValueError(
            f"{path.name}: must be a mapping with dataset, model, seed, datasets, models; write "
            "them as key: value"
        )
    checker = _Checker(path.name)
    checker.check_keys(content, {"dataset", "model", "seed", "datasets", "models"}, "")
    seed = checker.check(Seed, content["seed"], "seed")
    dataset_name = checker.choose(content, "dataset")
    model_name = checker.choose(content, "model")
    dataset = checker.check(Dataset, content["datasets"][dataset_name], f"datasets.{dataset_name}")
    _check_source(checker, dataset, dataset_name)
    recipe, options = _check_model(checker, content["models"][model_name], model_name)
    return Params(dataset_name, dataset, model_name, recipe, options, seed)


def _check_source(checker: "_Checker", dataset: Dataset, name: str) -> None:
    """Refuse a dataset that is nowhere to be had."""
    if dataset.source is None and not dataset.public_sources:
        raise checker.error(
            f"datasets.{name}.source",
            None,
            "must name your images, as there is no public address for this dataset; put them into "
            "a folder, zip or tar as <class>/<image> or as {train,val,test}/<class>/<image> and "
            f"name it: dvc exp run -S dataset={name} -S datasets.{name}.source=/path/to/it",
        )
    places = dataset.source if isinstance(dataset.source, list) else [dataset.source or ""]
    for place in places:
        _check_home(checker, place, f"datasets.{name}.source")


def _check_home(checker: "_Checker", place: str, key: str) -> None:
    """Refuse a path that begins with the home folder of nobody, or that no system could have."""
    try:
        Path(place).expanduser().exists()
    except RuntimeError:
        raise checker.error(key, place, "must begin with ~ or the ~name of a user here") from None
    except OSError as error:
        raise checker.error(key, place, f"cannot be looked up ({error.strerror})") from None


def _check_model(checker: "_Checker", block: Any, name: str) -> tuple[Recipe, dict[str, Any]]:
    """Check a model's block: the recipe's keys, and the options that its build_model takes."""
    key = f"models.{name}"
    if not isinstance(block, dict):
        raise checker.error(key, block, "must be a mapping of the model's parameters")
    takes_features, option_types = describe_architecture(name)
    checker.check_keys(block, set(Recipe.model_fields) | set(option_types), f"{key}.")
    recipe = checker.check(Recipe, {k: block[k] for k in Recipe.model_fields}, key)
    options = {k: checker.check(kind, block[k], f"{key}.{k}") for k, kind in option_types.items()}
    for part in ("backbone", "features"):
        given = getattr(recipe, part) is not None
        if takes_features and not given:
            raise checker.error(f"{key}.{part}", None, "must be given: this model takes features")
        if given and not takes_features:
            raise ValueError(
                f"{checker.file}: {key}.{part} must be null: this model takes the images themselves"
            )
    _check_epochs(checker, recipe, key)
    _check_optimizer(checker, recipe, key)
    _check_weights(checker, recipe.backbone, f"{key}.backbone")
    return recipe, options


def _check_epochs(checker: "_Checker", recipe: Recipe, key: str) -> None:
    """Refuse a training without epochs, and what does not fit the epochs."""
    total_epochs = recipe.epochs + recipe.augmented_epochs
    if total_epochs == 0:
        raise checker.error(f"{key}.epochs", 0, "must be 1 or greater where augmented_epochs is 0")
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
    copies = recipe.features.augmented_copies if recipe.features else None
    if recipe.augmented_epochs and copies == 0:
        raise checker.error(
            f"{key}.features.augmented_copies",
            0,
            "must be 1 or greater when augmented_epochs is not 0",
        )
    if copies and not recipe.augmented_epochs:
        raise checker.error(
            f"{key}.features.augmented_copies",
            copies,
            "must be 0 when augmented_epochs is 0: only those epochs use the copies",
        )


def _check_optimizer(checker: "_Checker", recipe: Recipe, key: str) -> None:
    """Refuse settings that the chosen optimiser does not have."""
    for setting, takers in OPTIMIZER_SETTINGS.items():
        value = getattr(recipe, setting)
        if value and recipe.optimizer not in takers:
            raise checker.error(
                f"{key}.{setting}", value, f"must be 0 unless optimizer is {' or '.join(takers)}"
            )


def _check_weights(checker: "_Checker", backbone: Backbone | None, key: str) -> None:
    """Refuse a weights file without its sum, and a sum without a file."""
    if backbone is None:
        return
    _check_home(checker, backbone.weights or "", f"{key}.weights")
    is_file = backbone.weights not in (None, "imagenet")
    if is_file and backbone.weights_sha256 is None:
        raise ValueError(
            f"{checker.file}: {key}.weights={shorten(backbone.weights)} is a file, so "
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
    try:
        return f"now {sha256_of_file(path)}" if path.is_file() else "and there is no such file"
    except OSError as error:
        return f"and it cannot be read: {error.strerror}"


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
        return ValueError(f"{self.file}: {shorten(key)}={shorten(hide_secrets(str(shown)))} {rule}")

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
            close = _find_close(name, catalogue)
            meant = f"; did you mean {close}?" if close else ""
            raise ValueError(
                f"{self.file}: {kind}={shorten(hide_secrets(name))} is not in {kind}s; "
                f"known: {shorten(', '.join(map(str, catalogue)), 300)}{meant}"
            )
        if not name.isidentifier() or len(name) > _LONGEST_NAME:
            rule = "must be a plain name of letters, digits and _, as files are called after it"
            raise self.error(kind, name, rule)
        return name

    def check(self, kind: Any, value: Any, key: str) -> Any:
        """Return `value` as `kind`, a pydantic type; raise ValueError on its first fault."""
        try:
            return TypeAdapter(kind).validate_python(value, strict=True)
        except ValidationError as error:
            raise self._worded(value, error.errors()[0], key) from None

    def _worded(self, value: Any, fault: dict, key: str) -> ValueError:
        steps = _steps_in(value, fault)
        path = key + "".join(f"[{s}]" if isinstance(s, int) else f".{s}" for s in steps)
        if fault["type"] == "unknown_key":
            return self._unknown_key(f"{path}.{fault['ctx']['key']}", fault["ctx"]["known"])
        if fault["type"] == "missing":
            return self._missing_key(path)
        if fault["type"].startswith("union_tag"):  # the key that says which block this is
            tag = fault["ctx"]["discriminator"].strip("'")
            if tag not in fault["input"]:
                return self._missing_key(f"{path}.{tag}")
            rule = f"must be one of {fault['ctx']['expected_tags']}"
            return self.error(f"{path}.{tag}", fault["input"][tag], rule)
        if fault["msg"].startswith("."):  # a rule about one key of a block, worded there
            return ValueError(f"{self.file}: {path}{shorten(fault['msg'], 400)}")
        if fault["type"] in ("model_type", "model_attributes_type"):
            return self.error(path, fault["input"], "must be a mapping")
        rule = fault["msg"].replace("Input should be", "must be")
        return self.error(path, fault["input"], rule)

    def _unknown_key(self, key: str, known: Iterable[str]) -> ValueError:
        close = _find_close(key.rpartition(".")[2], known)
        remedy = f"did you mean {close}?" if close else f"known: {', '.join(sorted(known))}"
        return ValueError(f"{self.file}: unknown key {shorten(key)}; {remedy}")

    def _missing_key(self, key: str) -> ValueError:
        return ValueError(f"{self.file}: missing key {shorten(key)}; add it")


def _find_close(name: str, known: Iterable[Any]) -> str | None:
    """Find the known name that a misspelt one may mean."""
    # Comparing takes the square of the length.
    known = [str(other) for other in known if len(str(other)) <= _LONGEST_NAME]
    close = difflib.get_close_matches(name[:_LONGEST_NAME], known, n=1)
    return close[0] if close else None


def _steps_in(value: Any, fault: dict) -> list:
    """List the keys and indices of `value` that lead to a fault.

    For `str | list[str]`, or a block of one kind of several, pydantic puts into a fault's place
    which alternative it tried: a step that the value does not have.
    """
    steps = []
    for step in fault["loc"]:
        if (isinstance(value, dict) and step in value) or (
            isinstance(value, list) and isinstance(step, int)
        ):
            value = value[step]
            steps.append(step)
    if fault["type"] == "missing":
        steps.append(fault["loc"][-1])
    return steps
