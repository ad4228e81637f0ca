"""Layers of Keras, computed in a faster way while a model is trained on a processor."""

from collections.abc import Callable, Sequence
from functools import partial
from itertools import chain

import keras
import numpy as np
import tensorflow as tf
from keras import layers

from imgpipe import direct_convolution, sparse_products, winograd
from imgpipe.compiled import allocate_aligned
from imgpipe.dropout import drop_in_place, drop_out, find_scale
from imgpipe.optimizers import OnePassAdam

# Channels with which a convolution and its gradients are faster to be had from `winograd`, and how
# many pairs of them fit into its memory. With very few, as images have, its kernel's gradient is.
_LEAST_CHANNELS = 16
_MOST_CHANNEL_PAIRS = 2**15


def speed_up(
    model: keras.Model, inputs: np.ndarray, optimizer: keras.optimizers.Optimizer | None = None
) -> keras.Model:
    """Make a model of the same layers and weights that takes less time to train.

    Where it is trained, batch normalisation is one operation instead of ten, dropout draws half
    the random bits, and convolutions and their gradients take fewer multiplications, and pool at
    once what is only pooled afterwards, and drop of it what is dropped next; what is multiplied by
    features that are mostly zeros is not multiplied by the zeros, and moved by Adam where its
    gradient is computed: the same functions, rounded in another order. Elsewhere its layers are
    those of `model`.

    Args:
        model: built; what is trained in the returned model is trained in it.
        inputs: as many of those that it is trained on as are in a batch.
        optimizer: of the training, built; None where gradients themselves are wanted.

    Returns:
        The model to train; `model` itself on a GPU, where its own layers are fast.
    """
    if tf.config.list_physical_devices("GPU"):
        return model
    joined, sparse = {}, None
    if isinstance(model, keras.Sequential):  # whose layers' outputs go into the next one alone
        first = model.layers[0]
        sparse = first if _is_usual_dense(first) and _is_mostly_zeros(inputs) else None
        joined = _find_joined(model.layers, sparse)
    replace = partial(_speed_up_layer, joined=joined, sparse=sparse, optimizer=optimizer)
    return keras.models.clone_model(model, clone_function=replace)


class _InTraining(layers.Layer):
    """A layer that computes in another way during training.

    Args:
        layer: whose weights and settings it shares, and which computes otherwise.
        compute: takes `layer` and its inputs to what `layer` gives in training.
        autocast: whether inputs come to it as float32.
    """

    def __init__(self, layer: layers.Layer, compute: Callable, *, autocast: bool = True):
        super().__init__(name=layer.name, autocast=autocast)
        self.layer = layer
        self._compute = compute

    def call(self, inputs, training=False):
        return self._compute(self.layer, inputs) if training else self.layer(inputs)

    def compute_output_shape(self, input_shape):
        return self.layer.compute_output_shape(input_shape)


def _find_joined(
    in_turn: list[layers.Layer], sparse: layers.Layer | None
) -> dict[layers.Layer, list[layers.Layer]]:
    """Find what becomes one operation: a convolution or `sparse` and what follows.

    That is pooling after a convolution, and dropout after either; what may be missing is.
    """
    joined = {}
    for number, layer in enumerate(in_turn):
        after = in_turn[number + 1 : number + 3]
        if _is_usual_convolution(layer) and after and _is_usual_pooling(after[0]):
            joined[layer] = after[:1] + [one for one in after[1:] if _is_usual_dropout(one)]
        elif layer is sparse:
            joined[layer] = [one for one in after[:1] if _is_usual_dropout(one)]
    return joined


def _speed_up_layer(
    layer: layers.Layer,
    joined: dict,
    sparse: layers.Layer | None,
    optimizer: keras.optimizers.Optimizer | None,
) -> layers.Layer:
    """Return what takes a layer's place: itself, where there is nothing faster.

    Args:
        layer: of the model.
        joined: as _find_joined gives it; the operation takes the first layer's place.
        sparse: the layer whose inputs are mostly zeros.
        optimizer: as in speed_up.
    """
    after = joined.get(layer, ())
    if layer is sparse:
        descend = _descend_with(optimizer, layer) if _is_usual_adam(optimizer, layer) else None
        compute = partial(_multiply, joined=after, descend=descend)
        return _InTraining(layer, compute, autocast=False)
    choices = (
        (list(chain.from_iterable(joined.values())).__contains__, lambda _, outputs: outputs),
        (_is_usual_normalization, _normalize),
        (_is_usual_dropout, _drop_out),
        (_is_usual_convolution, partial(_convolve, joined=after)),
    )
    for suits, compute in choices:
        if suits(layer):
            return _InTraining(layer, compute)
    return layer


