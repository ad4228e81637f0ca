"""imgpipe.history: when training ends, and which epoch's weights are kept."""

import csv
from types import SimpleNamespace

import keras
import numpy as np

from imgpipe.history import choose_epoch, has_stopped_rising, write_history

SCORES = [(0.1, 0.1), (0.5, 0.9), (0.5, 0.4), (0.5, 0.4), (0.4, 0.2)]
HISTORY = [
    {"epoch": number, "val_accuracy": accuracy, "val_loss": loss}
    for number, (accuracy, loss) in enumerate(SCORES, 1)
]


def test_accuracy_decides_then_loss_then_the_earliest():
    assert choose_epoch(HISTORY, restore_best_weights=True)["epoch"] == 3
    assert choose_epoch(HISTORY[:2], restore_best_weights=True)["epoch"] == 2


def test_the_last_epoch_where_the_best_is_not_asked_for():
    assert choose_epoch(HISTORY, restore_best_weights=False)["epoch"] == 5


def stops(accuracies, patience, min_delta=0.0):
    history = [{"val_accuracy": accuracy} for accuracy in accuracies]
    return has_stopped_rising(history, patience, min_delta)


def test_training_stops_after_epochs_without_a_rise():
    assert not stops([], 1)
    assert not stops([0.5, 0.4], 2)
    assert stops([0.5, 0.4, 0.5], 2)
    assert not stops([0.5, 0.4, 0.51], 2)
    assert not stops([0.5, 0.52, 0.53], 2, min_delta=0.01)  # 0.53 is 0.01 above 0.52, not more
    assert stops([0.5, 0.505, 0.51], 2, min_delta=0.01)


def test_it_stops_where_keras_stops():
    rng = np.random.default_rng(0)
    for _ in range(200):
        accuracies = rng.integers(0, 20, 12) / 20
        patience, min_delta = int(rng.integers(1, 4)), float(rng.choice([0.0, 0.02, 0.1]))
        callback = keras.callbacks.EarlyStopping(
            "val_accuracy", mode="max", patience=patience, min_delta=min_delta
        )
        callback.set_model(SimpleNamespace(stop_training=False))
        callback.on_train_begin()
        for epoch, accuracy in enumerate(accuracies):
            callback.on_epoch_end(epoch, {"val_accuracy": accuracy})
            stopped = stops(accuracies[: epoch + 1], patience, min_delta)
            assert stopped == callback.model.stop_training
            if stopped:
                break


def test_a_history_is_written_to_the_last_digit(tmp_path):
    history = [{"epoch": 1, "loss": 0.1 + 0.2}, {"epoch": 2, "loss": 1e-12}]
    write_history(history, tmp_path / "plots/history.csv")
    with (tmp_path / "plots/history.csv").open() as file:
        rows = [{key: float(value) for key, value in row.items()} for row in csv.DictReader(file)]
    assert rows == history
