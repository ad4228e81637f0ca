"""The report: one HTML page that shows a run's results and says what they mean."""

import base64
import hashlib
import io
import json
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
import pandas as pd
from PIL import Image
from scipy.stats import binomtest

from imgpipe import charts
from imgpipe.contract import Contract
from imgpipe.images import to_picture
from imgpipe.params import Params
from imgpipe.vega import load_vega_script
from imgpipe.wording import shorten

TEMPLATES = Path(__file__).with_name("templates")
MISTAKES_SHOWN = 12
CONFUSIONS_SHOWN = 10
_OFF = ("null", "false", "0", "0.0")  # what switches a part of a recipe off
_PAIR = ["actual", "predicted"]
_PICTURE_PIXELS = 160  # of a mistake's picture, at most
# Before anything is drawn: charts replace their still pictures only where scripts run.
_MARK_SCRIPTS = 'document.documentElement.classList.add("js");'


@dataclass(frozen=True)
class EvaluateMetrics:
    """What `evaluate` measured on the test images."""

    accuracy: float
    accuracy_low: float
    accuracy_high: float
    macro_f1: float
    loss: float
    calibration_error: float
    images: int
    parameters: int
    multiply_adds: int


@dataclass(frozen=True)
class TrainMetrics:
    """What `train` measured at the epoch whose weights it kept."""

    kept_epoch: int
    epochs: int
    train_accuracy: float
    train_loss: float
    val_accuracy: float
    val_loss: float


@dataclass(frozen=True)
class SplitMetrics:
    """What `split` counted."""

    train: int
    val: int
    test: int
    bad_images: int
    groups: int
    groups_across: int
    exact_duplicates: dict[str, int]
    near_duplicates: dict[str, int]


@dataclass(frozen=True)
class StageEnvironment:
    """On what one stage has computed."""

    precision: str
    python: str
    packages: dict[str, str]
    system: str
    processor: str
    instructions: list[str]
    cores: int


@dataclass(frozen=True)
class Results:
    """A finished run, as read from its files.

    Attributes:
        params: what params.yaml says now.
        changed_params: names of those that differ from what the results were made with.
        contract: of the trained model.
        test: scores on the test images.
        train: scores of the kept epoch.
        split: counts of images and duplicates, or None.
        environments: by stage; may be empty.
        revision: of git, in words, or None.
        history: columns epoch, accuracy, loss, val_accuracy, val_loss.
        class_scores: columns class, precision, recall, f1, support.
        predictions: one row a test image: id, actual, predicted, probability, actual_probability.
        reliability: columns confidence_low, confidence_high, images, confidence, accuracy; or
            None.
        test_images: uint8 (n, height, width, 1 or 3) in the order of predictions, or None.
        pictures: figures that were drawn, name to PNG file's bytes; those that are missing are
            left out.
    """

    params: Params
    changed_params: list[str]
    contract: Contract
    test: EvaluateMetrics
    train: TrainMetrics
    split: SplitMetrics | None
    environments: dict[str, StageEnvironment]
    revision: str | None
    history: pd.DataFrame
    class_scores: pd.DataFrame
    predictions: pd.DataFrame
    reliability: pd.DataFrame | None
    test_images: np.ndarray | None
    pictures: dict[str, bytes]


@dataclass(frozen=True)
class Picture:
    """A picture inside the page."""

    address: str  # a data: URI
    width: int
    height: int


def render_report(results: Results, made: datetime) -> str:
    """Render the page; it needs neither a network nor any other file.

    All texts are escaped, and a policy in the page lets nothing run in it but its own three
    scripts, known by their sums, and nothing be loaded: names of classes and files come from
    strangers.

    Args:
        results: of the run.
        made: when; stands at the end of the page.
    """
    names = results.contract.class_names
    cells = count_confusions(results.predictions, names)
    drawn = {
        "accuracy": charts.chart_curves(results.history, "accuracy", results.train.kept_epoch),
        "loss": charts.chart_curves(results.history, "loss", results.train.kept_epoch),
        "confusion": charts.chart_confusion(cells, names, shares=False),
        "recall": charts.chart_confusion(cells, names, shares=True),
        "classes": charts.chart_class_scores(results.class_scores),
    }
    if results.reliability is not None:
        drawn["reliability"] = charts.chart_reliability(results.reliability)
        drawn["confidence"] = charts.chart_confidence(results.reliability)
    themes = {"light": charts.make_theme(dark=False), "dark": charts.make_theme(dark=True)}
    scripts = {
        "mark": _MARK_SCRIPTS,
        "vega": load_vega_script(),
        "draw": (TEMPLATES / "report.js").read_text("utf-8"),
    }
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["short"] = lambda name: shorten(name, 60)
    return environment.get_template("report.html.j2").render(
        results=results,
        data_options=list_data_options(results.params),
        model_options=list_model_options(results.params),
        matrix=make_matrix(cells, names) if len(names) <= charts.MOST_CLASSES_NUMBERED else None,
        cells=cells,
        confusions=rank_confusions(cells),
        classes=add_intervals(results.class_scores),
        confidence=float(results.predictions["probability"].mean()),
        mistakes=pick_mistakes(results.predictions, results.test_images),
        mistake_count=int(
            (results.predictions["actual"] != results.predictions["predicted"]).sum()
        ),
        pictures={name: embed_picture(content) for name, content in results.pictures.items()},
        chart_data=embed_json({"charts": drawn, "themes": themes}),
        scripts=scripts,
        script_sums=[_sum_script(script) for script in scripts.values()],
        style=(TEMPLATES / "report.css").read_text("utf-8"),
        made=made,
    )


