"""How much memory a model takes while it answers: large maps mean few inputs at once."""

from math import prod

import keras

_MOST_INPUTS = 1024
_MOST_VALUES = 1 << 26  # of a layer, for all inputs at once: 256 MB in float32


def count_largest_output(model: keras.Model) -> int:
    """Count the values that the largest layer of a model makes of one input."""
    sizes = [0]
    for layer in model.layers:
        # Not `output`, which tells of a layer's first use alone.
        for node in layer._inbound_nodes:
            sizes += [prod(size or 1 for size in tensor.shape) for tensor in node.output_tensors]
        if isinstance(layer, keras.Model):
            sizes.append(count_largest_output(layer))
    return max(sizes)


def choose_input_count(model: keras.Model) -> int:
    """Choose how many inputs go through a model at once, where nothing is learnt from them."""
    return max(1, min(_MOST_INPUTS, _MOST_VALUES // count_largest_output(model)))
