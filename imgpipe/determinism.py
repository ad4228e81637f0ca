"""Making TensorFlow's arithmetic the same in every process on the same kind of machine."""

import keras
import tensorflow as tf


def make_deterministic(seed: int) -> None:
    """Seed every random generator and choose operations that repeat to the bit."""
    keras.utils.set_random_seed(seed)
    tf.config.experimental.enable_op_determinism()
