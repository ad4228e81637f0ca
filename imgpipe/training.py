"""Training a model: batches, optimiser, the loop, the best weights."""

import math
import time
from functools import partial
from importlib import import_module
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from imgpipe.arrays import take_rows
from imgpipe.augmentation import augment_images
from imgpipe.checkpoint import TrainingState
from imgpipe.compiled import count_cores
from imgpipe.determinism import make_deterministic
from imgpipe.fast_layers import speed_up
from imgpipe.footprint import choose_input_count
from imgpipe.history import choose_epoch, has_stopped_rising
from imgpipe.optimizers import build_optimizer
from imgpipe.params import Params
from imgpipe.schema import Recipe
from imgpipe.stage import progress_bar
from imgpipe.training_log import TrainingLog, arrange_sheet

LARGEST_LEAST_SIZE = 128  # where the search for the smallest images that a model takes ends
CROSS_ENTROPY = "cross_entropy"
_READY_BATCHES = 2  # that wait while one is used
# The most steps that TensorFlow does before it comes back to Python, where progress is shown: one
# on features takes a hundredth of a second, one on images may take some.
_MOST_STEPS_AT_ONCE = 4
_MOST_STEPS_ON_FEATURES = 50


def train_new_model(
    params: Params, class_count: int, train: tuple, val: tuple, work: Path, log: TrainingLog | None
) -> tuple[keras.Model, list[dict]]:
    """Build and train the model that the parameters ask for, the same to the bit each time.

    Args:
        params: the checked parameters.
        class_count: number of classes.
        train: inputs and labels, as in training_batches.
        val: the same, to choose the best epoch by.
        work: as in train_model.
        log: as in train_model.

    Returns:
        The model and the history, as in train_model.
    """
    make_deterministic(params.seed)
    model = build_model(params.model_name, train[0].shape[1:], class_count, params.options)
    return model, train_model(model, train, val, params.recipe, params.seed, work, log)


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


def training_batches(
    inputs, labels, recipe: Recipe, seed: int, first_epoch: int = 0
) -> tf.data.Dataset:
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
        first_epoch: where to begin, from 0.

    Returns:
        Batches (inputs, labels): ceil(n / batch_size) an epoch, images still uint8.
    """
    count = len(labels)
    cores = count_cores()  # not in what becomes a graph, which it would become part of

    def shuffle(epoch):
        return tf.random.experimental.stateless_shuffle(tf.range(count), seed=[seed, epoch])

    def gather_batches(rows):
        batches = tf.data.Dataset.from_tensor_slices(rows).batch(recipe.batch_size)
        return batches.map(gather, num_parallel_calls=cores)

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

        return plain_epoch(epoch).enumerate().map(augment, num_parallel_calls=cores)

    gather = _gatherer(inputs, labels)
    total = recipe.epochs + recipe.augmented_epochs
    stream = tf.data.Dataset.range(first_epoch, recipe.epochs).flat_map(plain_epoch)
    if recipe.augmented_epochs:
        make_epoch = copied_epoch if recipe.features else augmented_epoch
        first_augmented = max(first_epoch, recipe.epochs)
        augmented = tf.data.Dataset.range(first_augmented, total).flat_map(make_epoch)
        stream = stream.concatenate(augmented)
    return _prefetch(stream)


def batches_per_epoch(count: int, recipe: Recipe) -> int:
    """Return how many batches hold `count` inputs once."""
    return -(-count // recipe.batch_size)


def plain_batches(inputs, labels, batch_size: int) -> tf.data.Dataset:
    """Stream the plain inputs once, in their order, for validation and standardisation."""
    rows = tf.data.Dataset.range(len(labels)).batch(batch_size)
    gather = _gatherer(inputs, labels)
    return _prefetch(rows.map(gather, num_parallel_calls=count_cores()))


def _prefetch(batches: tf.data.Dataset) -> tf.data.Dataset:
    """Have batches made while earlier ones are used, without TensorFlow's tuning of how many.

    What tunes sleeps for up to a minute at a time, and a stream that is given up waits for it.
    """
    options = tf.data.Options()
    options.autotune.enabled = False
    return batches.prefetch(_READY_BATCHES).with_options(options)


def train_model(
    model: keras.Model,
    train: tuple,
    val: tuple,
    recipe: Recipe,
    seed: int,
    work: Path,
    log: TrainingLog | None = None,
) -> list[dict]:
    """Train a model in place and leave it with the weights of the epoch that choose_epoch names.

    After each epoch all that the rest depends on is kept in `work`. A call that finds there what a
    killed one has left goes on after its last epoch, to the same weights.

    Args:
        model: as build_model gives it; layers that must see the data first (Normalization) are
            adapted to the plain training inputs.
        train: inputs and labels, as in training_batches.
        val: the same, to choose the best epoch by.
        recipe: the model's recipe.
        seed: of orders and augmentations.
        work: existing folder for this training alone.
        log: what TensorBoard shows of the training; None for nothing.

    Returns:
        One mapping an epoch: epoch (from 1), loss, accuracy, val_loss, val_accuracy; as many as
        were trained before early stopping. The losses are the mean cross-entropy of the images,
        whatever is minimised: label smoothing and class weights are not in them, so they compare
        between recipes, and with the loss on the test images.
    """
    loss, metrics = choose_loss(recipe)
    steps = batches_per_epoch(len(train[1]), recipe)
    state = TrainingState(model, build_optimizer(recipe, steps))
    fast_model = speed_up(model, train[0][: recipe.batch_size], state.optimizer)
    fast_model.compile(
        optimizer=state.optimizer,
        loss=loss,
        metrics=metrics,
        steps_per_execution=_choose_steps_at_once(steps, recipe),
        jit_compile=False,  # XLA is several times slower for these convolutions on a CPU
    )
    input_count = choose_input_count(model)
    if not state.load(work):
        _adapt(model, plain_batches(*train, input_count))
    total, first = recipe.epochs + recipe.augmented_epochs, len(state.history)
    if log and not first:
        log.begin(model, _show_inputs(*train, recipe, seed))
    if not _ends_early(state.history, recipe) and first < total:
        batches = training_batches(*train, recipe, seed, first)
        val_batches, class_count = plain_batches(*val, input_count), model.output_shape[-1]
        class_weights = None
        if recipe.label_smoothing:
            batches, val_batches = (_one_hot(b, class_count) for b in (batches, val_batches))
        if recipe.class_weights:
            class_weights = dict(enumerate(balance_classes(train[1], class_count)))
        fast_model.fit(
            batches,
            initial_epoch=first,
            epochs=total,
            steps_per_epoch=steps,
            shuffle=False,  # the stream is shuffled already
            validation_data=val_batches,
            class_weight=class_weights,
            callbacks=[
                keras.callbacks.TerminateOnNaN(),
                _AfterEachEpoch(state, recipe, work, log),
                _ShowProgress(state.history, len(train[1]), recipe.batch_size, total),
            ],
            verbose=0,
        )
    if recipe.restore_best_weights:
        state.restore_best_weights()
    return state.history


def _choose_steps_at_once(steps: int, recipe: Recipe) -> int:
    """Choose so many that an epoch's steps are a multiple: it does them all, each time."""
    most = _MOST_STEPS_ON_FEATURES if recipe.features else _MOST_STEPS_AT_ONCE
    return next(count for count in range(most, 0, -1) if steps % count == 0)


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


