"""imgpipe.training: the stream of batches, the recipe, what a model learns."""

import contextlib
import tempfile
import time
from pathlib import Path

import numpy as np
import pytest

from imgpipe import training
from imgpipe.checkpoint import CHECKPOINTS, TrainingState
from imgpipe.determinism import make_deterministic
from imgpipe.history import choose_epoch
from imgpipe.optimizers import build_optimizer
from imgpipe.schema import Recipe
from imgpipe.training import (
    balance_classes,
    build_model,
    choose_loss,
    train_model,
    training_batches,
)
from tiny import AUGMENTATION, make_images


def recipe(**changes):
    values = {
        "backbone": None,
        "features": None,
        "epochs": 2,
        "augmented_epochs": 0,
        "augmentation": AUGMENTATION,
        "batch_size": 8,
        "optimizer": "adam",
        "momentum": 0.0,
        "weight_decay": 0.0,
        "learning_rate": 0.001,
        "schedule": None,
        "early_stopping": None,
        "restore_best_weights": True,
        "label_smoothing": 0.0,
        "class_weights": None,
    }
    return Recipe(**(values | changes))


def run_training(*arguments):
    """Train without anything unfinished to go on from."""
    with tempfile.TemporaryDirectory() as work:
        return train_model(*arguments, Path(work))


def collect(*arguments):
    return [(x.numpy(), y.numpy()) for x, y in training_batches(*arguments)]


def test_each_epoch_holds_every_image_once_in_an_order_of_its_own():
    images, _ = make_images(20)
    numbers = np.arange(20)
    batches = collect(images, numbers, recipe(epochs=3), 1)
    assert [len(y) for _, y in batches] == [8, 8, 4] * 3
    orders = [np.concatenate([y for _, y in batches[i : i + 3]]) for i in (0, 3, 6)]
    for order in orders:
        assert sorted(order) == list(numbers)
    assert len({tuple(order) for order in orders}) == 3
    for x, y in batches:
        assert x.dtype == np.uint8
        np.testing.assert_array_equal(x, images[y])


def test_augmented_epochs_follow_and_differ_each_time():
    images, _ = make_images(16)
    batches = collect(images, np.arange(16), recipe(epochs=1, augmented_epochs=2), 1)
    epochs = [
        {n: image for x, y in batches[i : i + 2] for image, n in zip(x, y, strict=True)}
        for i in (0, 2, 4)
    ]
    for number in range(16):
        np.testing.assert_array_equal(epochs[0][number], images[number])
    changed = sum(not np.array_equal(epochs[1][n], images[n]) for n in range(16))
    again = sum(not np.array_equal(epochs[1][n], epochs[2][n]) for n in range(16))
    assert changed == again == 16


def test_a_training_on_augmented_images_alone_has_no_plain_one():
    images, _ = make_images(16)
    batches = collect(images, np.arange(16), recipe(epochs=0, augmented_epochs=1), 1)
    assert sorted(np.concatenate([y for _, y in batches])) == list(range(16))
    for x, y in batches:
        assert not any((image == images[n]).all() for image, n in zip(x, y, strict=True))


