"""report: put the results in this folder into one HTML page that opens without a network.

python -m stages.report [--out FILE]
Reads data/model/contract.json, metrics/, plots/ and the test images; writes plots/report.html.
What an older run lacks is left out of the page.
"""

import argparse
import subprocess
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
import pandas as pd
from PIL import Image
from pydantic import TypeAdapter, ValidationError

from imgpipe.arrays import open_array
from imgpipe.contract import CONTRACT, load_contract, read_json
from imgpipe.files import replacing
from imgpipe.params import PARAMS_FILE, load_params
from imgpipe.report import (
    EvaluateMetrics,
    Results,
    SplitMetrics,
    StageEnvironment,
    TrainMetrics,
    find_changed_params,
    render_report,
)
from imgpipe.stage import run_main
from imgpipe.wording import shorten, word_error
from imgpipe.yaml_file import read_yaml

ARRAYS = Path("data/arrays")
ACTIVATIONS = Path("data/evaluation/activations.npz")
MODEL = Path("data/model")
METRICS = Path("metrics")
PLOTS = Path("plots")
LOCK = Path("dvc.lock")
REPORT = PLOTS / "report.html"
PICTURES = (
    "curves",
    "confusion",
    "per_class",
    "reliability",
    "samples",
    "class_activation",
    "activations",
    "embedding_pixels",
    "embedding_model",
)
CONVOLUTION_PICTURES = ("class_activation", "activations")
NUMBERS = {
    "history": ["epoch", "accuracy", "loss", "val_accuracy", "val_loss"],
    "per_class": ["precision", "recall", "f1", "support"],
    "predictions": ["probability", "actual_probability"],
    "reliability": ["confidence_low", "confidence_high", "images", "confidence", "accuracy"],
}
MAY_LACK = {  # numbers that are not there, or not finite
    "history": ["loss", "val_loss"],
    "reliability": ["confidence", "accuracy"],
}
TEXTS = {"per_class": ["class"], "predictions": ["id", "actual", "predicted"]}


def main():
    """Read the results, write the page."""
    parser = argparse.ArgumentParser(
        prog="python -m stages.report", description="Put the results into one HTML page."
    )
    parser.add_argument(
        "--out", type=Path, default=REPORT, metavar="FILE", help=f"where to ({REPORT})"
    )
    out = parser.parse_args().out
    page = render_report(read_results(), datetime.now(UTC))
    with replacing(out) as path:
        path.write_text(page, encoding="utf-8")
    print(f"report: {out}, {len(page.encode()) / 1e6:.1f} MB")


def read_results() -> Results:
    """Read what the stages have written.

    Raises:
        FileNotFoundError: something that no report can do without is missing.
        ValueError: a file is damaged, or is not of the same run as the others.
    """
    contract = load_contract(MODEL / CONTRACT)
    params = load_params()
    if (params.model_name, params.dataset_name) != (contract.model, contract.dataset):
        raise ValueError(
            f"{PARAMS_FILE}: asks for {params.model_name} on {params.dataset_name}, the results "
            f"here are of {contract.model} on {contract.dataset}; run dvc repro"
        )
    predictions = read_table("predictions")
    if not predictions[["actual", "predicted"]].isin(contract.class_names).all(axis=None):
        raise ValueError(
            f"{PLOTS}/predictions.csv: has classes that the model does not; run dvc repro"
        )
    test_images = None
    if (ARRAYS / "test_images.npy").is_file():
        test_images = open_array(ARRAYS / "test_images.npy")
        if len(test_images) != len(predictions):
            raise ValueError(
                f"{PLOTS}/predictions.csv: has {len(predictions):,} rows for "
                f"{len(test_images):,} test images; run dvc repro"
            )
    split, environment = METRICS / "split.json", METRICS / "environment.json"
    return Results(
        params=params,
        changed_params=find_changed_params(read_yaml(Path(PARAMS_FILE)), read_recorded_params()),
        contract=contract,
        test=read_metrics(METRICS / "test.json", EvaluateMetrics),
        train=read_metrics(METRICS / "train.json", TrainMetrics),
        split=read_metrics(split, SplitMetrics) if split.is_file() else None,
        environments=read_metrics(environment, dict[str, StageEnvironment])
        if environment.is_file()
        else {},
        revision=describe_revision(),
        history=read_table("history"),
        class_scores=read_table("per_class"),
        predictions=predictions,
        reliability=read_table("reliability") if (PLOTS / "reliability.csv").is_file() else None,
        test_images=test_images,
        pictures=read_pictures(),
    )


