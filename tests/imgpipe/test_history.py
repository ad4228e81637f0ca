"""imgpipe.history: which epoch's weights are kept."""

from imgpipe.history import choose_epoch

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