def test_augmented_epochs_of_features_draw_from_the_copies():
    count, copies = 40, 3
    rows = np.arange(count * (1 + copies))
    features = np.stack([rows, -rows], axis=1).astype(np.float16)  # a row tells its number
    settings = recipe(epochs=1, augmented_epochs=2, features={"augmented_copies": copies})
    batches = collect(features, np.arange(count), settings, 1)
    taken = [np.concatenate([x[:, 0] for x, _ in batches[i : i + 5]]) for i in (0, 5, 10)]
    numbers = [np.concatenate([y for _, y in batches[i : i + 5]]) for i in (0, 5, 10)]
    for epoch, labels in zip(taken, numbers, strict=True):
        np.testing.assert_array_equal(epoch % count, labels)
        assert sorted(labels) == list(range(count))
    assert set(taken[0] // count) == {0}
    drawn = [np.sort(epoch) for epoch in taken[1:]]
    for epoch in drawn:
        assert set(epoch // count) == {1, 2, 3}
    assert not np.array_equal(*drawn)
    again, other = (collect(features, np.arange(count), settings, seed) for seed in (1, 2))
    for (x, _), (same, _) in zip(batches, again, strict=True):
        np.testing.assert_array_equal(x, same)
    copied = [np.sort(np.concatenate([x[:, 0] for x, _ in b[5:10]])) for b in (batches, other)]
    assert not np.array_equal(*copied)


class CountedArray(np.ndarray):
    """Counts how often rows are taken from it."""

    taken = 0

    def __getitem__(self, rows):
        self.taken += 1
        return np.asarray(self)[rows]


def test_batches_are_made_while_earlier_ones_are_used():
    make_deterministic(1)
    images, labels = make_images(40)
    counted = images.view(CountedArray)
    stream = iter(training_batches(counted, labels, recipe(epochs=5), 1))
    next(stream)
    for _ in range(100):
        if counted.taken > 1:
            break
        time.sleep(0.05)
    assert 1 < counted.taken < 10  # of the 25 batches: some are ahead, not all


def test_the_seed_decides_the_stream():
    images, labels = make_images(20)
    streams = [collect(images, labels, recipe(augmented_epochs=1), s) for s in (1, 1, 2)]
    same = [
        all(np.array_equal(a, b) for a, b in zip(p, q, strict=True))
        for p, q in zip(streams[0], streams[1], strict=True)
    ]
    assert all(same)
    assert any(not np.array_equal(p[0], q[0]) for p, q in zip(streams[0], streams[2], strict=True))


def test_a_memory_map_gives_the_same_batches(tmp_path):
    images, labels = make_images(20)
    np.save(tmp_path / "x.npy", images)
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    for a, b in zip(
        collect(images, labels, recipe(), 1), collect(mapped, labels, recipe(), 1), strict=True
    ):
        np.testing.assert_array_equal(a[0], b[0])


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("cnn1", {"dropout": 0.0}),
        ("cnn3", {"dropout": [0.0] * 3, "dense_dropout": 0.0}),
        ("cnn4", {"dropout": [0.0] * 3, "dense_dropout": [0.0] * 2}),
    ],
)
def test_a_model_overfits_eight_images(tmp_path, name, options):
    images, labels = make_images(8)
    model = build_model(name, (28, 28, 1), 10, options)
    data = (images, labels)
    history = run_training(model, data, data, recipe(epochs=40), 1)
    assert history[-1]["accuracy"] == 1.0


def test_a_head_standardises_its_features_on_the_plain_training_inputs(tmp_path):
    rng = np.random.default_rng(0)
    features = (rng.normal(size=(40, 6)) * 50 + 300).astype(np.float16)
    labels = (features[:, 0] > 300).astype(np.int64)
    options = {"standardize": True, "hidden_units": None, "dropout": 0.0}
    model = build_model("vgg16_block4", (6,), 2, options)
    copies = np.full((40, 6), 9, np.float16)  # they do not count
    settings = recipe(epochs=1, augmented_epochs=1, features={"augmented_copies": 1})
    train, val = (np.concatenate([features, copies]), labels), (features, labels)
    run_training(model, train, val, settings, 1)
    standardised = model.layers[0](features.astype(np.float32)).numpy()
    np.testing.assert_allclose(standardised.mean(axis=0), 0, atol=0.02)
    np.testing.assert_allclose(standardised.std(axis=0), 1, atol=0.02)


@pytest.mark.parametrize("best", [True, False], ids=["best", "last"])
def test_one_epochs_weights_are_kept(best):
    images, labels = make_images(60)
    model = build_model("cnn1", (28, 28, 1), 10, {"dropout": 0.2})
    # Wrong labels to validate on: the more is learnt, the higher the loss on them, on any machine.
    val = (images[:30], (labels[:30] + 1) % 10)
    settings = recipe(epochs=6, restore_best_weights=best)
    history = run_training(model, (images, labels), val, settings, 1)
    assert [row["epoch"] for row in history] == [1, 2, 3, 4, 5, 6]
    losses = [choose_epoch(history, choice)["val_loss"] for choice in (best, not best)]
    assert not 0.7 < losses[0] / losses[1] < 1.4  # or this test could not tell them apart
    probabilities = model.predict(val[0], verbose=0)[np.arange(30), val[1]]
    assert -np.log(probabilities).mean() == pytest.approx(losses[0], rel=1e-3)


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("adam", {}),
        ("adamw", {"weight_decay": 0.02}),
        ("adamw", {"weight_decay": 0.0}),
        ("rmsprop", {"momentum": 0.5}),
        ("sgd", {"momentum": 0.9}),
    ],
)
def test_optimizers_do_as_those_of_keras(name, settings):
    import keras

    kinds = {kind.lower(): getattr(keras.optimizers, kind) for kind in dir(keras.optimizers)}
    optimizer = build_optimizer(recipe(optimizer=name, learning_rate=0.03, **settings), 10)
    ends = []
    for each in (optimizer, kinds[name](0.03, **settings)):
        rng = np.random.default_rng(1)
        variables = [
            keras.Variable(rng.standard_normal(shape), dtype="float32") for shape in ((3, 40), (5,))
        ]
        for scale in (1, 1e-3, 1e-9, 0):
            gradients = [scale * rng.standard_normal(v.shape) for v in variables]
            each.apply([keras.ops.cast(g, "float32") for g in gradients], variables)
        ends.append([*variables, *each.variables])
    for ours, keras_own in zip(*ends, strict=True):
        np.testing.assert_allclose(ours, keras_own, rtol=1e-4, atol=1e-6)


