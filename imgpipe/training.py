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
from imgpipe.history import choose_epoch
from imgpipe.params import Params
from imgpipe.schedules import build_schedule
from imgpipe.schema import Recipe

LARGEST_LEAST_SIZE = 128  # where the search for the smallest images that a model takes ends
CROSS_ENTROPY = "cross_entropy"


def train_new_model(
    params: Params, class_count: int, train: tuple, val: tuple, history_file: Path
) -> tuple[keras.Model, list[dict]]:
    """Build and train the model that the parameters ask for, the same to the bit each time.

    Args:
        params: the checked parameters.
        class_count: number of classes.
        train: inputs and labels, as in training_batches.
        val: the same, to choose the best epoch by.
        history_file: as in train_model.

    Returns:
        The model and the history, as in train_model.
    """
    make_deterministic(params.seed)
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
        refused = f"models.{name} cannot take inputs of shape {input_shape}"
        least = _find_least_size(build, input_shape, class_count, options)
        if least is None:
            raise ValueError(f"{refused}: {str(error).splitlines()[0]}") from None
        raise ValueError(
            f"{refused}: images must be {least}×{least} pixels or larger; set a larger image_size "
            "in the dataset's block or choose another model"
        ) from None


def _find_least_size(build, input_shape: tuple, class_count: int, options: dict) -> int | None:
    """Find the smallest square images that a model takes, if their size is what it refuses."""
    if len(input_shape) != 3:
        return None
    for size in range(min(input_shape[:2]) + 1, LARGEST_LEAST_SIZE + 1):
        try:
            build((size, size, input_shape[2]), class_count, **options)
        except ValueError:
            continue
        return size
    return None


def training_batches(inputs, labels, recipe: Recipe, seed: int) -> tf.data.Dataset:
    """Stream the batches of all epochs, one epoch after the other.

    Each epoch has an order and, after `recipe.epochs`, augmentations of its own, drawn from the
    seed and the epoch's number alone: the stream can be entered at any epoch. Features cannot be
    augmented: an augmented epoch draws for each image one of its copies.

    Args:
        inputs: uint8 images (n, height, width, channels), or float16 features (rows, feature_dim):
            n of the plain images, then n for each augmented copy of them. A memory map is read
            batch by batch.
        labels: integers (n,).
        recipe: the model's recipe.
        seed: of orders and augmentations.

    Returns:
        Batches (inputs, labels): ceil(n / batch_size) an epoch, images still uint8.
    """
    count = len(labels)

    def shuffle(epoch):
        return tf.random.experimental.stateless_shuffle(tf.range(count), seed=[seed, epoch])

    def gather_batches(rows):
        batches = tf.data.Dataset.from_tensor_slices(rows).batch(recipe.batch_size)
        return batches.map(gather, num_parallel_calls=tf.data.AUTOTUNE)

    def plain_epoch(epoch):
        return gather_batches(shuffle(epoch))

    def copied_epoch(epoch):
        # A negative number: the draw of no order and no augmentation.
        copy_seed, copies = [seed, -1 - epoch], recipe.features.augmented_copies
        copy = tf.random.stateless_uniform([count], copy_seed, 1, copies + 1, tf.int32)
        return gather_batches(copy * count + shuffle(epoch))

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
        make_epoch = copied_epoch if recipe.features else augmented_epoch
        augmented = tf.data.Dataset.range(recipe.epochs, total).flat_map(make_epoch)
        stream = stream.concatenate(augmented)
    return stream.prefetch(tf.data.AUTOTUNE)


