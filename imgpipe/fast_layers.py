"""Layers of Keras, computed in a faster way while a model is trained on a processor."""

from collections.abc import Callable

import keras
import numpy as np
import tensorflow as tf
from keras import layers

# Channels with which the gradients of a convolution are faster to be had from `winograd`, and how
# many pairs of them fit into its memory.
_LEAST_CHANNELS = 16
_MOST_CHANNEL_PAIRS = 2**15
_HALF_WORDS = 2**16  # dropout compares numbers of 16 random bits


def speed_up(model: keras.Model) -> keras.Model:
    """Make a model of the same layers and weights that takes less time to train.

    Where it is trained, batch normalisation is one operation instead of ten, dropout draws half
    the random bits, and convolutions get their gradients with fewer multiplications: the same
    functions, rounded in another order. Elsewhere its layers are those of `model`.

    Args:
        model: built; what is trained in the returned model is trained in it.

    Returns:
        The model to train; `model` itself on a GPU, where its own layers are fast.
    """
    if tf.config.list_physical_devices("GPU"):
        return model
    return keras.models.clone_model(model, clone_function=_speed_up_layer)


class _InTraining(layers.Layer):
    """A layer that computes in another way during training.

    Args:
        layer: whose weights and settings it shares, and which computes otherwise.
        compute: takes `layer` and its inputs to what `layer` gives in training.
    """

    def __init__(self, layer: layers.Layer, compute: Callable):
        super().__init__(name=layer.name)
        self.layer = layer
        self._compute = compute

    def call(self, inputs, training=False):
        return self._compute(self.layer, inputs) if training else self.layer(inputs)

    def compute_output_shape(self, input_shape):
        return self.layer.compute_output_shape(input_shape)


def _speed_up_layer(layer: layers.Layer) -> layers.Layer:
    """Return what takes a layer's place: itself, where there is nothing faster."""
    choices = (
        (layers.BatchNormalization, _is_usual_normalization, _normalize),
        (layers.Dropout, _is_usual_dropout, _drop_out),
        (layers.Conv2D, _is_fast_convolution, _convolve),
    )
    for kind, suits, compute in choices:
        if type(layer) is kind and layer.compute_dtype == "float32" and suits(layer):
            return _InTraining(layer, compute)
    return layer


def _is_usual_normalization(layer: layers.BatchNormalization) -> bool:
    rank = len(layer.input.shape)
    last = layer.axis in (-1, rank - 1)
    return last and rank in (2, 4) and layer.center and layer.scale and not layer.synchronized


def _normalize(layer: layers.BatchNormalization, inputs: tf.Tensor) -> tf.Tensor:
    channels = inputs.shape[-1]
    if not layer.trainable:
        return layer(inputs)
    maps = inputs if len(inputs.shape) == 4 else tf.reshape(inputs, [-1, 1, 1, channels])
    nothing = tf.zeros(0)
    normalized, mean, variance, *_ = tf.raw_ops.FusedBatchNormV3(
        x=maps,
        scale=layer.gamma,
        offset=layer.beta,
        mean=nothing,
        variance=nothing,
        epsilon=layer.epsilon,
    )
    # The operation divides the sum of squares by count - 1, Keras by count.
    count = tf.cast(tf.size(maps) // channels, tf.float32)
    variance *= (count - 1) / count
    kept = layer.momentum
    layer.moving_mean.assign(layer.moving_mean * kept + mean * (1 - kept))
    layer.moving_variance.assign(layer.moving_variance * kept + variance * (1 - kept))
    return tf.reshape(normalized, tf.shape(inputs))


def _is_usual_dropout(layer: layers.Dropout) -> bool:
    return layer.noise_shape is None and 0 < layer.rate < 1


def _drop_out(layer: layers.Dropout, inputs: tf.Tensor) -> tf.Tensor:
    count = tf.size(inputs)
    seed = tf.cast(layer.seed_generator.next(), tf.int32)
    words = tf.random.stateless_uniform([(count + 1) // 2], seed, None, None, tf.int32)
    halves = tf.reshape(tf.bitcast(words, tf.uint16), [-1])[:count]
    dropped = round(layer.rate * _HALF_WORDS)
    kept = tf.reshape(halves >= tf.constant(dropped, tf.uint16), tf.shape(inputs))
    return tf.where(kept, inputs * (_HALF_WORDS / (_HALF_WORDS - dropped)), 0.0)


def _is_fast_convolution(layer: layers.Conv2D) -> bool:
    channels, outputs = layer.kernel.shape[2:]
    return (
        layer.kernel_size == (3, 3)
        and layer.strides == layer.dilation_rate == (1, 1)
        and layer.groups == 1
        and layer.padding in ("valid", "same")
        and layer.data_format == "channels_last"
        and layer.activation is keras.activations.relu
        and layer.use_bias
        and min(channels, outputs) >= _LEAST_CHANNELS
        and channels * outputs <= _MOST_CHANNEL_PAIRS
    )


def _convolve(layer: layers.Conv2D, inputs: tf.Tensor) -> tf.Tensor:
    from imgpipe.winograd import differentiate_convolution  # half a second that others need not

    padding = 1 if layer.padding == "same" else 0

    def differentiate(*arrays: np.ndarray) -> tuple:
        return differentiate_convolution(*arrays, padding=padding)

    @tf.custom_gradient
    def convolve(images, kernel, bias):
        maps = tf.nn.conv2d(images, kernel, 1, layer.padding.upper())
        maps = tf.nn.relu(tf.nn.bias_add(maps, bias))

        def backpropagate(gradients):
            arrays = [images, maps, gradients, kernel]
            found = tf.numpy_function(differentiate, arrays, [tf.float32] * 3, stateful=False)
            for gradient, source in zip(found, (images, kernel, bias), strict=True):
                gradient.set_shape(source.shape)
            return found

        return maps, backpropagate

    return convolve(inputs, *map(tf.convert_to_tensor, (layer.kernel, layer.bias)))