class _AfterEachEpoch(keras.callbacks.Callback):
    """Keeps each epoch's scores and the training's state, and ends it early if asked."""

    def __init__(
        self,
        state: TrainingState,
        recipe: Recipe,
        work: Path,
        log: TrainingLog | None,
    ):
        super().__init__()
        self.state = state
        self.recipe = recipe
        self.work = work
        self.log = log

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
        history = self.state.history
        history.append({"epoch": epoch + 1, **scores})
        if self.recipe.restore_best_weights and choose_epoch(history, True) is history[-1]:
            self.state.keep_as_best()
        if self.log:  # before the state is kept, so that no kill leaves a gap
            learning_rate = float(self.state.optimizer.learning_rate)
            self.log.add_epoch(history[-1], learning_rate, self.model)
        self.state.save(self.work)
        self.model.stop_training = _ends_early(history, self.recipe)


class _ShowProgress(keras.callbacks.Callback):
    """Shows an epoch's images as a bar while they pass, and its scores as a line."""

    def __init__(self, history: list[dict], count: int, batch_size: int, epochs: int):
        super().__init__()
        self.history = history
        self.count = count
        self.batch_size = batch_size
        self.epochs = epochs

    def on_epoch_begin(self, epoch, logs=None):
        self.name = f"epoch {epoch + 1}/{self.epochs}"
        self.started = time.perf_counter()
        self.bar = progress_bar(total=self.count, unit=" images", desc=self.name)

    def on_train_batch_end(self, batch, logs=None):
        self.bar.update(min((batch + 1) * self.batch_size, self.count) - self.bar.n)

    def on_epoch_end(self, epoch, logs=None):
        self.bar.close()
        scores = {name: self.history[-1][name] for name in ("accuracy", "loss")}
        scores |= {f"val {name}": self.history[-1][f"val_{name}"] for name in scores}
        words = ", ".join(f"{name} {value:.4f}" for name, value in scores.items())
        seconds = time.perf_counter() - self.started
        print(f"{self.name}: {words}, {seconds:.1f} s", flush=True)


def _ends_early(history: list[dict], recipe: Recipe) -> bool:
    settings = recipe.early_stopping
    return bool(settings and has_stopped_rising(history, settings.patience, settings.min_delta))


def _show_inputs(inputs, labels, recipe: Recipe, seed: int) -> dict[str, np.ndarray]:
    """Arrange the first images of the plain and of the augmented epochs, as the network gets them.

    Returns:
        Name to sheet, as arrange_sheet makes them; nothing for features.
    """
    if recipe.features:
        return {}
    first_epochs = {"images": 0} if recipe.epochs else {}
    if recipe.augmented_epochs:
        first_epochs["augmented_images"] = recipe.epochs
    sheets = {}
    for name, epoch in first_epochs.items():
        images, _ = next(iter(training_batches(inputs, labels, recipe, seed, epoch)))
        sheets[name] = arrange_sheet(images.numpy())
    return sheets


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
        # If it had a state, TensorFlow would make one batch after the other, each when it is asked
        # for, to get the same ones each time.
        take = partial(take_rows, inputs)
        taken = tf.numpy_function(take, [rows], inputs.dtype, stateful=False)
        taken.set_shape([None, *inputs.shape[1:]])
        return taken, tf.gather(tf.constant(labels), rows % len(labels))

    return gather