def read_table(name: str) -> pd.DataFrame:
    """Read one of the tables in plots/, whose class names may look like missing values."""
    path = PLOTS / f"{name}.csv"
    if not path.is_file():
        raise FileNotFoundError(f"{path}: not found; run dvc repro")
    try:
        table = pd.read_csv(path, keep_default_na=False, dtype=str)
    except ValueError as error:
        raise ValueError(f"{path}: is not CSV ({word_error(error)}); run dvc repro") from None
    columns = NUMBERS[name] + TEXTS.get(name, [])
    if table.empty or not set(columns) <= set(table.columns):
        raise ValueError(f"{path}: must have rows of {', '.join(columns)}; run dvc repro")
    table[NUMBERS[name]] = table[NUMBERS[name]].apply(pd.to_numeric, errors="coerce")
    needed = [c for c in NUMBERS[name] if c not in MAY_LACK.get(name, [])]
    if table[needed].isna().any(axis=None):
        raise ValueError(f"{path}: {', '.join(needed)} must be numbers in each row; run dvc repro")
    whole = [column for column in needed if column in ("epoch", "support", "images")]
    return table.astype(dict.fromkeys(whole, int))


def read_metrics(path: Path, kind: Any) -> Any:
    """Read one of the JSON files in metrics/ as a dataclass, or a mapping of such."""
    try:
        return TypeAdapter(kind).validate_python(read_json(path))
    except ValidationError as error:
        fault = error.errors(include_url=False)[0]
        where = shorten(".".join(map(str, fault["loc"])) or "it")
        raise ValueError(f"{path}: {where}: {shorten(fault['msg'], 200)}; run dvc repro") from None


def read_pictures() -> dict[str, bytes]:
    """Read the figures in plots/ that are there, and have something to show."""
    found = {}
    empty = CONVOLUTION_PICTURES if lacks_convolutions() else ()
    for name in PICTURES:
        path = PLOTS / f"{name}.png"
        if name in empty or not path.is_file():
            continue
        try:
            with Image.open(path, formats=["PNG"]) as picture:
                picture.load()
        except (OSError, SyntaxError, ValueError) as error:  # Pillow's, on broken files
            raise ValueError(
                f"{path}: is not a whole PNG ({word_error(error)}); remove it, run dvc repro"
            ) from None
        found[name] = path.read_bytes()
    return found


def lacks_convolutions() -> bool:
    """Tell whether the model is known to have no convolution layer."""
    try:
        with np.load(ACTIVATIONS, allow_pickle=False) as maps:
            return not maps.files
    except (OSError, ValueError, BadZipFile):  # missing or damaged: then the pictures tell
        return False


def read_recorded_params() -> list[dict[str, Any]]:
    """Read with which parameters DVC has run the stages that results depend on."""
    stages = read_yaml(LOCK)["stages"] if LOCK.is_file() else {}
    ran = (stages.get(name, {}) for name in ("split", "preprocess", "features", "train"))
    return [stage.get("params", {}).get(PARAMS_FILE, {}) for stage in ran]


def describe_revision() -> str | None:
    """Name the commit that is checked out, and say whether files differ from it."""
    try:
        commit, changes = (
            subprocess.run(["git", *words], capture_output=True, text=True, check=True).stdout
            for words in (["rev-parse", "--short=12", "HEAD"], ["status", "--porcelain"])
        )
    except (FileNotFoundError, subprocess.CalledProcessError):  # no git, no repository, no commit
        return None
    return commit.strip() + (", with uncommitted changes" if changes else "")


if __name__ == "__main__":
    run_main(main)
