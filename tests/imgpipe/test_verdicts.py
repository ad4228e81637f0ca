"""imgpipe.verdicts: what is said of a difference, and what never is."""

import json

import numpy as np
import pandas as pd
import pytest

from imgpipe import verdicts
from imgpipe.comparison import Run, compare


def make_run(name, wrong, count=1000, stale=(), files=None, **params):
    """Make a run that gets the images from number `wrong.start` to `wrong.stop` wrong."""
    right = np.ones(count, bool)
    right[wrong] = False
    params = {
        "dataset": "mine",
        "model": "cnn1",
        "seed": 1,
        "datasets.mine.split.seed": 13,
        "models.cnn1.dropout": 0.2,
        "models.cnn4.dropout": [0.1, 0.2],
    } | {key.replace("__", "."): value for key, value in params.items()}
    ids = np.arange(count).astype(str)
    predictions = pd.DataFrame(
        {
            "id": ids,
            "sha256": ids,
            "actual": "bag",
            "predicted": np.where(right, "bag", "coat"),
            "probability": 0.9,
        }
    )
    accuracy = float(right.mean())
    scores = dict.fromkeys(("accuracy", "accuracy_low", "accuracy_high", "macro_f1"), accuracy)
    scores |= {"val_accuracy": 0.5, "images": count, "test": count, "train": 9000}
    return Run(name, "abc", params, files or {"a.py": "1"}, scores, predictions, list(stale))


FEW, MANY, OTHERS = slice(0, 20), slice(0, 90), slice(20, 43)


def judge(*runs):
    return verdicts.judge_all(compare(runs))


def test_a_seed_alone_never_makes_a_better_recipe():
    first = make_run("a", MANY)
    (verdict,), _ = judge(first, make_run("b", FEW, seed=2))  # p is far below 0.001
    assert verdict.name == "chance"
    assert "differ in the seed alone" in verdict.words and "neither" in verdict.words
    (verdict,), _ = judge(make_run("a", FEW), make_run("b", OTHERS, seed=2))
    assert verdict.name == "within_noise" and "what chance does" in verdict.words


@pytest.mark.parametrize(
    ("wrong", "name", "said"),
    [
        (FEW, "better_network", "more seeds"),
        (slice(85, 110), "better_network", "noise of the test images"),
        (slice(1, 91), "within_noise", "does not make them equal: anything from −0.0"),
    ],
)
def test_two_recipes_with_one_run_each(wrong, name, said):
    (verdict,), _ = judge(make_run("a", MANY), make_run("b", wrong, models__cnn1__dropout=0.3))
    assert verdict.name == name and said in verdict.words


def test_worse_is_worse():
    (verdict,), _ = judge(make_run("a", FEW), make_run("b", MANY, model="cnn4"))
    assert verdict.name == "worse_network"


def test_interval_and_test_that_disagree_are_no_verdict():
    """Seven to one: the interval leaves out 0, the exact p is 0.07."""
    first, second = make_run("a", slice(0, 7), 20), make_run("b", slice(7, 8), 20, model="cnn4")
    (verdict,), _ = judge(first, second)
    assert verdict.name == "borderline"


def test_what_gave_the_same_predictions_is_told():
    first = make_run("a", FEW)
    (verdict,), _ = judge(first, make_run("b", FEW, models__cnn1__dropout=0.3))
    assert verdict.name == "same" and "(dropout)" in verdict.words
    (verdict,), _ = judge(first, make_run("b", FEW))
    assert "one result under two names" in verdict.words


def test_other_images_are_not_compared():
    other = make_run("b", FEW, count=900, datasets__mine__split__seed=7)
    (verdict,), _ = judge(make_run("a", FEW), other)
    assert verdict.name == "not_comparable" and "seeds of the split 13 and 7" in verdict.words


def test_recipes_are_judged_by_their_repeats():
    def repeats(model, *wrong):
        return [
            make_run(f"{model}-{i}", slice(0, n), model=model, seed=i) for i, n in enumerate(wrong)
        ]

    _, (verdict,) = judge(*repeats("cnn1", 90, 92), *repeats("cnn4", 40, 42))
    assert verdict.name == "better_recipe" and "on these test images" in verdict.words
    pairs, (verdict,) = judge(*repeats("cnn1", 50, 90), *repeats("cnn4", 40, 80))
    assert verdict.name == "within_noise" and "does not make the recipes equal" in verdict.words
    assert "means below" in pairs[2].words
    _, (verdict,) = judge(*repeats("cnn1", 90, 90), *repeats("cnn4", 40, 40))
    assert verdict.name == "not_comparable"


def test_notes_warn():
    first = make_run("a", FEW, stale=["seed", "a.py", "b.py", "c.py", "d.py"])
    second = make_run("b", MANY, files={"a.py": "2"}, datasets__mine__group_pattern="(.*)-")
    notes = " ".join(verdicts.list_notes(compare([first, second])))
    assert "a: seed, a.py, b.py and 2 more changed after" in notes
    assert "code or the data differ too: a.py." in notes and "too narrow" in notes
    assert verdicts.list_notes(compare([make_run("a", FEW), make_run("b", FEW, seed=2)])) == []


def test_the_table_shows_what_differs_and_nothing_else():
    table = verdicts.tabulate_runs([make_run("a", FEW), make_run("b", MANY, model="cnn4")])
    assert list(table.columns) == ["a", "b"] and list(table.index[:2]) == ["model", "dropout"]
    assert list(table.loc["dropout"]) == ["0.2", "[0.1, 0.2]"]
    assert table.loc["accuracy (95 %)", "b"] == "0.9100 (0.9100–0.9100)"
    assert table.loc["loss", "a"] == "–"  # this run has none
    assert "test images" not in table.index  # the same in both


def test_numbers_in_words():
    assert verdicts.word_signed(-0.00004) == "0.0000"
    assert verdicts.word_signed(-0.0123) == "−0.0123" and verdicts.word_signed(0.5) == "+0.5000"
    assert [verdicts.word_p(p) for p in (0.0002, 0.0123, 0.27, 1.0, None)] == [
        "< 0.001",
        "0.012",
        "0.27",
        "1",
        "–",
    ]
    assert verdicts.word_setting(None) == "null"
    assert verdicts.word_setting("https://me:secret@host/x") == "https://***@host/x"


def test_the_description_is_plain_json():
    runs = [make_run("a", FEW), make_run("b", MANY, seed=2), make_run("c", FEW, model="cnn4")]
    described = json.loads(json.dumps(verdicts.describe_comparison(compare(runs)), allow_nan=False))
    assert [run["recipe"] for run in described["runs"]] == [0, 0, 1]
    assert described["runs"][2]["settings"] == {"dropout": [0.1, 0.2], "model": "cnn4", "seed": 1}
    assert described["recipes"][0]["accuracy"] == pytest.approx(0.945)
    assert described["recipes"][1]["accuracy_sd"] is None
    assert [pair["verdict"] for pair in described["pairs"]] == ["chance", "same"]