def _is_plain(layer: layers.Layer, kind: type) -> bool:
    return type(layer) is kind and layer.compute_dtype == "float32"


def _is_usual_normalization(layer: layers.Layer) -> bool:
    if not _is_plain(layer, layers.BatchNormalization):
        return False
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


def _is_usual_dropout(layer: layers.Layer) -> bool:
    return _is_plain(layer, layers.Dropout) and layer.noise_shape is None and 0 < layer.rate < 1


def _drop_out(layer: layers.Dropout, inputs: tf.Tensor) -> tf.Tensor:
    seed = layer.seed_generator.next()

    @tf.custom_gradient
    def compute(values):
        function = partial(drop_out, rate=layer.rate)
        outputs = tf.numpy_function(function, [values, seed], tf.float32, stateful=False)
        outputs.set_shape(values.shape)
        return outputs, compute

    return compute(inputs)


def _is_usual_convolution(layer: layers.Layer) -> bool:
    if not _is_plain(layer, layers.Conv2D):
        return False
    channels, outputs = layer.kernel.shape[2:]
    enough = min(channels, outputs) >= _LEAST_CHANNELS
    return (
        (_has_few_channels(layer) or (enough and channels * outputs <= _MOST_CHANNEL_PAIRS))
        and layer.kernel_size == (3, 3)
        and layer.strides == layer.dilation_rate == (1, 1)
        and layer.groups == 1
        and layer.padding in ("valid", "same")
        and layer.data_format == "channels_last"
        and layer.activation is keras.activations.relu
        and layer.use_bias
    )


def _has_few_channels(layer: layers.Conv2D) -> bool:
    return layer.kernel.shape[2] <= direct_convolution.MOST_CHANNELS


def _is_usual_pooling(layer: layers.Layer) -> bool:
    return (
        _is_plain(layer, layers.MaxPooling2D)
        and layer.pool_size == layer.strides == (2, 2)
        and layer.padding == "valid"
        and layer.data_format == "channels_last"
    )


def _convolve(layer: layers.Conv2D, inputs: tf.Tensor, joined: Sequence[layers.Layer]) -> tf.Tensor:
    """Compute a convolution with ReLU, and perhaps the pooling and dropout after it."""
    pooling, dropout, *_ = (*joined, None, None)
    seed = dropout.seed_generator.next() if dropout else tf.zeros(2, tf.uint32)
    scale = find_scale(dropout.rate) if dropout else 1.0

    def convolve_and_pool(images, kernel, bias, seed, padding):
        maps, winners = winograd.convolve_and_pool(images, kernel, bias, padding=padding)
        if dropout:
            drop_in_place(maps, seed, dropout.rate, winners)
        return maps, winners

    def call(function: Callable, arrays: list[tf.Tensor], types) -> tf.Tensor | list[tf.Tensor]:
        padding = 1 if layer.padding == "same" else 0
        return tf.numpy_function(partial(function, padding=padding), arrays, types, stateful=False)

    @tf.custom_gradient
    def convolve(images, kernel, bias):
        arrays, winners = [images, kernel, bias], []
        shape = layer.compute_output_shape(images.shape)
        if pooling:
            shape = pooling.compute_output_shape(shape)
            maps, *winners = call(convolve_and_pool, [*arrays, seed], [tf.float32, tf.uint8])
        elif _has_few_channels(layer):
            maps = tf.nn.conv2d(images, kernel, 1, layer.padding.upper())
            maps = tf.nn.relu(tf.nn.bias_add(maps, bias))
        else:
            maps = call(winograd.convolve, arrays, tf.float32)
        maps.set_shape(shape)

        def differentiate(gradients):
            arrays = [images, maps, gradients, kernel * scale, *winners]
            found = call(winograd.differentiate_convolution, arrays, [tf.float32] * 3)
            if _has_few_channels(layer):
                # TensorFlow drops what nobody wants, as with a network's first layer the other.
                found[1:] = call(direct_convolution.differentiate_kernel, arrays, [tf.float32] * 2)
            for gradient, source in zip(found, (images, kernel, bias), strict=True):
                gradient.set_shape(source.shape)
            by_images, *others = found
            return by_images, *(gradient * scale for gradient in others)

        return maps, differentiate

    return convolve(inputs, *map(tf.convert_to_tensor, (layer.kernel, layer.bias)))


