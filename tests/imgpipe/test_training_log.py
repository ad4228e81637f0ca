"""imgpipe.training_log: what TensorBoard shows of a training, and that the training does not care."""

import resource
from collections import Counter
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from tensorboard.backend.event_processing.plugin_event_accumulator import EventAccumulator
from tensorboard.util.tensor_util import make_ndarray

from imgpipe.checkpoint import TrainingState
from imgpipe.contract import Contract
from imgpipe.determinism import make_deterministic
from imgpipe.schema import Recipe
from imgpipe.training import build_model, train_model, training_batches
from imgpipe.training_log import MOST_WEIGHTS, TrainingLog, arrange_sheet
from stages.train import LOGS, choose_log_folder
from tiny import AUGMENTATION, make_images

SETTINGS = {"model": "cnn1", "class_names": ["a", "<b>ü</b>"]}
SEED = 3
IMAGES = make_images(20, size=8, classes=4)
RECIPE = Recipe(
    backbone=None,
    features=None,
    epochs=2,
    augmented_epochs=1,
    augmentation=AUGMENTATION,
    batch_size=8,
    optimizer="adam",
    momentum=0.0,
    weight_decay=0.0,
    learning_rate=0.003,
    schedule={"decay": "cosine", "warmup_epochs": 0.0},
    early_stopping=None,
    restore_best_weights=False,
    label_smoothing=0.0,
    class_weights=None,
)


def run_training(work: Path, log: TrainingLog | None):
    """Train from the beginning, or from what a killed training has left in `work`."""
    make_deterministic(SEED)
    keras.utils.clear_session()  # layers have the names that they have in a process of their own
    model = build_model("cnn1", (8, 8, 1), 4, {"dropout": 0.3})
    work.mkdir(exist_ok=True)
    history = train_model(model, IMAGES, IMAGES, RECIPE, SEED, work, log)
    return model.get_weights(), history


def read_run(folder: Path) -> dict[str, dict[int, np.ndarray]]:
    """Read a run with TensorBoard: tag to step to value, of which there must be one."""
    run = EventAccumulator(str(folder), {"tensors": 0}, purge_orphaned_data=False)
    run.Reload()
    values = {}
    for tag in run.Tags()["tensors"]:
        events = run.Tensors(tag)
        values[tag] = {event.step: make_ndarray(event.tensor_proto) for event in events}
        assert len(values[tag]) == len(events), f"{tag} has a step twice"
    return values


@pytest.fixture(scope="module")
def logged(tmp_path_factory):
    """A training with a log: its folder, weights, history."""
    folder = tmp_path_factory.mktemp("logged")
    return folder / "log", *run_training(folder / "work", TrainingLog(folder / "log", SETTINGS))


def test_the_log_changes_no_weight(logged, tmp_path):
    weights, history = run_training(tmp_path / "work", None)
    assert history == logged[2]
    for plain, beside_log in zip(weights, logged[1], strict=True):
        np.testing.assert_array_equal(plain, beside_log)


def test_curves_are_those_of_the_history(logged):
    folder, _, history = logged
    runs = {"": read_run(folder / "train"), "val_": read_run(folder / "val")}
    for prefix, values in runs.items():
        for name in ("accuracy", "loss"):
            expected = {row["epoch"]: np.float32(row[prefix + name]) for row in history}
            assert values[name] == expected
    rates = runs[""]["learning_rate"]
    # Half a cosine over nine steps.
    assert [float(rates[epoch]) for epoch in (1, 2, 3)] == pytest.approx([0.00225, 0.00075, 0])
    assert set(runs["val_"]) == {"accuracy", "loss"}


def test_histograms_follow_each_array_of_weights(logged):
    folder, weights, _ = logged
    values = read_run(folder / "train")
    histograms = {tag: steps for tag, steps in values.items() if "/" in tag}
    assert set(histograms) == {
        f"{layer}/{kind}" for layer in ("conv2d", "dense", "dense_1") for kind in ("kernel", "bias")
    }
    for (left, right, counts), array in zip(
        (histograms[tag][3].T for tag in histograms), weights, strict=True
    ):
        assert counts.sum() == array.size
        assert (left[0], right[-1]) == pytest.approx((array.min(), array.max()))
    for steps in histograms.values():
        assert sorted(steps) == [0, 1, 2, 3]
    kernel = histograms["dense/kernel"]
    assert not np.array_equal(kernel[0], kernel[1])


def test_images_are_those_that_the_network_gets(logged):
    values = read_run(logged[0] / "train")
    for name, epoch in (("images", 0), ("augmented_images", RECIPE.epochs)):
        images, _ = next(iter(training_batches(*IMAGES, RECIPE, SEED, epoch)))
        width, height, png = values[name][0]
        assert (width, height) == (b"16", b"16")
        np.testing.assert_array_equal(tf.io.decode_png(png), arrange_sheet(images.numpy()))
    assert "<b>ü</b>" in values["settings"][0].item().decode()


