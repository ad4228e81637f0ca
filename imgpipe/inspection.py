"""Looking into a Keras model: its arithmetic and its activation maps."""

from math import prod

import keras
import numpy as np

from imgpipe.trained import TrainedModel


def measure_cost(trained: TrainedModel) -> dict[str, int | str]:
    """Tell what a trained model costs, its backbone included.

    Returns:
        parameters, multiply_adds (of one image), and for a model with a backbone the precision
        in which it computes, feature_precision.
    """
    contract = trained.contract
    image_shape = (*contract.image_size, contract.channels)
    if contract.backbone is None:
        return {
            "parameters": trained.model.count_params(),
            "multiply_adds": count_multiply_adds(trained.model, image_shape),
        }
    head, backbone = trained.model, trained.backbone
    return {
        "parameters": backbone.count_params() + head.count_params(),
        "multiply_adds": count_multiply_adds(backbone, image_shape)
        + count_multiply_adds(head, head.input_shape[1:]),
        "feature_precision": contract.backbone.precision,
    }


def count_multiply_adds(model: keras.Model, input_shape: tuple) -> int:
    """Count the multiply-adds of one forward pass of one input.

    Only convolutions and dense layers count; biases, activations, normalisation and pooling,
    which are a few per cent, do not.

    Args:
        model: a model whose layers follow one another.
        input_shape: of one input, such as (28, 28, 1).

    Returns:
        The number for one input.
    """
    total = 0
    for layer, output_shape in _walk(model, input_shape):
        if isinstance(layer, keras.layers.Conv2D):
            total += prod(output_shape) * prod(layer.kernel.shape[:3])
        elif isinstance(layer, keras.layers.Dense):
            total += prod(layer.kernel.shape)
    return total


def compute_activation_maps(model: keras.Model, image: np.ndarray) -> dict[str, np.ndarray]:
    """Compute what each convolution layer makes of one image.

    Args:
        model: takes images.
        image: uint8 (height, width, channels).

    Returns:
        Layer name to float32 (map height, map width, map channels), in the order of the layers.
    """
    convolutions = [x for x in model.layers if isinstance(x, keras.layers.Conv2D)]
    outputs = keras.Model(model.inputs, [layer.output for layer in convolutions])
    maps = outputs([image[np.newaxis]], training=False)
    maps = maps if isinstance(maps, list) else [maps]
    return {
        layer.name: np.asarray(keras.ops.cast(m[0], "float32"))
        for layer, m in zip(convolutions, maps, strict=True)
    }


def _walk(model: keras.Model, input_shape: tuple):
    """Yield each layer with the shape of its output for one input of `input_shape`."""
    shape = input_shape
    for layer in model.layers:
        if isinstance(layer, keras.layers.InputLayer):
            continue
        if isinstance(layer, keras.layers.Concatenate):
            shape = (*shape[:-1], shape[-1] * len(layer.input))
        elif type(layer).__name__ != "GetItem":
            shape = layer.compute_output_shape((1, *shape))[1:]
        yield layer, shape