EXPONENTIAL = {"decay": "exponential", "steps": 5, "rate": 0.5}


@pytest.mark.parametrize(
    ("schedule", "rates"),
    [
        # 20 steps: two epochs of 10.
        ({"decay": "constant", "warmup_epochs": 0.0}, {0: 0.03, 20: 0.03}),
        ({"decay": "constant", "warmup_epochs": 1.0}, {0: 0, 5: 0.015, 10: 0.03, 20: 0.03}),
        (
            {"decay": "cosine", "warmup_epochs": 0.0},
            {0: 0.03, 5: 0.03 * (1 + 2**-0.5) / 2, 10: 0.015, 20: 0.0},
        ),
        (
            {"decay": "cosine", "warmup_epochs": 1.0},
            {0: 0.0, 5: 0.015, 10: 0.03, 15: 0.015, 20: 0.0},
        ),
        (
            {**EXPONENTIAL, "staircase": True, "warmup_epochs": 0.0},
            {0: 0.03, 4: 0.03, 5: 0.015, 9: 0.015, 10: 0.0075, 20: 0.001875},
        ),
        (
            {**EXPONENTIAL, "staircase": False, "warmup_epochs": 0.5},
            {0: 0.0, 4: 0.024, 5: 0.03, 6: 0.03 * 0.5**0.2, 10: 0.015, 20: 0.00375},
        ),
    ],
)
def test_schedules(schedule, rates):
    optimizer = build_optimizer(recipe(learning_rate=0.03, schedule=schedule), 10)
    for step, rate in rates.items():
        optimizer.iterations.assign(step)
        assert float(optimizer.learning_rate) == pytest.approx(rate, abs=1e-7)


def test_training_stops_early_and_keeps_the_best_epoch(tmp_path):
    images, labels = make_images(40)
    model = build_model("cnn1", (28, 28, 1), 10, {"dropout": 0.2})
    # A learning rate too small to change any prediction: the first epoch is the best.
    settings = {
        "epochs": 9,
        "learning_rate": 1e-12,
        "early_stopping": {"patience": 2, "min_delta": 0.001},
    }
    data = (images, labels)
    history = run_training(model, data, data, recipe(**settings), 1)
    assert [row["epoch"] for row in history] == [1, 2, 3]
    assert choose_epoch(history, restore_best_weights=True)["epoch"] == 1


def test_smoothed_labels_by_hand():
    labels = np.array([[1, 0, 0], [0, 0, 1]])
    probabilities = np.array([[0.7, 0.2, 0.1], [0.3, 0.3, 0.4]], np.float32)
    # Smoothing by 0.3 wants 0.8 of the label's class and 0.1 of each of the two others.
    wanted = np.array([[0.8, 0.1, 0.1], [0.1, 0.1, 0.8]])
    loss, _ = choose_loss(recipe(label_smoothing=0.3))
    by_hand = -(wanted * np.log(probabilities)).sum(axis=1).mean()
    assert float(loss(labels, probabilities)) == pytest.approx(by_hand, rel=1e-5)


def test_balanced_classes_by_hand():
    assert balance_classes(np.array([0, 0, 0, 1]), 2) == pytest.approx([4 / 6, 4 / 2])
    assert balance_classes(np.array([1, 1]), 2)[1] == 0.5  # a class without images breaks nothing


UNUSUAL = [{"label_smoothing": 0.2}, {"class_weights": "balanced"}]


