"""Scores of predictions, each with what it takes to trust it."""

import numpy as np
import pandas as pd
from scipy.stats import binomtest
from sklearn.metrics import f1_score, log_loss, precision_recall_fscore_support

CONFIDENCE_BINS = 15


def score_predictions(labels: np.ndarray, probabilities: np.ndarray) -> dict[str, float | int]:
    """Score predictions as a whole.

    Args:
        labels: integers (n,).
        probabilities: float (n, classes).

    Returns:
        accuracy with accuracy_low and accuracy_high (95 % Wilson interval), macro_f1, loss
        (cross-entropy in nats), calibration_error (the expected one, 15 bins), images (n).

    Source: Wilson 1927, Journal of the American Statistical Association 22, p. 209.
    """
    predictions = probabilities.argmax(axis=1)
    correct = int((predictions == labels).sum())
    interval = binomtest(correct, len(labels)).proportion_ci(0.95, method="wilson")
    classes = np.arange(probabilities.shape[1])
    calibration_error = measure_calibration_error(labels, probabilities)
    probabilities = probabilities.astype(np.float64)
    scores = {
        "accuracy": correct / len(labels),
        "accuracy_low": interval.low,
        "accuracy_high": interval.high,
        "macro_f1": f1_score(labels, predictions, labels=classes, average="macro", zero_division=0),
        "loss": log_loss(
            labels, probabilities / probabilities.sum(axis=1, keepdims=True), labels=classes
        ),
        "calibration_error": calibration_error,
    }
    return {name: round(float(score), 6) for name, score in scores.items()} | {
        "images": len(labels)
    }


def measure_calibration_error(
    labels: np.ndarray, probabilities: np.ndarray, bins: int = CONFIDENCE_BINS
) -> float:
    """Measure how far confidence and accuracy lie apart, on average over the images.

    Args:
        labels: integers (n,).
        probabilities: float (n, classes); the highest of a row is its confidence.
        bins: number of equally wide ranges of confidence.

    Returns:
        Expected calibration error in [0, 1]: |accuracy - mean confidence| of each bin, weighted
        by its images.

    Source: Guo, Pleiss, Sun, Weinberger 2017, "On Calibration of Modern Neural Networks", eq. 3.
    """
    table = tabulate_reliability(labels, probabilities, bins)
    gaps = (table["accuracy"] - table["confidence"]).abs() * table["images"]
    return float(gaps.sum() / len(labels))


def tabulate_reliability(
    labels: np.ndarray, probabilities: np.ndarray, bins: int = CONFIDENCE_BINS
) -> pd.DataFrame:
    """Tell for each range of confidence how often the predictions in it are right.

    Args:
        labels: integers (n,).
        probabilities: float (n, classes); the highest of a row is its confidence.
        bins: number of equally wide ranges of confidence.

    Returns:
        One row a range, which holds its upper edge and not its lower one: confidence_low,
        confidence_high, images, and their mean confidence and accuracy (NaN without images).
    """
    confidence = probabilities.max(axis=1)
    correct = probabilities.argmax(axis=1) == labels
    numbers = np.clip(np.ceil(confidence * bins).astype(int) - 1, 0, bins - 1)
    table = pd.DataFrame({"confidence": confidence.astype(np.float64), "accuracy": correct})
    means = table.groupby(numbers).mean()
    edges = np.arange(bins + 1) / bins
    table = pd.DataFrame({"confidence_low": edges[:-1], "confidence_high": edges[1:]})
    table["images"] = np.bincount(numbers, minlength=bins)
    return table.join(means)


def choose_examples(predictions: pd.DataFrame, count: int = 6) -> np.ndarray:
    """Choose predictions worth a closer look.

    Args:
        predictions: as tabulate_predictions makes them.
        count: of either kind.

    Returns:
        Row numbers, int64: right predictions, of as many classes as there are; then the most
        confident mistakes.
    """
    table = predictions.reset_index(drop=True)
    right = table["actual"] == table["predicted"]
    turns = table[right].groupby("actual").cumcount()  # the first of each class, then the second, …
    first = turns.sort_values(kind="stable").head(count)
    wrong = table[~right].sort_values("probability", ascending=False, kind="stable").head(count)
    return np.array([*first.index, *wrong.index], np.int64)


def score_classes(
    labels: np.ndarray, predictions: np.ndarray, class_names: list[str]
) -> pd.DataFrame:
    """Score each class by itself.

    Args:
        labels: integers (n,).
        predictions: integers (n,).
        class_names: in label order.

    Returns:
        One row a class: class, precision, recall, f1, support (images of that class).
    """
    columns = precision_recall_fscore_support(
        labels, predictions, labels=np.arange(len(class_names)), zero_division=0
    )
    names = ("precision", "recall", "f1", "support")
    return pd.DataFrame({"class": class_names, **dict(zip(names, columns, strict=True))})


def tabulate_predictions(
    ids: np.ndarray, labels: np.ndarray, probabilities: np.ndarray, class_names: list[str]
) -> pd.DataFrame:
    """Make a table of what was predicted for each image.

    Returns:
        One row an image: id, actual and predicted (class names), probability (of the predicted
        class), actual_probability (of the true one).
    """
    names = np.array(class_names, dtype=object)
    predictions = probabilities.argmax(axis=1)
    rows = np.arange(len(labels))
    return pd.DataFrame(
        {
            "id": ids,
            "actual": names[labels],
            "predicted": names[predictions],
            "probability": probabilities[rows, predictions].astype(np.float64).round(6),
            "actual_probability": probabilities[rows, labels].astype(np.float64).round(6),
        }
    )
