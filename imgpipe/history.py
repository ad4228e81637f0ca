"""The history of a training: one mapping an epoch, with its scores on train and val."""


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
