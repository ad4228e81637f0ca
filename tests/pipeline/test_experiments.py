"""`dvc exp run`, the queue, comparison and plots."""

import csv
import io
import json
import time

import pytest
import yaml

from tiny import CHECKS


def test_another_model_reruns_only_what_depends_on_it_and_the_way_back_trains_nothing(trained):
    """While the other one's results lie there, DVC compares them with the last commit's."""
    weights = trained.folder / "data/model/model.weights.h5"
    cnn1 = weights.read_bytes()
    assert trained.experiment("model=cnn3") == [*CHECKS, "features", "train", "evaluate"]
    assert weights.read_bytes() != cnn1
    table = trained.run("dvc", "metrics", "diff", "HEAD", "--md").stdout
    assert "accuracy" in table and "test.json" in table and "macro_f1" in table
    for command in (("show",), ("diff", "HEAD")):
        trained.run("dvc", "plots", *command, "-o", "page")
        page = (trained.folder / "page/index.html").read_text()
        for title in ("Accuracy by epoch", "Confusion on the test images", "F1 by class"):
            assert title in page
        assert "samples.png" in page and "activations.png" in page
    assert "train" not in trained.experiment("model=cnn1")
    assert weights.read_bytes() == cnn1


def test_editing_another_block_leaves_this_one_up_to_date(trained):
    trained.edit_params(models__cnn4__epochs=99, models__vgg16__backbone__layer="block3_pool")
    assert "up to date" in trained.run("dvc", "status").stdout


@pytest.mark.parametrize(
    ("setting", "stages"),
    [
        ("models.cnn1.epochs=1", ["check_values", "train", "evaluate"]),
        (
            "datasets.fashion_mnist.split.seed=14",
            ["check_values", "split", "preprocess", "features", "train", "evaluate"],
        ),
    ],
)
def test_a_parameter_reruns_only_what_reads_it_and_gives_another_result(trained, setting, stages):
    lock = trained.folder / "dvc.lock"
    before = yaml.safe_load(lock.read_text())["stages"]
    assert trained.experiment(setting) == stages
    after = yaml.safe_load(lock.read_text())["stages"]
    for stage in {"split", "train", "evaluate"} & set(stages):
        assert before[stage]["outs"] != after[stage]["outs"]


def test_a_model_trained_by_an_unusual_recipe_is_read_back_and_scored(trained):
    """DVC merges mappings: another kind of schedule needs null before it."""
    schedule = "{decay: exponential, steps: 50, rate: 0.98, staircase: true, warmup_epochs: 1}"
    stages = trained.experiment(
        "models.cnn1.schedule=null",
        f"models.cnn1.schedule={schedule}",
        "models.cnn1.early_stopping={patience: 1, min_delta: 0.9}",
        "models.cnn1.class_weights=balanced",
        "models.cnn1.label_smoothing=0.1",
        "models.cnn1.optimizer=adamw",
        "models.cnn1.weight_decay=0.01",
        "models.cnn1.augmentation.horizontal_flip=true",
        "models.cnn1.augmented_epochs=7",
    )
    assert stages == ["check_values", "features", "train", "evaluate"]
    scores = json.loads((trained.folder / "metrics/train.json").read_text())
    assert scores["epochs"] == 2  # stopped, for none is better than the first by 0.9
    assert {"loss", "accuracy"} <= set(
        json.loads((trained.folder / "metrics/test.json").read_text())
    )


def test_queued_experiments_run_from_a_clean_clone_with_its_data_in_the_cache(trained, tmp_path):
    clone = trained.clone(tmp_path / "clone")
    clone.run("cp", "-r", str(trained.folder / ".dvc/cache"), ".dvc/cache")
    settings = "-S", "model=cnn1,cnn3", "-S", "models.cnn1.epochs=1"
    clone.run("dvc", "exp", "run", "--queue", *settings, "evaluate")
    clone.run("dvc", "queue", "start", "-j", "2")
    deadline = time.monotonic() + 400
    scored = set()
    while scored != {"cnn1", "cnn3"} and time.monotonic() < deadline:
        time.sleep(2)
        refs = clone.run("git", "for-each-ref", "refs/exps").stdout.splitlines()
        ended = [ref for ref in refs if "/celery/stash" not in ref]
        if len(ended) < 2:  # git takes a hundredth of the time that DVC takes to tell
            continue
        shown = clone.run("dvc", "exp", "show", "--csv", "--no-pager").stdout
        rows = list(csv.DictReader(io.StringIO(shown[shown.index("Experiment") :])))
        assert not [row for row in rows if row["State"] == "Failed"], shown
        scored = {r["model"] for r in rows if r["State"] == "Success" and r["accuracy"]}
    assert scored == {"cnn1", "cnn3"}, shown
