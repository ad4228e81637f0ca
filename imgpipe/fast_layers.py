"""Layers of Keras, computed in a faster way while a model is trained on a processor."""

from collections.abc import Callable
from functools import partial

import keras
import tensorflow as tf
from keras import layers

from imgpipe import winograd
from imgpipe.dropout import drop_out

# Channels with which a convolution and its gradients are faster to be had from `winograd`, and how
# many pairs of them fit into its memory. With very few, as images have, its kernel's gradient is.
_LEAST_CHANNELS = 16
_MOST_CHANNEL_PAIRS = 2**15
_VERY_FEW_CHANNELS = 4


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
        (layers.Conv2D, _has_many_channels, _convolve),
        (layers.Conv2D, _has_few_channels, _convolve_images),
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
    seed = layer.seed_generator.next()

    @tf.custom_gradient
    def compute(values):
        function = partial(drop_out, rate=layer.rate)
        outputs = tf.numpy_function(function, [values, seed], tf.float32, stateful=False)
        outputs.set_shape(values.shape)
        return outputs, compute

    return compute(inputs)


def _has_many_channels(layer: layers.Conv2D) -> bool:
    channels, outputs = layer.kernel.shape[2:]
    enough = min(channels, outputs) >= _LEAST_CHANNELS
    return enough and channels * outputs <= _MOST_CHANNEL_PAIRS and _is_usual_convolution(layer)


def _has_few_channels(layer: layers.Conv2D) -> bool:
    return layer.kernel.shape[2] <= _VERY_FEW_CHANNELS and _is_usual_convolution(layer)


def _is_usual_convolution(layer: layers.Conv2D) -> bool:
    return (
        layer.kernel_size == (3, 3)
        and layer.strides == layer.dilation_rate == (1, 1)
        and layer.groups == 1
        and layer.padding in ("valid", "same")
        and layer.data_format == "channels_last"
        and layer.activation is keras.activations.relu
        and layer.use_bias
    )


def _convolve(layer: layers.Conv2D, inputs: tf.Tensor) -> tf.Tensor:
    def compute(images, kernel, bias):
        function = partial(winograd.convolve, padding=_count_padding(layer))
        maps = tf.numpy_function(function, [images, kernel, bias], tf.float32, stateful=False)
        maps.set_shape(layer.compute_output_shape(images.shape))
        return maps

    def differentiate(images, maps, gradients, kernel):
        function = partial(winograd.differentiate_convolution, padding=_count_padding(layer))
        arrays = [images, maps, gradients, kernel]
        return tf.numpy_function(function, arrays, [tf.float32] * 3, stateful=False)

    return _call_convolution(layer, inputs, compute, differentiate)


def _convolve_images(layer: layers.Conv2D, inputs: tf.Tensor) -> tf.Tensor:
    padding = layer.padding.upper()

    def compute(images, kernel, bias):
        return tf.nn.relu(tf.nn.bias_add(tf.nn.conv2d(images, kernel, 1, padding), bias))

    def differentiate(images, maps, gradients, kernel):
        function = partial(winograd.differentiate_kernel, padding=_count_padding(layer))
        arrays = [images, maps, gradients]
        found = tf.numpy_function(function, arrays, [tf.float32] * 2, stateful=False)
        # TensorFlow drops this where nobody wants it, as with a network's first layer.
        slopes = tf.where(maps > 0, gradients, 0.0)
        by_images = tf.nn.conv2d_transpose(slopes, kernel, tf.shape(images), 1, padding)
        return by_images, *found

    return _call_convolution(layer, inputs, compute, differentiate)


def _count_padding(layer: layers.Conv2D) -> int:
    return 1 if layer.padding == "same" else 0


def _call_convolution(
    layer: layers.Conv2D, inputs: tf.Tensor, compute: Callable, differentiate: Callable
) -> tf.Tensor:
    """Call a convolution with ReLU that has gradients of its own.

    Args:
        layer: with the kernel and the bias.
        inputs: its images.
        compute: takes images, kernel and bias to maps.
        differentiate: takes images, maps, their gradients and kernel to the gradients by images,
            kernel and bias.
    """

    @tf.custom_gradient
    def convolve(images, kernel, bias):
        maps = compute(images, kernel, bias)

        def backpropagate(gradients):
            found = differentiate(images, maps, gradients, kernel)
            for gradient, source in zip(found, (images, kernel, bias), strict=True):
                gradient.set_shape(source.shape)
            return found

        return maps, backpropagate

    return convolve(inputs, *map(tf.convert_to_tensor, (layer.kernel, layer.bias)))
