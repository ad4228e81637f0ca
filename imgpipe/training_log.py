"""The log of a training, for TensorBoard: curves, weights, images as the network gets them."""

import contextlib
import json
import math
import sys
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.plugins.histogram.summary_v2 import histogram_pb
from tensorboard.plugins.text.summary_v2 import text_pb

from imgpipe.files import remove, replacing
from imgpipe.wording import word_error

SHEET_SIDE = 8  # images in a row and in a column, at most
LARGEST_SHEET = 1024  # pixels a side, except for a single image
MOST_WEIGHTS = 100_000  # of one array that a histogram counts


class TrainingLog:
    """Event files in a folder, one an epoch, so that an epoch trained again replaces its first log.

    TensorBoard shows `train` and `val` in it as two runs. Nothing in here draws at random or
    changes the model. Where a file cannot be written, one line says so and no more are: a log is
    no reason to stop a training.

    The files are written as records because tf.summary says nothing when the disk is full.
    """

    def __init__(self, folder: Path, settings: dict):
        """Name the place; nothing is written yet.

        Args:
            folder: of this training and equal ones alone.
            settings: what tells this training from others, as JSON can say it.
        """
        self._folder = folder
        self._settings = settings
        self._given_up = False

    def begin(self, model: keras.Model, sheets: dict[str, np.ndarray]) -> None:
        """Remove the log of an equal training, and write what there is before the first epoch.

        Args:
            model: with its first weights.
            sheets: name to uint8 (height, width, 1 or 3), as arrange_sheet makes them.
        """
        with self._reporting():
            remove(self._folder)
        text = json.dumps(self._settings, indent=1, ensure_ascii=False)
        settings = text_pb("settings", textwrap.indent(text, "    "))  # Markdown's code
        shown = [_show_image(name, sheet) for name, sheet in sheets.items()]
        self._write("train", 0, [settings, *shown, *_count_weights(model)])

    def add_epoch(self, scores: dict, learning_rate: float, model: keras.Model) -> None:
        """Write what there is after an epoch.

        Args:
            scores: as in the history of imgpipe.training.train_model.
            learning_rate: of the epoch's last step.
            model: with the weights at the epoch's end.
        """
        train = {name: scores[name] for name in ("accuracy", "loss")}
        val = {name: scores[f"val_{name}"] for name in train}
        train["learning_rate"] = learning_rate
        epoch = scores["epoch"]
        self._write("train", epoch, [_plot_values(train), *_count_weights(model)])
        self._write("val", epoch, [_plot_values(val)])

    def _write(self, run: str, step: int, summaries: list[Summary]) -> None:
        if self._given_up:
            return
        events = [Event(file_version="brain.Event:2")]
        events += [Event(step=step, summary=summary) for summary in summaries]
        path = self._folder / run / f"{step:06d}.tfevents"
        with (
            self._reporting(),
            replacing(path) as temporary,
            tf.io.TFRecordWriter(str(temporary)) as file,
        ):
            for event in events:
                event.wall_time = time.time()
                file.write(event.SerializeToString())

    @contextlib.contextmanager
    def _reporting(self) -> Iterator[None]:
        try:
            yield
        except (OSError, tf.errors.OpError) as error:
            self._given_up = True
            print(
                f"warning: {self._folder}: TensorBoard will not show the rest of this training "
                f"({word_error(error)})",
                file=sys.stderr,
            )


def arrange_sheet(images: np.ndarray) -> np.ndarray:
    """Arrange the first images of a batch in a square, as many as a sheet takes.

    Args:
        images: uint8 (n, height, width, channels), n at least 1.

    Returns:
        uint8 (side * height, side * width, channels).
    """
    count, height, width, channels = images.shape
    side = min(SHEET_SIDE, math.isqrt(count), max(1, LARGEST_SHEET // max(height, width)))
    rows = images[: side * side].reshape(side, side, height, width, channels)
    return rows.swapaxes(1, 2).reshape(side * height, side * width, channels)


def _show_image(name: str, image: np.ndarray) -> Summary:
    summary = Summary()
    value = summary.value.add(tag=name).image
    value.height, value.width, value.colorspace = image.shape
    value.encoded_image_string = tf.io.encode_png(image).numpy()
    return summary


def _plot_values(values: dict[str, float]) -> Summary:
    summary = Summary()
    for name, value in values.items():
        summary.value.add(tag=name, simple_value=value)
    return summary


def _count_weights(model: keras.Model) -> list[Summary]:
    """Make a histogram of each of a model's arrays of weights, large ones by a sample."""
    summaries = []
    for weights in model.weights:
        values = np.asarray(weights).ravel()
        # An odd number, so that it does not always meet the same of 512 or so columns.
        step = math.ceil(values.size / MOST_WEIGHTS) | 1
        tag = weights.path.removeprefix(f"{model.name}/")
        summaries.append(histogram_pb(tag, values[::step]))
    return summaries