@pytest.mark.parametrize("changes", UNUSUAL, ids=str)
def test_the_reported_losses_are_the_plain_cross_entropy(tmp_path, changes):
    """With nothing learnt, every recipe must report the same losses."""
    images, labels = make_images(40, classes=4)
    keep = (labels != 3) | (np.arange(40) >= 30)  # class 3 is rare
    data = (images[keep], labels[keep])
    model = build_model("cnn1", (28, 28, 1), 4, {"dropout": 0.0})
    still = {"epochs": 1, "learning_rate": 1e-12}
    plain, unusual = (
        run_training(model, data, data, recipe(**still, **more), 1) for more in ({}, changes)
    )
    assert list(plain[0]) == list(unusual[0])
    assert plain[0] == pytest.approx(unusual[0], rel=1e-5)
    assert plain[0]["loss"] == pytest.approx(plain[0]["val_loss"], rel=1e-5)


@pytest.mark.parametrize(("weights", "share"), [(None, 0.2), ("balanced", 0.5)])
def test_balanced_weights_give_a_rare_class_its_share(tmp_path, weights, share):
    """From images that tell nothing a model learns each class's share in the loss."""
    images = np.full((4000, 8, 8, 1), 128, np.uint8)
    labels = np.array([0, 0, 0, 0, 1] * 800)
    model = build_model("cnn1", (8, 8, 1), 2, {"dropout": 0.0})
    settings = {"epochs": 1, "batch_size": 40, "optimizer": "sgd", "learning_rate": 0.02}
    data = (images, labels)
    run_training(model, data, data, recipe(class_weights=weights, **settings), 1)
    assert model.predict(images[:1], verbose=0)[0, 1] == pytest.approx(share, abs=0.1)


@pytest.mark.parametrize("changes", UNUSUAL, ids=str)
def test_smoothing_and_weights_change_the_training_the_same_way_each_time(tmp_path, changes):
    images, labels = make_images(36)
    weights = []
    for more in ({}, changes, changes):
        make_deterministic(3)
        model = build_model("cnn1", (28, 28, 1), 10, {"dropout": 0.2})
        data = (images, labels)
        run_training(model, data, data, recipe(epochs=1, **more), 3)
        weights.append(np.concatenate([w.ravel() for w in model.get_weights()]))
    np.testing.assert_array_equal(weights[1], weights[2])
    assert not np.array_equal(weights[0], weights[1])


def test_the_best_weights_stay_as_they_were_put_aside(monkeypatch):
    features = np.maximum(np.random.default_rng(0).normal(-50, 50, size=(40, 90)), 0)
    data = features.astype(np.float16), np.arange(40) % 4
    options = {"standardize": False, "hidden_units": 64, "dropout": 0.3}
    ends = []
    for epochs in (1, 4):
        make_deterministic(3)
        model = build_model("vgg16_block4", (90,), 4, options)
        monkeypatch.setattr(training, "choose_epoch", lambda history, _: history[0])
        run_training(model, data, data, recipe(epochs=epochs, features={"augmented_copies": 0}), 3)
        ends.append([values.tobytes() for values in model.get_weights()])
    assert ends[0] == ends[1]


@pytest.mark.parametrize("count", [5, 6, 8])
def test_several_steps_at_once_are_the_same_ones(monkeypatch, count):
    images, labels = make_images(count)
    results = []
    for at_once in (4, 1):
        monkeypatch.setattr(training, "_MOST_STEPS_AT_ONCE", at_once)
        make_deterministic(3)
        model = build_model("cnn1", (28, 28, 1), 10, {"dropout": 0.2})
        data = images, labels
        history = run_training(model, data, data, recipe(batch_size=1, epochs=3), 3)
        results.append((history, [values.tobytes() for values in model.get_weights()]))
    assert results[0] == results[1]


def test_a_training_that_breaks_down_says_what_to_do(tmp_path):
    images, labels = make_images(16)
    model = build_model("cnn1", (28, 28, 1), 10, {"dropout": 0.2})
    model.set_weights([weights * 1e12 for weights in model.get_weights()])
    data = (images, labels)
    with pytest.raises(ValueError, match=r"broke down in epoch 1.*lower learning_rate"):
        run_training(model, data, data, recipe(optimizer="sgd", learning_rate=1000.0), 1)


