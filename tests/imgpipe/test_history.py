"""imgpipe.history: which epoch is the best."""

from imgpipe.history import best_epoch


def test_accuracy_decides_then_loss_then_the_earliest():
    scores = [(0.1, 0.1), (0.5, 0.9), (0.5, 0.4), (0.5, 0.4), (0.4, 0.2)]
    history = [
        {"epoch": number, "val_accuracy": accuracy, "val_loss": loss}
        for number, (accuracy, loss) in enumerate(scores, 1)
    ]
    assert best_epoch(history)["epoch"] == 3
    assert best_epoch(history[:2])["epoch"] == 2