def find_changed_params(params: dict[str, Any], recorded: Iterable[dict[str, Any]]) -> list[str]:
    """Name the parameters that are no longer what they were when the results were made.

    Args:
        params: the content of params.yaml.
        recorded: for each stage what DVC has recorded of them, dotted name to value.
    """
    changed = []
    for name, value in (pair for stage in recorded for pair in stage.items()):
        present = params
        for key in name.split("."):
            present = present.get(key) if isinstance(present, dict) else None
        if present != value and name not in changed:
            changed.append(name)
    return changed


def list_data_options(params: Params) -> dict[str, str]:
    """List how the dataset is cut into subsets, as list_model_options does."""
    options = params.dataset.model_dump(include={"split", "group_pattern", "on_bad_image"})
    return {name: word for name, word in _word_options(options).items() if word != "null"}


def list_model_options(params: Params) -> dict[str, str]:
    """List the recipe and the options of the model, without what is switched off.

    Returns:
        Name within the model's block (dotted where it is nested) to value, in words. The weights'
        place on this machine is nobody's business, so their file's name stands for it.
    """
    recipe = params.recipe.model_dump()
    if not recipe["augmented_epochs"]:
        recipe["augmentation"] = None
    if recipe["backbone"]:
        recipe["backbone"]["weights"] = Path(recipe["backbone"]["weights"] or "random").name
    words = _word_options(params.options | recipe)
    return {name: word for name, word in words.items() if word not in _OFF}


def _word_options(options: dict[str, Any], prefix: str = "") -> dict[str, str]:
    """Word nested values one by one, as params.yaml and `-S` have them."""
    words = {}
    for name, value in options.items():
        if isinstance(value, dict):
            words |= _word_options(value, f"{prefix}{name}.")
        else:
            words[f"{prefix}{name}"] = value if isinstance(value, str) else json.dumps(value)
    return words


def count_confusions(predictions: pd.DataFrame, class_names: list[str]) -> pd.DataFrame:
    """Count the test images of each actual and predicted class.

    Args:
        predictions: columns actual, predicted.
        class_names: in label order.

    Returns:
        One row for each pair that occurs, and for each class with itself: actual, predicted,
        images, share (of the images of the actual class; NaN where it has none).
    """
    pairs = pd.DataFrame({c: pd.Categorical(predictions[c], class_names) for c in _PAIR})
    counts = pairs.groupby(_PAIR, observed=False).size().rename("images").reset_index()
    counts[_PAIR] = counts[_PAIR].astype(object)
    counts["share"] = counts["images"] / counts.groupby("actual")["images"].transform("sum")
    shown = (counts["images"] > 0) | (counts["actual"] == counts["predicted"])
    return counts[shown].reset_index(drop=True)


def make_matrix(cells: pd.DataFrame, class_names: list[str]) -> list[list[int]]:
    """Arrange counted confusions as rows of actual and columns of predicted classes."""
    table = cells.pivot(index="actual", columns="predicted", values="images")
    table = table.reindex(index=class_names, columns=class_names, fill_value=0)
    return table.fillna(0).astype(int).to_numpy().tolist()


def rank_confusions(cells: pd.DataFrame, count: int = CONFUSIONS_SHOWN) -> list[dict]:
    """List the pairs of classes that were confused most often, as rows of count_confusions."""
    wrong = cells[cells["actual"] != cells["predicted"]]
    order = wrong.sort_values(["images", "share"], ascending=False, kind="stable")
    return order.head(count).to_dict("records")


def add_intervals(class_scores: pd.DataFrame) -> list[dict]:
    """Give each class the 95 % Wilson interval of its recall, None where it has no images.

    Returns:
        The rows of `class_scores` with recall_low and recall_high.
    """
    rows = class_scores.to_dict("records")
    for row in rows:
        row["recall_low"] = row["recall_high"] = None
        if images := int(row["support"]):
            found = binomtest(round(row["recall"] * images), images)
            row["recall_low"], row["recall_high"] = found.proportion_ci(0.95, method="wilson")
    return rows


def pick_mistakes(
    predictions: pd.DataFrame, images: np.ndarray | None, count: int = MISTAKES_SHOWN
) -> list[dict]:
    """Pick the wrong predictions with the highest probability.

    Args:
        predictions: id, actual, predicted, probability, actual_probability.
        images: uint8 (n, height, width, 1 or 3) in their order, or None.
        count: how many, at most.

    Returns:
        Rows of `predictions`, each with its picture (None without images).
    """
    table = predictions.reset_index(drop=True)
    wrong = table[table["actual"] != table["predicted"]]
    wrong = wrong.sort_values("probability", ascending=False, kind="stable").head(count)
    return [
        row | {"picture": None if images is None else embed_picture(encode_png(images[number]))}
        for number, row in zip(wrong.index, wrong.to_dict("records"), strict=True)
    ]


def encode_png(image: np.ndarray) -> bytes:
    """Encode an image as a small PNG file.

    Args:
        image: uint8 (height, width, 1 or 3).
    """
    picture = to_picture(image)
    picture.thumbnail((_PICTURE_PIXELS, _PICTURE_PIXELS))
    file = io.BytesIO()
    picture.save(file, "PNG", optimize=True)
    return file.getvalue()


def embed_picture(content: bytes) -> Picture:
    """Make a PNG file part of the page.

    Raises:
        OSError: it is no PNG file.
    """
    with Image.open(io.BytesIO(content), formats=["PNG"]) as picture:
        width, height = picture.size
    return Picture(f"data:image/png;base64,{base64.b64encode(content).decode()}", width, height)


def embed_json(content: Any) -> str:
    """Write JSON that can stand in a `<script>` element, whatever its texts hold."""
    text = json.dumps(content, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text


def _sum_script(script: str) -> str:
    """Return a script's sum as a Content-Security-Policy names it."""
    return f"sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}"