def train_in_pieces(folder, monkeypatch, settings, kills, name="cnn1", options=None, data=None):
    """Train in processes that die after these epochs; return the last one's weights, history."""
    images, labels = make_images(30, classes=4)
    data = data or (images, labels)
    save = TrainingState.save
    for kill in [*kills, None]:

        def save_and_die(state, folder, kill=kill):
            save(state, folder)
            if len(state.history) == kill:
                raise KeyboardInterrupt

        make_deterministic(3)
        model = build_model(name, data[0].shape[1:], 4, options or {"dropout": 0.3})
        monkeypatch.setattr(TrainingState, "save", save_and_die)
        with contextlib.suppress(KeyboardInterrupt):
            history = train_model(model, data, data, settings, 3, folder)
            assert kill is None
    return model.get_weights(), history


RESUMED = {
    "plain and augmented": ({"epochs": 2, "augmented_epochs": 3}, [1, 2, 3, 5]),
    "last weights, a schedule, adamw": (
        {
            "epochs": 4,
            "restore_best_weights": False,
            "optimizer": "adamw",
            "weight_decay": 0.01,
            "schedule": {"decay": "cosine", "warmup_epochs": 1.0},
        },
        [2],
    ),
    "momentum and class weights": (
        {"epochs": 3, "optimizer": "sgd", "momentum": 0.9, "class_weights": "balanced"},
        [1, 2],
    ),
    "stopped early": (
        {
            "epochs": 9,
            "learning_rate": 1e-12,
            "early_stopping": {"patience": 2, "min_delta": 0.001},
        },
        [2, 3],
    ),
}


def check_resuming(folder, monkeypatch, settings, kills, **more):
    """Train whole and in pieces; both must come to the same."""
    results = []
    for name, when in (("whole", []), ("pieces", kills)):
        (folder / name).mkdir()
        results.append(train_in_pieces(folder / name, monkeypatch, settings, when, **more))
    assert results[0][1] == results[1][1]
    for whole, resumed in zip(results[0][0], results[1][0], strict=True):
        np.testing.assert_array_equal(whole, resumed)


@pytest.mark.parametrize(("changes", "kills"), RESUMED.values(), ids=RESUMED)
def test_a_killed_training_ends_with_the_same_weights(tmp_path, monkeypatch, changes, kills):
    check_resuming(tmp_path, monkeypatch, recipe(**changes), kills)


def test_batch_normalisation_and_several_dropouts_go_on_as_they_were(tmp_path, monkeypatch):
    options = {"dropout": [0.2, 0.3, 0.4], "dense_dropout": [0.3, 0.3]}
    check_resuming(tmp_path, monkeypatch, recipe(epochs=3), [1, 2], name="cnn4", options=options)


@pytest.mark.parametrize(
    ("standardize", "mean"), [(True, 300), (False, -50)], ids=["standardised", "mostly zeros"]
)
def test_what_is_trained_on_features_goes_on_after_a_kill(tmp_path, monkeypatch, standardize, mean):
    features = np.random.default_rng(0).normal(mean, 50, size=(60, 90))
    check_resuming(
        tmp_path,
        monkeypatch,
        recipe(epochs=2, augmented_epochs=2, features={"augmented_copies": 1}),
        [1, 3],
        name="vgg16_block4",
        options={"standardize": standardize, "hidden_units": 64, "dropout": 0.3},
        data=(np.maximum(features, 0).astype(np.float16), np.arange(30) % 4),
    )


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: content[: len(content) // 2],
        lambda content: content[:1000] + bytes([content[1000] ^ 1]) + content[1001:],
        lambda content: b"",
    ],
    ids=["truncated", "one bit flipped", "empty"],
)
def test_a_damaged_checkpoint_is_none(tmp_path, damage):
    """The one before it counts, where it is whole."""

    def make_state():
        model = build_model("cnn1", (28, 28, 1), 4, {"dropout": 0.3})
        return TrainingState(model, build_optimizer(recipe(), 4))

    state = make_state()
    for epoch in (1, 2):
        state.history.append({"epoch": epoch})
        state.save(tmp_path)
    earlier, later = (tmp_path / CHECKPOINTS[epoch % 2] for epoch in (1, 2))
    content = later.read_bytes()
    later.write_bytes(damage(content))
    resumed = make_state()
    assert resumed.load(tmp_path)
    assert resumed.history == [{"epoch": 1}]
    earlier.write_bytes(damage(earlier.read_bytes()))
    assert not make_state().load(tmp_path)
    later.write_bytes(content)
    resumed = make_state()
    assert resumed.load(tmp_path)
    assert resumed.history == state.history
