"""imgpipe.comparison: differences with their chance, by hand and against SciPy."""

import numpy as np
import pandas as pd
import pytest
from scipy.stats import bootstrap

from imgpipe.comparison import (
    Run,
    adjust_holm,
    bootstrap_difference,
    compare,
    list_differences,
    match_images,
    word_mismatch,
)


def make_run(name, right, *, accuracy=None, files=None, images="abc", **params):
    """Make a run on images of which it gets those right for which `right` is true."""
    right = np.asarray(right, bool)
    ids = [f"test/{i}" for i in range(len(right))]
    settings = {
        "dataset": "mine",
        "model": "cnn1",
        "seed": 1,
        "datasets.mine.split.fold": None,
        "datasets.mine.split.seed": 13,
        "datasets.other.split.fold": None,
        "datasets.other.split.seed": 5,
        "models.cnn1.dropout": 0.2,
        "models.cnn4.dropout": 0.5,
    } | {key.replace("__", "."): value for key, value in params.items()}
    predictions = pd.DataFrame(
        {
            "id": ids,
            "sha256": [f"{images}{i}" for i in ids],
            "actual": "bag",
            "predicted": np.where(right, "bag", "coat"),
            "probability": 0.9,
        }
    )
    score = right.mean() if accuracy is None else accuracy
    scores = {"accuracy": score, "macro_f1": score, "val_accuracy": score}
    scores |= {"train": 200, "test": 100, "images": len(right)}
    return Run(name, None, settings, files or {"stages/train.py": "1"}, scores, predictions, [])


def rights(both, only_first, only_second, neither):
    """Make what two runs get right, from the four counts."""
    counts = [both, only_first, only_second, neither]
    return np.repeat([True, True, False, False], counts), np.repeat(
        [True, False, True, False], counts
    )


def test_counts_and_the_exact_test_by_hand():
    first, second = rights(10, 1, 7, 2)
    (pair,) = compare([make_run("a", first), make_run("b", second, seed=2)]).pairs
    counts = (pair.both_right, pair.only_first_right, pair.only_second_right, pair.both_wrong)
    assert counts == (10, 1, 7, 2) and pair.images == 20
    assert pair.difference == pytest.approx(6 / 20)
    assert pair.p == pytest.approx(2 * (1 + 8) / 2**8)  # none or one of eight, either way
    assert pair.settings == ["seed"] and pair.same_predictions == 12


def test_the_interval_is_that_of_scipys_paired_bootstrap():
    first, second = rights(150, 8, 22, 20)
    result = bootstrap(
        (second.astype(float) - first,), np.mean, method="percentile", rng=np.random.default_rng(1)
    )
    expected = result.confidence_interval
    low, high = bootstrap_difference(8, 22, 200)
    assert low == pytest.approx(expected.low, abs=0.0051)  # one image of 200
    assert high == pytest.approx(expected.high, abs=0.0051)
    assert (low, high) == bootstrap_difference(8, 22, 200)  # the same on every call


def test_equal_runs_differ_by_nothing():
    right = [True, False, True]
    (pair,) = compare([make_run("a", right), make_run("b", right)]).pairs
    assert (pair.difference, pair.low, pair.high, pair.p) == (0, 0, 0, 1)


def test_holm_by_hand():
    assert adjust_holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert adjust_holm([0.9, 0.8]) == [1, 1]
    first, second = rights(10, 1, 7, 2)
    runs = [make_run("a", first), make_run("b", second, seed=2), make_run("c", second, seed=3)]
    assert [pair.p_holm for pair in compare(runs).pairs] == pytest.approx([2 * 18 / 256] * 2)


def test_images_are_matched_by_name_and_in_any_order():
    first, second = make_run("a", [True, False, False]), make_run("b", [True, True, False])
    mixed = second.predictions.iloc[[2, 0, 1]].reset_index(drop=True)
    (pair,) = compare([first, Run("b", None, second.params, {}, second.scores, mixed, [])]).pairs
    assert (pair.only_first_right, pair.only_second_right) == (0, 1)
    table = match_images(first, second)
    assert list(table["id"]) == list(first.predictions["id"])


