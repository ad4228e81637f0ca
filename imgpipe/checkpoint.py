"""The state of a training between two epochs: all that the rest of it depends on."""

import io
import json
import os
import zipfile
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

# Written in turn, in their place: one is always whole. To write new files instead, whose memory the
# system must find and clear first, takes several times as long.
CHECKPOINTS = "checkpoint0.npz", "checkpoint1.npz"


class TrainingState:
    """A model and its optimiser in the middle of a training.

    Attributes:
        history: one mapping an epoch so far, as imgpipe.training.train_model returns it.
        optimizer: the training's.
    """

    def __init__(self, model: keras.Model, optimizer: keras.optimizers.Optimizer):
        """Take the model before it is compiled: with it come metrics, which an epoch begins anew.

        What dropout draws next is among a model's variables, though not among its weights.
        """
        self.history = []
        self.optimizer = optimizer
        self._model = model
        self._variables = list(model.variables)
        self._best_weights = []
        optimizer.build(model.trainable_variables)

    def keep_as_best(self) -> None:
        """Put the present weights aside."""
        weights = _view_all(self._model.weights)
        if not self._best_weights:
            self._best_weights = list(map(np.empty_like, weights))
        for kept, values in zip(self._best_weights, weights, strict=True):
            kept[...] = values  # new arrays would take several times as long

    def restore_best_weights(self) -> None:
        """Give the model the weights that were put aside."""
        self._model.set_weights(self._best_weights)

    def save(self, folder: Path) -> None:
        """Write the state to a file in a folder; that of the call before stays in another."""
        groups = {
            "variables": _view_all(self._variables),
            "optimizer": _view_all(self.optimizer.variables),
            "best": self._best_weights,
        }
        arrays = {f"{name}/{i}": a for name, group in groups.items() for i, a in enumerate(group)}
        arrays["history"] = np.array(json.dumps(self.history))
        path = folder / CHECKPOINTS[len(self.history) % 2]
        path.touch()
        with path.open("r+b") as file:
            _write_arrays(file, arrays)
            file.truncate()
            file.flush()
            os.fsync(file.fileno())

    def load(self, folder: Path) -> bool:
        """Take over the latest whole state that `save` wrote for an equal model and optimiser.

        Returns:
            Whether there was one.
        """
        stored = [arrays for name in CHECKPOINTS if (arrays := _read_arrays(folder / name))]
        if not stored:
            return False
        arrays = max(stored, key=lambda arrays: len(json.loads(str(arrays["history"]))))
        self.history = json.loads(str(arrays.pop("history")))
        groups = {"variables": self._variables, "optimizer": self.optimizer.variables}
        for name, variables in groups.items():
            for number, variable in enumerate(variables):
                variable.assign(arrays.pop(f"{name}/{number}"))
        for layer in self._model.layers:
            if isinstance(layer, keras.layers.Normalization):
                layer.finalize_state()  # what it computes with it derives from its weights
        self._best_weights = [arrays[f"best/{number}"] for number in range(len(arrays))]
        return True


def _view_all(variables: list[keras.Variable]) -> list[np.ndarray]:
    """Return what variables hold, without a copy, until it changes."""
    tensors = map(tf.convert_to_tensor, variables)
    return [np.asarray(memoryview(tensor)) for tensor in tensors]


def _write_arrays(file: io.BufferedRandom, arrays: dict[str, np.ndarray]) -> None:
    """Write what numpy.savez does, which first copies each array."""
    with zipfile.ZipFile(file, "w") as archive:
        for name, array in arrays.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                header = np.lib.format.header_data_from_array_1_0(array)
                np.lib.format.write_array_header_1_0(member, header)
                member.write(np.ascontiguousarray(array).data)


def _read_arrays(path: Path) -> dict[str, np.ndarray]:
    """Read a file of arrays; one that is not whole, or is not there, has none."""
    try:
        with np.load(path, allow_pickle=False) as stored:  # a zip archive, with check sums
            return {name: stored[name] for name in stored.files}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile):
        return {}
