"""Training a model: batches, optimiser, the loop, the best weights."""

import csv
import math
import sys
from importlib import import_module
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from imgpipe.augmentation import augment_images
from imgpipe.determinism import make_deterministic
from imgpipe.params import Params
from imgpipe.schema import Recipe


def train_new_model(
    params: Params, train: tuple, val: tuple, history_file: Path
) -> tuple[keras.Model, list[dict]]:
    """Build and train the model that the parameters ask for, the same to the bit each time.

    Args:
        params: the checked parameters.
        train: inputs and labels, as in training_batches.
        val: the same, to choose the best epoch by.
        history_file: as in train_model.

    Returns:
        The model with its best weights, and the history, as in train_model.
    """
    make_deterministic(params.seed)
    class_count = len(params.dataset.class_names)
    model = build_model(params.model_name, train[0].shape[1:], class_count, params.options)
    return model, train_model(model, train, val, params.recipe, params.seed, history_file)


def build_model(name: str, input_shape: tuple, class_count: int, options: dict) -> keras.Model:
    """Build `imgpipe/models/<name>.py`'s model for inputs of one shape.

    Raises:
        ValueError: the inputs are too small for its convolutions and poolings.
    """
    build = import_module(f"imgpipe.models.{name}").build_model
    try:
        return build(input_shape, class_count, **options)
    except ValueError as error:
        reason = str(error).splitlines()[0]
        raise ValueError(
            f"models.{name} cannot take inputs of shape {input_shape}: {reason} If they are too "
            "small for its convolutions, give the dataset a larger image_size or choose another "
            "model"
        ) from None


def training_batches(inputs, labels, recipe: Recipe, seed: int) -> tf.data.Dataset:
    """Stream the batches of all epochs, one epoch after the other.

    Each epoch has an order and, after `recipe.epochs`, augmentations of its own, drawn from the
    seed and the epoch's number alone: the stream can be entered at any epoch.

    Args:
        inputs: uint8 images (n, height, width, channels) or float16 features (n, feature_dim);
            a memory map is read batch by batch.
        labels: integers (n,).
        recipe: the model's recipe.
        seed: of orders and augmentations.

    Returns:
        Batches (inputs, labels): ceil(n / batch_size) an epoch, images still uint8.
    """
    count = len(labels)

    def plain_epoch(epoch):
        order = tf.random.experimental.stateless_shuffle(tf.range(count), seed=[seed, epoch])
        batches = tf.data.Dataset.from_tensor_slices(order).batch(recipe.batch_size)
        return batches.map(gather, num_parallel_calls=tf.data.AUTOTUNE)

    def augmented_epoch(epoch):
        def augment(number, batch):
            images, batch_labels = batch
            image_seed = tf.stack([tf.cast(seed, tf.int64), epoch * (1 << 32) + number])
            return augment_images(images, recipe.augmentation, image_seed), batch_labels

        return plain_epoch(epoch).enumerate().map(augment, num_parallel_calls=tf.data.AUTOTUNE)

    gather = _gatherer(inputs, labels)
    total = recipe.epochs + recipe.augmented_epochs
    stream = tf.data.Dataset.range(recipe.epochs).flat_map(plain_epoch)
    if recipe.augmented_epochs:
        augmented = tf.data.Dataset.range(recipe.epochs, total).flat_map(augmented_epoch)
        stream = stream.concatenate(augmented)
    return stream.prefetch(tf.data.AUTOTUNE)


