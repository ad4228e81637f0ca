"""The state of a training between two epochs: all that the rest of it depends on."""

import json
import zipfile
from pathlib import Path

import keras
import numpy as np

from imgpipe.files import replacing

CHECKPOINT = "checkpoint.npz"


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
        self._best_weights = self._model.get_weights()

    def restore_best_weights(self) -> None:
        """Give the model the weights that were put aside."""
        self._model.set_weights(self._best_weights)

    def save(self, path: Path) -> None:
        """Write the state to an .npz file, whole or not at all."""
        groups = {
            "variables": [np.asarray(v) for v in self._variables],
            "optimizer": [np.asarray(v) for v in self.optimizer.variables],
            "best": self._best_weights,
        }
        arrays = {f"{name}/{i}": a for name, group in groups.items() for i, a in enumerate(group)}
        with replacing(path) as temporary:
            np.savez(temporary, history=json.dumps(self.history), **arrays)

    def load(self, path: Path) -> bool:
        """Take over the state of a file that `save` wrote for an equal model and optimiser.

        Returns:
            Whether there was one that is whole.
        """
        if not path.is_file():
            return False
        try:
            with np.load(path, allow_pickle=False) as stored:  # a zip archive, with check sums
                arrays = {name: stored[name] for name in stored.files}
        except (OSError, ValueError, EOFError, zipfile.BadZipFile):
            return False
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
