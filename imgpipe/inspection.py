"""Looking into a Keras model: its arithmetic, its activations, what its predictions rest on."""

from math import prod

import keras
import numpy as np
import tensorflow as tf

from imgpipe.arrays import blocks
from imgpipe.footprint import choose_input_count
from imgpipe.stage import progress_bar
from imgpipe.trained import TrainedModel


def measure_cost(trained: TrainedModel) -> dict[str, int | str]:
    """Tell what a trained model costs, its backbone included.

    Returns:
        parameters, multiply_adds (of one image), and for a model with a backbone the precision
        in which it computes, feature_precision.
    """
    parts = [part for part in (trained.backbone, trained.model) if part is not None]
    cost = {
        "parameters": sum(part.count_params() for part in parts),
        "multiply_adds": sum(map(count_multiply_adds, parts)),
    }
    backbone = trained.contract.backbone
    return cost | ({"feature_precision": backbone.precision} if backbone else {})


def count_multiply_adds(model: keras.Model) -> int:
    """Count the multiply-adds of one forward pass of one input.

    Only two-dimensional convolutions and dense layers count; biases, activations, normalisation
    and pooling, which are a few per cent, do not.
    """
    total = 0
    for layer in model.layers:
        if isinstance(layer, keras.layers.Conv2D):
            total += prod(layer.output.shape[1:]) * prod(layer.kernel.shape[:3])
        elif isinstance(layer, keras.layers.DepthwiseConv2D):
            total += prod(layer.output.shape[1:]) * prod(layer.kernel.shape[:2])
        elif isinstance(layer, keras.layers.Dense):
            total += prod(layer.kernel.shape)
    return total


def compute_activation_maps(model: keras.Model, image: np.ndarray) -> dict[str, np.ndarray]:
    """Compute what each convolution layer makes of one image.

    Args:
        model: takes images.
        image: uint8 (height, width, channels).

    Returns:
        Layer name to float32 (map height, map width, map channels), in the order of the layers;
        nothing for a model without convolutions.
    """
    convolutions = _find_convolutions(model)
    if not convolutions:
        return {}
    outputs = keras.Model(model.inputs, [layer.output for layer in convolutions])
    maps = outputs([image[np.newaxis]], training=False)
    maps = maps if isinstance(maps, list) else [maps]
    return {
        layer.name: np.asarray(keras.ops.cast(m[0], "float32"))
        for layer, m in zip(convolutions, maps, strict=True)
    }


def compute_penultimate(model: keras.Model, inputs: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Compute what a model's last layer gets: its own description of each input.

    Args:
        model: as a TrainedModel holds it.
        inputs: images or features, whichever it takes; may be a memory map.
        rows: integers (m,), which of them.

    Returns:
        float16 (m, dimensions).
    """
    below = keras.Model(model.inputs, model.layers[-1].input)
    vectors = np.empty((len(rows), prod(below.output.shape[1:])), np.float16)
    parts = list(blocks(len(rows), choose_input_count(model)))
    for block in progress_bar(parts, unit=" batches", desc="penultimate layer"):
        batch = below.predict_on_batch(inputs[rows[block]])
        vectors[block] = batch.reshape(len(batch), -1)
    return vectors


def compute_class_activation(
    trained: TrainedModel, images: np.ndarray, labels: np.ndarray
) -> np.ndarray:
    """Compute where in each image the model sees a class (Grad-CAM).

    The maps are those of the last layer that still has a height and a width, after the last
    convolution and its pooling; for a model with a backbone they are the backbone's.

    Args:
        trained: the model.
        images: uint8 (n, height, width, channels), in the contract's size and channels.
        labels: integers (n,), the class of each image that is looked for.

    Returns:
        float32 (n, map height, map width), from 0 to 1, the strongest place of each image; all 0
        where nothing speaks for the class. (n, 0, 0) for a model without convolutions.

    Source: Selvaraju et al. 2017, "Grad-CAM: Visual Explanations from Deep Networks via
    Gradient-based Localization", eq. 1 and 2.
    """
    network = trained.backbone or trained.model
    layer = _find_last_maps(network)
    if layer is None:
        return np.zeros((len(images), 0, 0), np.float32)
    with tf.GradientTape(watch_accessed_variables=False) as tape:
        # From here on it is recorded what is computed; frozen layers are not by themselves.
        tape.watch(_find_convolutions(network)[-1].kernel.value)
        maps, values = _run_layers(network, images, layer)
        if trained.backbone:
            features = trained.backbone.layers[-1](values)
            _, values = _run_layers(trained.model, features, None)
        scores = _compute_scores(trained.model.layers[-1], values)
        chosen = tf.gather(scores, labels, batch_dims=1)
    gradients = tf.cast(tape.gradient(chosen, maps), tf.float32)
    weights = tf.reduce_mean(gradients, axis=(1, 2), keepdims=True)
    heat = tf.nn.relu(tf.reduce_sum(weights * tf.cast(maps, tf.float32), axis=-1)).numpy()
    return heat / np.maximum(heat.max(axis=(1, 2), keepdims=True), np.finfo(np.float32).tiny)


def _find_convolutions(model: keras.Model) -> list[keras.layers.Layer]:
    return [layer for layer in model.layers if isinstance(layer, keras.layers.Conv2D)]


def _find_last_maps(network: keras.Model) -> keras.layers.Layer | None:
    """Find the last layer, from the last convolution on, whose output has height and width."""
    convolutions = _find_convolutions(network)
    if not convolutions:
        return None
    layers = network.layers[network.layers.index(convolutions[-1]) :]
    maps = [x for x in layers if len(x.output.shape) == 4 and prod(x.output.shape[1:3]) > 1]
    return (maps or convolutions)[-1]


def _run_layers(model: keras.Model, inputs, layer: keras.layers.Layer | None) -> tuple:
    """Run all layers of a model but its last.

    Returns:
        The output of `layer` (None for no layer), and what the last layer gets.
    """
    if isinstance(model, keras.Sequential):  # whose layers do not know their one graph
        output, x = None, tf.constant(inputs) if isinstance(inputs, np.ndarray) else inputs
        for each in model.layers[:-1]:
            x = each(x, training=False)
            output = x if each is layer else output
        return output, x
    tensors = [layer.output] if layer else []
    outputs = keras.Model(model.input, [*tensors, model.layers[-1].input])(inputs, training=False)
    return (outputs[0] if layer else None), outputs[-1]


def _compute_scores(last: keras.layers.Layer, values) -> tf.Tensor:
    """Compute a model's outputs before their softmax, which flattens a sure one's gradients.

    Args:
        last: the layer that ends in probabilities.
        values: what it gets, float (n, dimensions).

    Returns:
        float32 (n, classes).
    """
    values = tf.cast(values, tf.float32)
    if isinstance(last, keras.layers.Dense):
        return tf.matmul(values, last.kernel.value) + last.bias
    return values
