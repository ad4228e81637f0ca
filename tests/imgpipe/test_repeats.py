"""imgpipe.repeats: what was repeated is averaged, what differs stays apart."""

import numpy as np
import pytest

from imgpipe.repeats import average_repeats


def run(accuracy, **changes):
    """Describe an experiment as DVC's API does: whole numbers as floats, null as "None"."""
    described = {
        "Experiment": "some-name",
        "dataset": "mpox",
        "model": "vgg16",
        "seed": 13.0,
        "datasets.mpox.split.folds": 3.0,
        "datasets.mpox.split.fold": 0.0,
        "datasets.mpox.split.seed": 13.0,
        "datasets.other.split.fold": 7.0,
        "datasets.other.split.folds": 9.0,
        "models.vgg16.dropout": 0.5,
        "accuracy": accuracy,
        "macro_f1": accuracy / 2 if isinstance(accuracy, float) else accuracy,
        "State": None,
        "val_accuracy": 0.5,
    }
    return described | changes


def fold(number):
    return {"datasets.mpox.split.fold": float(number)}


def test_mean_and_deviation_over_folds():
    table = average_repeats([run(0.7, **fold(0)), run(0.8, **fold(1)), run(0.9, **fold(2))])
    (row,) = table.to_dict("records")
    assert row["accuracy"] == pytest.approx(0.8) and row["accuracy_sd"] == pytest.approx(0.1)
    assert row["macro_f1"] == pytest.approx(0.4) and row["val_accuracy_sd"] == 0
    assert (row["runs"], row["folds"], row["seeds"]) == (3, "0, 1, 2", "13")
    assert "dropout" not in row  # the same in all rows


def test_missing_folds_are_told():
    table = average_repeats([run(0.7, **fold(0)), run(0.8, **fold(2))])
    assert table["folds"][0] == "0, 2 (2 of 3)"


def test_seeds():
    holdout = {"datasets.mpox.split.folds": "None", "datasets.mpox.split.fold": "None"}
    seeds = [run(0.6, seed=1.0, **holdout), run(0.8, seed=2.0, **holdout)]
    table = average_repeats([*seeds, run(None, **holdout)])
    assert (table["runs"][0], table["seeds"][0], table["folds"][0]) == (2, "1, 2", "")
    assert table["split_seeds"][0] == "13"


def test_other_settings_make_another_row_and_copies_none():
    runs = [run(0.7), run(0.7, Experiment="copy"), run(0.9, **{"models.vgg16.dropout": 0.2})]
    table = average_repeats(runs)
    assert list(table["runs"]) == [1, 1] and list(table["dropout"]) == ["0.5", "0.2"]
    assert np.isnan(table["accuracy_sd"]).all()
    other = run(0.7, **{"datasets.other.split.fold": 8.0})
    assert len(average_repeats([run(0.7), other])) == 1  # another dataset's block


def test_what_two_datasets_have_not_in_common_is_no_column():
    lesions = run(0.7, **{"datasets.mpox.source": "/lesions"})
    other = run(0.7, dataset="other", **{"datasets.other.source": "/photos"})
    table = average_repeats([lesions, other])
    assert list(table["dataset"]) == ["mpox", "other"] and "source" not in table


def test_nothing_finished():
    assert average_repeats([run(None), run("!")]).empty  # DVC's mark of a missing file
    assert average_repeats([run(0.9, val_accuracy="!")]).empty


@pytest.mark.parametrize("state", ["Queued", "Running", "Failed"])
def test_what_runs_or_failed_shows_another_ones_scores(state):
    table = average_repeats([run(0.7, State="Success"), run(0.9, State=state, **fold(1))])
    assert (table["runs"][0], table["accuracy"][0]) == (1, 0.7)
