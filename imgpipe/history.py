"""The history of a training: one mapping an epoch, with its scores on train and val."""

import csv
from pathlib import Path

from imgpipe.files import replacing


def choose_epoch(history: list[dict], restore_best_weights: bool) -> dict:
    """Choose the epoch whose weights a model keeps.

    Args:
        history: one mapping an epoch, with val_accuracy and val_loss.
        restore_best_weights: the recipe's; False keeps the last epoch's weights.

    Returns:
        Its mapping. The best is the one with the highest val_accuracy, of equals the one with the
        lowest val_loss: where there are few or easy validation images, the first epochs may
        already get all of them right, while the loss goes on falling.
    """
    if not restore_best_weights:
        return history[-1]
    return max(history, key=lambda row: (row["val_accuracy"], -row["val_loss"]))


def has_stopped_rising(history: list[dict], patience: int, min_delta: float) -> bool:
    """Tell whether training ends early after these epochs.

    Args:
        history: one mapping an epoch, with val_accuracy.
        patience: epochs without a rise after which it ends.
        min_delta: a rise is more than this above the highest accuracy before.
    """
    highest, waited = float("-inf"), 0
    for row in history:
        waited += 1
        if row["val_accuracy"] - min_delta > highest:
            highest, waited = row["val_accuracy"], 0
    return waited >= patience


def write_history(history: list[dict], path: Path) -> None:
    """Write a history as CSV, one line an epoch; numbers to the last digit."""
    with replacing(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, history[0], lineterminator="\n")
        writer.writeheader()
        writer.writerows(history)