def test_a_sheet_has_the_images_in_their_order():
    images, _ = make_images(70, size=5, channels=3)
    sheet = arrange_sheet(images)
    assert sheet.shape == (40, 40, 3)
    np.testing.assert_array_equal(sheet[5:10, 10:15], images[10])
    assert arrange_sheet(images[:3]).shape == (5, 5, 3)
    assert arrange_sheet(np.zeros((32, 300, 200, 1), np.uint8)).shape == (900, 600, 1)
    assert arrange_sheet(np.zeros((2, 1500, 20, 1), np.uint8)).shape == (1500, 20, 1)


def test_a_killed_training_goes_on_in_its_log_without_a_gap_or_an_epoch_twice(
    logged, tmp_path, monkeypatch
):
    """Killed once before the second epoch's state is kept, once after the third's."""
    save, log, work = TrainingState.save, tmp_path / "log", tmp_path / "work"

    def die_before(state, folder):
        if len(state.history) == 2:
            raise KeyboardInterrupt
        save(state, folder)

    def die_after(state, folder):
        save(state, folder)
        if len(state.history) == 3:
            raise KeyboardInterrupt

    for die in (die_before, die_after):
        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(TrainingState, "save", die)
            run_training(work, TrainingLog(log, SETTINGS))
    run_training(work, TrainingLog(log, SETTINGS))
    for run in ("train", "val"):
        whole, pieces = read_run(logged[0] / run), read_run(log / run)
        assert list(pieces) == list(whole)
        for tag, steps in whole.items():
            assert list(pieces[tag]) == list(steps)
            for step, value in steps.items():
                np.testing.assert_array_equal(pieces[tag][step], value)
    names = Counter(path.suffix for path in log.rglob("*") if path.is_file())
    assert names == {".tfevents": 4 + 3}


def test_an_equal_training_replaces_the_log(tmp_path):
    log = TrainingLog(tmp_path / "log", SETTINGS)
    model = build_model("cnn1", (8, 8, 1), 4, {"dropout": 0.3})
    log.begin(model, {})
    log.add_epoch(make_scores(1), 0.1, model)
    log.begin(model, {})
    assert [path.name for path in tmp_path.rglob("*.tfevents")] == ["000000.tfevents"]


def test_without_a_place_for_the_log_one_line_says_so(tmp_path, capsys):
    (tmp_path / "file").touch()
    model = build_model("cnn1", (8, 8, 1), 4, {"dropout": 0.3})
    log = TrainingLog(tmp_path / "file/log", SETTINGS)
    log.begin(model, {})
    log.add_epoch(make_scores(1), 0.1, model)
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"warning: {tmp_path}/file/log: TensorBoard will not show the rest")


def test_a_full_disk_ends_the_log_alone(tmp_path, capsys):
    model = build_model("cnn1", (8, 8, 1), 4, {"dropout": 0.3})
    log = TrainingLog(tmp_path / "log", SETTINGS)
    log.begin(model, {})
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
    try:
        log.add_epoch(make_scores(1), 0.1, model)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    log.add_epoch(make_scores(2), 0.1, model)
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == ["000000.tfevents"]
    assert len(capsys.readouterr().err.splitlines()) == 1


def make_scores(epoch):
    return {"epoch": epoch} | dict.fromkeys(("accuracy", "loss", "val_accuracy", "val_loss"), 0.5)


def test_features_have_no_images_and_large_arrays_are_sampled(tmp_path):
    features = np.ones((8, 2000), np.float16)
    keras.utils.clear_session()
    options = {"standardize": False, "hidden_units": 512, "dropout": 0.0}
    model = build_model("vgg16_block4", (2000,), 2, options)
    kernel = np.zeros((2000, 512), np.float32)
    kernel[:, ::2] = 1  # a sample must not meet even columns alone
    model.layers[0].set_weights([kernel, np.zeros(512, np.float32)])
    data = (features, np.arange(8) % 2)
    recipe = RECIPE.model_copy(update={"augmented_epochs": 0, "epochs": 1, "features": object()})
    train_model(model, data, data, recipe, SEED, tmp_path, TrainingLog(tmp_path / "log", {}))
    values = read_run(tmp_path / "log/train")
    assert "images" not in values
    counts = values["dense/kernel"][0][:, 2]
    assert MOST_WEIGHTS / 2 < counts.sum() <= MOST_WEIGHTS
    assert counts[0] == pytest.approx(counts[-1], rel=0.01)


def test_the_folder_tells_dataset_and_model_and_stays_in_the_project(monkeypatch):
    monkeypatch.delenv("DVC_ROOT", raising=False)
    contract = Contract("my data/../x", "cnn1", ["a", "b"], [8, 8], 1, None)
    name = "my_data_.._x-cnn1-01234567"
    assert choose_log_folder(contract, "0123456789abcdef") == LOGS / name
    monkeypatch.setenv("DVC_ROOT", "/project")  # as in an experiment's temporary folder
    assert choose_log_folder(contract, "0123456789abcdef") == "/project" / LOGS / name