def _is_usual_dense(layer: layers.Layer) -> bool:
    return (
        _is_plain(layer, layers.Dense)
        and len(layer.input.shape) == 2
        and layer.units >= sparse_products.LEAST_UNITS
        and layer.activation is keras.activations.relu
        and layer.use_bias
    )


def _is_mostly_zeros(features: np.ndarray) -> bool:
    if features.dtype != np.float16 or len(features) > sparse_products.MOST_ROWS:
        return False
    return np.count_nonzero(features) <= sparse_products.MOST_SHARE * features.size


def _is_usual_adam(optimizer: keras.optimizers.Optimizer | None, layer: layers.Dense) -> bool:
    usual = isinstance(optimizer, OnePassAdam) and not optimizer.weight_decay
    return usual and layer.kernel_regularizer is None


def _descend_with(optimizer: OnePassAdam, layer: layers.Dense) -> Callable:
    """Take over from an optimiser to move a dense layer's weights.

    Returns:
        A function from the weights' tensor and what sparse_products.differentiate takes to what the
        weights become and the gradient by the biases.
    """
    moments = optimizer.leave(layer.kernel)
    # TensorFlow takes these as the variables' values without a copy, and passes them in again.
    own = [allocate_aligned(layer.kernel.shape) for _ in range(3)]

    def compute(features, outputs, gradients, rates, *state):
        for mine, theirs in zip(own, state, strict=True):
            if theirs.ctypes.data != mine.ctypes.data:  # a variable was given another value
                mine[:] = theirs
        weights, *moments = own
        arrays = features, outputs, gradients, weights, moments, rates
        return sparse_products.descend(*arrays), *own

    def descend(kernel: tf.Tensor, arrays: list[tf.Tensor]) -> tuple[tf.Tensor, tf.Tensor]:
        state = kernel, *map(tf.convert_to_tensor, moments)
        inputs, types = [*arrays, optimizer.find_rates(), *state], [tf.float32] * 4
        by_bias, kernel, *changed = tf.numpy_function(compute, inputs, types, stateful=False)
        for moment, value in zip(moments, changed, strict=True):
            value.set_shape(moment.shape)
            moment.assign(value)
        return kernel, by_bias

    return descend


def _multiply(
    layer: layers.Dense,
    features: tf.Tensor,
    joined: Sequence[layers.Layer],
    descend: Callable | None,
) -> tf.Tensor:
    """Compute a dense layer with ReLU on mostly zeros, and perhaps the dropout after it."""
    dropout = joined[0] if joined else None
    seed = dropout.seed_generator.next() if dropout else tf.zeros(2, tf.uint32)
    scale = find_scale(dropout.rate) if dropout else 1.0

    def compute(features, kernel, bias, seed):
        outputs = sparse_products.multiply_and_rectify(features, kernel, bias)
        if dropout:
            drop_in_place(outputs, seed, dropout.rate)
        return outputs

    @tf.custom_gradient
    def multiply(features, kernel, bias):
        arrays = [features, kernel, bias, seed]
        outputs = tf.numpy_function(compute, arrays, tf.float32, stateful=False)
        outputs.set_shape((features.shape[0], layer.units))

        def differentiate(gradients):
            arrays = [features, outputs, gradients * scale]
            if descend:
                found = descend(kernel, arrays)
            else:
                function, types = sparse_products.differentiate, [tf.float32] * 2
                found = tf.numpy_function(function, arrays, types, stateful=False)
            for gradient, source in zip(found, (kernel, bias), strict=True):
                gradient.set_shape(source.shape)
            return None, *found  # as nothing is trained before a network's first layer

        return outputs, differentiate

    features = tf.cast(features, tf.float16)
    return multiply(features, *map(tf.convert_to_tensor, (layer.kernel, layer.bias)))