def batches_per_epoch(count: int, recipe: Recipe) -> int:
    """Return how many batches hold `count` inputs once."""
    return -(-count // recipe.batch_size)


def plain_batches(inputs, labels, batch_size: int) -> tf.data.Dataset:
    """Stream the plain inputs once, in their order, for validation and standardisation."""
    rows = tf.data.Dataset.range(len(labels)).batch(batch_size)
    return rows.map(_gatherer(inputs, labels), num_parallel_calls=tf.data.AUTOTUNE).prefetch(
        tf.data.AUTOTUNE
    )


def train_model(
    model: keras.Model, train: tuple, val: tuple, recipe: Recipe, seed: int, history_file: Path
) -> list[dict]:
    """Train a model in place and leave it with the weights of the epoch that choose_epoch names.

    Args:
        model: as build_model gives it; layers that must see the data first (Normalization) are
            adapted to the plain training inputs.
        train: inputs and labels, as in training_batches.
        val: the same, to choose the best epoch by.
        recipe: the model's recipe.
        seed: of orders and augmentations.
        history_file: CSV that gets one line after each epoch.

    Returns:
        One mapping an epoch: epoch (from 1), loss, accuracy, val_loss, val_accuracy; as many as
        were trained before early stopping. The losses are the mean cross-entropy of the images,
        whatever is minimised: label smoothing and class weights are not in them, so they compare
        between recipes, and with the loss on the test images.
    """
    _adapt(model, plain_batches(*train, 1024))
    loss, metrics = choose_loss(recipe)
    model.compile(
        optimizer=build_optimizer(recipe, len(train[1])),
        loss=loss,
        metrics=metrics,
        jit_compile=False,  # XLA is several times slower for these convolutions on a CPU
    )
    record = _Record(history_file, recipe.restore_best_weights)
    callbacks = [keras.callbacks.TerminateOnNaN(), record]
    if recipe.early_stopping:
        settings = recipe.early_stopping.model_dump()
        callbacks.append(keras.callbacks.EarlyStopping("val_accuracy", mode="max", **settings))
    batches, val_batches = training_batches(*train, recipe, seed), plain_batches(*val, 1024)
    class_count, class_weights = model.output_shape[-1], None
    if recipe.label_smoothing:
        batches, val_batches = (_one_hot(b, class_count) for b in (batches, val_batches))
    if recipe.class_weights:
        class_weights = dict(enumerate(balance_classes(train[1], class_count)))
    model.fit(
        batches,
        epochs=recipe.epochs + recipe.augmented_epochs,
        steps_per_epoch=batches_per_epoch(len(train[1]), recipe),
        shuffle=False,  # the stream is shuffled already
        validation_data=val_batches,
        class_weight=class_weights,
        callbacks=callbacks,
        verbose=1 if sys.stdout.isatty() else 2,
    )
    if record.best_weights is not None:
        model.set_weights(record.best_weights)
    return record.rows


def choose_loss(recipe: Recipe):
    """Return what training minimises, but for class weights, and the metrics measured beside it.

    With `label_smoothing: s` the label's class is wanted with probability 1 - s + s / classes and
    each other class with s / classes; Keras has that loss for labels written out one-hot.

    Source: Szegedy et al. 2016, "Rethinking the Inception Architecture", section 7.
    """
    losses, metrics = keras.losses, keras.metrics
    if recipe.label_smoothing:
        loss = losses.CategoricalCrossentropy(label_smoothing=recipe.label_smoothing)
        return loss, ["accuracy", metrics.CategoricalCrossentropy(name=CROSS_ENTROPY)]
    loss = "sparse_categorical_crossentropy"
    if recipe.class_weights:
        return loss, ["accuracy", metrics.SparseCategoricalCrossentropy(name=CROSS_ENTROPY)]
    return loss, ["accuracy"]


def balance_classes(labels: np.ndarray, class_count: int) -> list[float]:
    """Weigh classes so that each has the same share in the loss, and images 1 on average.

    Args:
        labels: integers (n,), of the training images.
        class_count: number of classes; one without images gets a weight that nothing uses.

    Returns:
        n / (class_count * images of the class), for each class.
    """
    counts = np.maximum(np.bincount(labels, minlength=class_count), 1)
    return (len(labels) / (class_count * counts)).tolist()


def build_optimizer(recipe: Recipe, train_count: int) -> keras.optimizers.Optimizer:
    """Build the optimiser that a recipe names, with Keras's defaults for what it leaves open.

    Args:
        recipe: the model's recipe.
        train_count: number of training images, from which a schedule gets its steps.
    """
    learning_rate = build_schedule(recipe, batches_per_epoch(train_count, recipe))
    match recipe.optimizer:
        case "adam":
            return keras.optimizers.Adam(learning_rate)
        case "adamw":
            return keras.optimizers.AdamW(learning_rate, weight_decay=recipe.weight_decay)
        case "sgd":
            return keras.optimizers.SGD(learning_rate, momentum=recipe.momentum)
        case "rmsprop":
            return keras.optimizers.RMSprop(learning_rate, momentum=recipe.momentum)


class _Record(keras.callbacks.Callback):
    """Keeps each epoch's scores, in memory and as CSV, and if asked the best epoch's weights."""

    def __init__(self, path: Path, keep_best_weights: bool):
        super().__init__()
        self.path = path
        self.keep_best_weights = keep_best_weights
        self.rows = []
        self.best_weights = None

    def on_epoch_end(self, epoch, logs):
        scores = {name: float(value) for name, value in logs.items()}
        if not all(map(math.isfinite, scores.values())) or "val_loss" not in scores:
            raise ValueError(
                f"training broke down in epoch {epoch + 1}: the loss is no number any more; lower "
                "learning_rate in the model's block of params.yaml"
            )
        for name in ("loss", "val_loss"):
            # Where the loss is smoothed or weighted, the plain one was measured beside it.
            scores[name] = scores.pop(name.replace("loss", CROSS_ENTROPY), scores[name])
        self.rows.append({"epoch": epoch + 1, **scores})
        best = choose_epoch(self.rows, restore_best_weights=True)
        if self.keep_best_weights and best is self.rows[-1]:
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


def _one_hot(batches: tf.data.Dataset, class_count: int) -> tf.data.Dataset:
    return batches.map(lambda inputs, labels: (inputs, tf.one_hot(labels, class_count)))


def _gatherer(inputs: np.ndarray, labels: np.ndarray):
    """Make a function from row numbers to (inputs, labels), for maps over a tf.data.Dataset.

    `inputs` may be a memory map: only the rows asked for are read. Rows of copies have the labels
    of the plain ones.
    """

    def gather(rows):
        taken = tf.numpy_function(lambda numbers: inputs[numbers], [rows], inputs.dtype)
        taken.set_shape([None, *inputs.shape[1:]])
        return taken, tf.gather(tf.constant(labels), rows % len(labels))

    return gather
