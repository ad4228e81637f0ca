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
    convolutions = [x for x in model.layers if isinstance(x, keras.layers.Conv2D)]
    if not convolutions:
        return {}
    outputs = keras.Model(model.inputs, [layer.output for layer in convolutions])
    maps = outputs([image[np.newaxis]], training=False)
    maps = maps if isinstance(maps, list) else [maps]
    return {
        layer.name: np.asarray(keras.ops.cast(m[0], "float32"))
        for layer, m in zip(convolutions, maps, strict=True)
    }
