"""imgpipe.training: the stream of batches, the recipe, what a model learns."""

import csv

import numpy as np
import pytest

from imgpipe.schema import Augmentation, Recipe, Schedule
from imgpipe.training import best_epoch, build_model, build_optimizer, train_model, training_batches
from tiny import make_images

AUGMENTATION = Augmentation(rotation=8.0, width_shift=0.1, height_shift=0.1, shear=0.3, zoom=0.1)


def recipe(**changes):
    values = {
        "backbone": None,
        "epochs": 2,
        "augmented_epochs": 0,
        "augmentation": AUGMENTATION,
        "batch_size": 8,
        "optimizer": "adam",
        "learning_rate": 0.001,
        "schedule": None,
    }
    return Recipe(**(values | changes))


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
    history = train_model(model, data, data, recipe(epochs=40), 1, tmp_path / "history.csv")
    assert history[-1]["accuracy"] == 1.0


def test_a_head_standardises_its_features_on_the_training_inputs(tmp_path):
    rng = np.random.default_rng(0)
    features = (rng.normal(size=(40, 6)) * 50 + 300).astype(np.float16)
    labels = (features[:, 0] > 300).astype(np.int64)
    options = {"standardize": True, "hidden_units": None, "dropout": 0.0}
    model = build_model("vgg16_block4", (6,), 2, options)
    data = (features, labels)
    train_model(model, data, data, recipe(epochs=1), 1, tmp_path / "history.csv")
    standardised = model.layers[0](features.astype(np.float32)).numpy()
    np.testing.assert_allclose(standardised.mean(axis=0), 0, atol=0.02)
    np.testing.assert_allclose(standardised.std(axis=0), 1, atol=0.02)


def test_history_is_written_and_the_best_epoch_kept(tmp_path):
    images, labels = make_images(60)
    model = build_model("cnn1", (28, 28, 1), 10, {"dropout": 0.2})
    # A learning rate at which scores go up and down.
    history = train_model(
        model,
        (images, labels),
        (images[:30], labels[:30]),
        recipe(epochs=6, learning_rate=0.02),
        1,
        tmp_path / "plots/history.csv",
    )
    with (tmp_path / "plots/history.csv").open() as file:
        rows = [{k: float(v) for k, v in row.items()} for row in csv.DictReader(file)]
    assert rows == history
    assert [row["epoch"] for row in rows] == [1, 2, 3, 4, 5, 6]
    accuracy = (model.predict(images[:30], verbose=0).argmax(axis=1) == labels[:30]).mean()
    best = best_epoch(history)
    assert best["epoch"] < 6  # or this test could not tell the best weights from the last
    assert accuracy == pytest.approx(best["val_accuracy"], abs=1e-6)


def test_of_equal_epochs_the_earliest_is_best():
    history = [{"epoch": n, "val_accuracy": a} for n, a in ((1, 0.1), (2, 0.5), (3, 0.5))]
    assert best_epoch(history)["epoch"] == 2


@pytest.mark.parametrize("name", ["adam", "rmsprop", "sgd"])
def test_optimizers(name):
    optimizer = build_optimizer(recipe(optimizer=name, learning_rate=0.03), 80)
    assert type(optimizer).__name__.lower() == name
    assert float(optimizer.learning_rate) == pytest.approx(0.03)


@pytest.mark.parametrize(
    ("warmup_epochs", "rates"),
    [
        # 20 steps: 80 images in batches of 8, two epochs.
        (0.0, {0: 0.03, 5: 0.03 * (1 + 2**-0.5) / 2, 10: 0.015, 20: 0.0}),
        (1.0, {0: 0.0, 5: 0.015, 10: 0.03, 15: 0.015, 20: 0.0}),
    ],
)
def test_the_cosine_schedule_ends_with_the_training(warmup_epochs, rates):
    schedule = Schedule(decay="cosine", warmup_epochs=warmup_epochs)
    optimizer = build_optimizer(recipe(learning_rate=0.03, schedule=schedule), 80)
    for step, rate in rates.items():
        optimizer.iterations.assign(step)
        assert float(optimizer.learning_rate) == pytest.approx(rate, abs=1e-7)


def test_a_training_that_breaks_down_says_what_to_do(tmp_path):
    images, labels = make_images(16)
    model = build_model("cnn1", (28, 28, 1), 10, {"dropout": 0.2})
    data = (images, labels)
    with pytest.raises(ValueError, match=r"broke down in epoch 1.*lower learning_rate"):
        train_model(
            model, data, data, recipe(optimizer="sgd", learning_rate=1e30), 1, tmp_path / "h"
        )


def test_an_earlier_history_is_replaced_not_written_through(tmp_path):
    """DVC links outputs to its cache: writing into the old file would damage the cache."""
    images, labels = make_images(16)
    history, cached = tmp_path / "history.csv", tmp_path / "cached"
    cached.write_text("old")
    history.hardlink_to(cached)
    model = build_model("cnn1", (28, 28, 1), 10, {"dropout": 0.2})
    train_model(model, (images, labels), (images, labels), recipe(epochs=1), 1, history)
    assert cached.read_text() == "old"
    assert len(history.read_text().splitlines()) == 2