def test_other_images_under_the_same_names_are_not_compared():
    first, right = make_run("a", [True, True], datasets__mine__split__fold=0), [True, False]
    fold = make_run("b", right, images="xyz", datasets__mine__split__fold=1)
    assert "folds 0 and 1" in word_mismatch(first, fold)
    other = make_run("c", right, images="uvw", dataset="other")
    assert "datasets mine and other" in word_mismatch(first, other)
    for pair in compare([first, fold, other]).pairs:
        assert pair.images is pair.difference is pair.p is pair.p_holm is None
    renamed = make_run("d", right)
    renamed.predictions["actual"] = "Bag"
    assert "class_names" in word_mismatch(first, renamed)
    assert word_mismatch(first, make_run("e", right)) == ""


def test_what_differs_is_told_of_the_chosen_blocks_alone():
    first = make_run("a", [True], files={"stages/train.py": "1", "imgpipe/models/cnn1.py": "1"})
    unused = make_run("b", [True], files=first.files, models__cnn4__dropout=0.1)
    assert list_differences(first, unused) == ([], [])
    files = {"stages/train.py": "2", "imgpipe/models/cnn4.py": "1"}
    other = make_run("c", [True], files=files, model="cnn4")
    assert list_differences(first, other) == (["model", "dropout"], ["stages/train.py"])
    elsewhere = make_run("d", [True], files=first.files, dataset="other", seed=2)
    assert list_differences(first, elsewhere)[0] == ["dataset", "seed", "split_seed"]


def test_repeats_differ_in_seed_and_fold_alone_and_count_once():
    runs = [
        make_run("a", [True]),
        make_run("b", [True], seed=2),
        make_run("copy", [True], seed=2),
        make_run("dropout", [True], models__cnn1__dropout=0.3),
        make_run("code", [True], files={"stages/train.py": "2"}),
    ]
    recipes = compare(runs).recipes
    assert [[run.name for run in recipe.runs] for recipe in recipes] == [
        ["a", "b"],
        ["dropout"],
        ["code"],
    ]
    assert [recipe.label for recipe in recipes] == ["cnn1 (a, b)", "cnn1 (dropout)", "cnn1 (code)"]


def make_repeats(model, accuracies, **params):
    return [
        make_run(f"{model}-{seed}", [True, False], accuracy=accuracy, model=model, seed=seed)
        for seed, accuracy in enumerate(accuracies)
    ]


def test_means_over_seeds_are_compared_by_welchs_t():
    """Variances 0.0002 each: standard error √(0.0001 + 0.0001), 2 degrees of freedom."""
    runs = make_repeats("cnn1", [0.80, 0.82]) + make_repeats("cnn4", [0.90, 0.92])
    (pair,) = compare(runs).recipe_pairs
    assert (pair.method, pair.first, pair.second, pair.runs) == ("welch", "cnn1", "cnn4", [2, 2])
    assert pair.difference == pytest.approx(0.1)
    half = 4.302653 * np.sqrt(0.0002)
    assert (pair.low, pair.high) == pytest.approx((0.1 - half, 0.1 + half), abs=1e-6)
    assert 0.01 < pair.p < 0.05


def test_means_over_folds_are_compared_fold_by_fold():
    """Differences 0.1, 0.2, 0.3, of variance 0.01; half as many test as training images."""
    runs = []
    for model, scores in (("cnn1", [0.5, 0.3, 0.4]), ("cnn4", [0.6, 0.5, 0.7])):
        for fold, accuracy in enumerate(scores):
            settings = {"model": model, "datasets__mine__split__fold": fold}
            runs.append(
                make_run(f"{model}-{fold}", [True], accuracy=accuracy, images=fold, **settings)
            )
    (pair,) = compare(runs).recipe_pairs
    assert (pair.method, pair.runs) == ("paired_t", [3])
    assert pair.difference == pytest.approx(0.2)
    half = 4.302653 * np.sqrt((1 / 3 + 1 / 2) * 0.01)
    assert (pair.low, pair.high) == pytest.approx((0.2 - half, 0.2 + half), abs=1e-6)
    (pair,) = compare(runs[:-1]).recipe_pairs  # a fold is missing
    assert pair.method is pair.difference is None


def test_one_run_and_runs_without_spread_measure_no_chance():
    runs = make_repeats("cnn1", [0.8, 0.9])
    assert compare([*runs, *make_repeats("cnn4", [0.9])]).recipe_pairs == []
    runs = make_repeats("cnn1", [0.8, 0.8]) + make_repeats("cnn4", [0.9, 0.9])
    (pair,) = compare(runs).recipe_pairs
    assert pair.difference == pytest.approx(0.1) and pair.p is None
