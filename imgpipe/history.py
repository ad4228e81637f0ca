"""The history of a training: one mapping an epoch, with its scores on train and val."""


def best_epoch(history: list[dict]) -> dict:
    """Return the epoch with the highest val_accuracy, of equals the one with the lowest val_loss.

    Where there are few or easy validation images, the first epochs may already get all of them
    right, while the loss goes on falling.
    """
    return max(history, key=lambda row: (row["val_accuracy"], -row["val_loss"]))