def batches_per_epoch(count: int, recipe: Recipe) -> int:
    """Return how many batches hold `count` inputs once."""
    return -(-count // recipe.batch_size)


def plain_batches(inputs, labels, batch_size: int) -> tf.data.Dataset:
    """Stream inputs once, in their order, for validation and testing."""
    rows = tf.data.Dataset.range(len(labels)).batch(batch_size)
    return rows.map(_gatherer(inputs, labels), num_parallel_calls=tf.data.AUTOTUNE).prefetch(
        tf.data.AUTOTUNE
    )


def train_model(
    model: keras.Model, train: tuple, val: tuple, recipe: Recipe, seed: int, history_file: Path
) -> list[dict]:
    """Train a model in place and leave it with its best weights.

    Args:
        model: as build_model gives it; layers that must see the data first (Normalization) are
            adapted to the training inputs.
        train: inputs and labels, as in training_batches.
        val: the same, to choose the best epoch by.
        recipe: the model's recipe.
        seed: of orders and augmentations.
        history_file: CSV that gets one line after each epoch.

    Returns:
        One mapping an epoch: epoch (from 1), loss, accuracy, val_loss, val_accuracy. The model
        has the weights of the epoch with the highest val_accuracy, the earliest of equals.
    """
    _adapt(model, plain_batches(*train, 1024))
    model.compile(
        optimizer=build_optimizer(recipe, len(train[1])),
        loss="sparse_categorical_crossentropy",
        metrics=["accuracy"],
        jit_compile=False,  # XLA is several times slower for these convolutions on a CPU
    )
    record = _Record(history_file)
    model.fit(
        training_batches(*train, recipe, seed),
        epochs=recipe.epochs + recipe.augmented_epochs,
        steps_per_epoch=batches_per_epoch(len(train[1]), recipe),
        shuffle=False,  # the stream is shuffled already
        validation_data=plain_batches(*val, 1024),
        callbacks=[keras.callbacks.TerminateOnNaN(), record],
        verbose=1 if sys.stdout.isatty() else 2,
    )
    model.set_weights(record.best_weights)
    return record.rows


def build_optimizer(recipe: Recipe, train_count: int) -> keras.optimizers.Optimizer:
    """Build the optimiser that a recipe names, with Keras's defaults but the learning rate.

    Args:
        recipe: the model's recipe.
        train_count: number of training images, from which a schedule gets its steps.
    """
    optimizers = {
        "adam": keras.optimizers.Adam,
        "rmsprop": keras.optimizers.RMSprop,
        "sgd": keras.optimizers.SGD,
    }
    learning_rate = recipe.learning_rate
    if recipe.schedule:
        steps_per_epoch = batches_per_epoch(train_count, recipe)
        warmup_steps = round(recipe.schedule.warmup_epochs * steps_per_epoch)
        steps = (recipe.epochs + recipe.augmented_epochs) * steps_per_epoch
        learning_rate = keras.optimizers.schedules.CosineDecay(
            0.0 if warmup_steps else learning_rate,
            decay_steps=steps - warmup_steps,
            warmup_target=learning_rate if warmup_steps else None,
            warmup_steps=warmup_steps,
        )
    return optimizers[recipe.optimizer](learning_rate)


def best_epoch(history: list[dict]) -> dict:
    """Return the epoch with the highest val_accuracy, the earliest of equals."""
    return max(history, key=lambda row: row["val_accuracy"])


class _Record(keras.callbacks.Callback):
    """Keeps each epoch's scores, in memory and in a CSV file, and the best epoch's weights."""

    def __init__(self, path: Path):
        super().__init__()
        self.path = path
        self.rows = []
        self.best_weights = None

    def on_epoch_end(self, epoch, logs):
        scores = {name: float(value) for name, value in logs.items()}
        if not all(map(math.isfinite, scores.values())) or "val_loss" not in scores:
            raise ValueError(
                f"training broke down in epoch {epoch + 1}: the loss is no number any more; lower "
                "learning_rate in the model's block of params.yaml"
            )
        self.rows.append({"epoch": epoch + 1, **scores})
        if best_epoch(self.rows) is self.rows[-1]:
            self.best_weights = self.model.get_weights()
        self._write()

    def _write(self):
        if len(self.rows) == 1:
            # Not overwritten: an earlier history may share its bytes with DVC's cache.
            self.path.unlink(missing_ok=True)
            self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, self.rows[0], lineterminator="\n")
            if len(self.rows) == 1:
                writer.writeheader()
            writer.writerow(self.rows[-1])


def _adapt(model: keras.Model, batches: tf.data.Dataset) -> None:
    for layer in model.layers:
        if isinstance(layer, keras.layers.Normalization):
            layer.adapt(batches.map(lambda inputs, _: inputs))


def _gatherer(inputs: np.ndarray, labels: np.ndarray):
    """Make a function from row numbers to (inputs, labels), for maps over a tf.data.Dataset.

    `inputs` may be a memory map: only the rows asked for are read.
    """

    def gather(rows):
        taken = tf.numpy_function(lambda numbers: inputs[numbers], [rows], inputs.dtype)
        taken.set_shape([None, *inputs.shape[1:]])
        return taken, tf.gather(tf.constant(labels), rows)

    return gather
