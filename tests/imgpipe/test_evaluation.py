"""imgpipe.evaluation: cases worked out by hand."""

import numpy as np
import pandas as pd
import pytest

from imgpipe.evaluation import (
    choose_examples,
    measure_calibration_error,
    score_classes,
    score_predictions,
    tabulate_predictions,
    tabulate_reliability,
)

LABELS = np.array([0, 0, 1, 1])
PROBABILITIES = np.array([[0.9, 0.1], [0.4, 0.6], [0.2, 0.8], [0.3, 0.7]], np.float32)


def test_scores():
    scores = score_predictions(LABELS, PROBABILITIES)
    assert scores["accuracy"] == 0.75
    assert scores["images"] == 4
    # Class 0: precision 1, recall 1/2, F1 2/3. Class 1: precision 2/3, recall 1, F1 4/5.
    assert scores["macro_f1"] == pytest.approx((2 / 3 + 4 / 5) / 2, abs=1e-6)
    assert scores["loss"] == pytest.approx(-np.log([0.9, 0.4, 0.8, 0.7]).mean(), abs=1e-6)
    # Wilson: (p + z²/2n ± z √(p(1-p)/n + z²/4n²)) / (1 + z²/n), z = 1.959964.
    z, n, p = 1.959964, 4, 0.75
    middle, half = p + z * z / 2 / n, z * (p * (1 - p) / n + z * z / 4 / n / n) ** 0.5
    assert scores["accuracy_low"] == pytest.approx((middle - half) / (1 + z * z / n), abs=1e-6)
    assert scores["accuracy_high"] == pytest.approx((middle + half) / (1 + z * z / n), abs=1e-6)


@pytest.mark.parametrize(("right", "low", "high"), [(10, 0.722, 1.0), (0, 0.0, 0.278)])
def test_the_interval_is_sensible_at_the_ends(right, low, high):
    probabilities = np.tile([[1.0, 0.0]], (10, 1))
    labels = np.array([0] * right + [1] * (10 - right))
    scores = score_predictions(labels, probabilities)
    assert scores["accuracy_low"] == pytest.approx(low, abs=1e-3)
    assert scores["accuracy_high"] == pytest.approx(high, abs=1e-3)
    assert np.isfinite(scores["loss"])


def test_calibration_error():
    # Two bins of width 1/2 do not split [0.9, 0.6, 0.8, 0.7]: |3/4 - 0.75| = 0.
    assert measure_calibration_error(LABELS, PROBABILITIES, bins=2) == pytest.approx(0, abs=1e-6)
    # With ten bins each stands alone: (0.1 + 0.6 + 0.2 + 0.3) / 4.
    assert measure_calibration_error(LABELS, PROBABILITIES, bins=10) == pytest.approx(0.3, abs=1e-6)


def test_a_sure_and_right_model_is_calibrated():
    assert measure_calibration_error(np.array([0, 1]), np.eye(2)) == 0
    assert measure_calibration_error(np.array([1, 0]), np.eye(2)) == 1


def test_reliability_table():
    table = tabulate_reliability(LABELS, PROBABILITIES, bins=4)  # 0.9, 0.6, 0.8, 0.7
    assert table["images"].tolist() == [0, 0, 2, 2]
    assert table[["confidence_low", "confidence_high"]].iloc[2].tolist() == [0.5, 0.75]
    assert table["confidence"].tolist()[2:] == [pytest.approx(0.65), pytest.approx(0.85)]
    assert table["accuracy"].tolist()[2:] == [0.5, 1]
    assert table["accuracy"].isna().tolist() == [True, True, False, False]


def test_examples_are_right_ones_of_all_classes_and_the_surest_mistakes():
    table = pd.DataFrame(
        {
            "actual": list("aabbc"),
            "predicted": list("aabab"),
            "probability": [0.9, 1.0, 0.5, 0.7, 0.8],
        }
    )
    assert choose_examples(table, 2).tolist() == [0, 2, 4, 3]
    assert choose_examples(table, 3).tolist() == [0, 2, 1, 4, 3]
    assert choose_examples(table, 1).tolist() == [0, 4]


def test_class_scores():
    table = score_classes(LABELS, PROBABILITIES.argmax(axis=1), ["a", "b"])
    assert list(table.columns) == ["class", "precision", "recall", "f1", "support"]
    assert table.iloc[0].tolist() == ["a", 1.0, 0.5, pytest.approx(2 / 3), 2]
    assert table.iloc[1].tolist() == ["b", pytest.approx(2 / 3), 1.0, pytest.approx(0.8), 2]


def test_a_class_without_test_images_scores_nothing_but_stands_in_the_table():
    table = score_classes(np.array([0]), np.array([0]), ["a", "b"])
    assert table.iloc[1].tolist() == ["b", 0, 0, 0, 0]
    scores = score_predictions(np.array([0]), np.array([[0.8, 0.2]]))
    assert scores["macro_f1"] == 0.5


def test_prediction_table():
    table = tabulate_predictions(np.array(list("wxyz")), LABELS, PROBABILITIES, ["a", "b"])
    assert table["id"].tolist() == list("wxyz")
    assert table["actual"].tolist() == ["a", "a", "b", "b"]
    assert table["predicted"].tolist() == ["a", "b", "b", "b"]
    assert table["probability"].tolist() == [0.9, 0.6, 0.8, 0.7]
    assert table["actual_probability"].tolist() == [0.9, 0.4, 0.8, 0.7]
