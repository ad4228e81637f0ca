"""Dropout on a processor, with random numbers that take little time."""

import numpy as np

from imgpipe.compiled import allocate_aligned, compile_function

_HALF_WORDS = 2**16  # random numbers of 16 bits, four from a word
_WORDS = 256  # that are drawn at once
_WORD = np.uint64


def drop_out(values: np.ndarray, seed: np.ndarray, rate: float) -> np.ndarray:
    """Set a share of the values to 0, and scale the others so that their mean is kept.

    The gradient by the values is what the same call makes of the gradient by the result.

    Args:
        values: float32, of any shape.
        seed: uint32 (2,); another one drops others.
        rate: the share, above 0 and below 1, of which multiples of 1/65536 are drawn.

    Returns:
        float32, in the shape of `values`.
    """
    dropped = min(max(round(rate * _HALF_WORDS), 1), _HALF_WORDS - 1)
    scale = np.float32(_HALF_WORDS / (_HALF_WORDS - dropped))
    outputs = allocate_aligned(values.shape)
    high, low = (_WORD(part) for part in seed)
    seed = high << _WORD(32) | low
    _drop_out(values.reshape(-1), seed, np.uint16(dropped), scale, outputs.reshape(-1))
    return outputs


@compile_function
def _drop_out(values, seed, dropped, scale, outputs):
    """Draw words from SplitMix64, whose n-th one is a function of n and the seed.

    Source: Steele, Lea & Flood 2014, "Fast splittable pseudorandom number generators".
    """
    words = np.empty(_WORDS, np.uint64)
    halves = words.view(np.uint16)
    state = seed
    for first in range(0, len(values), len(halves)):
        for number in range(len(words)):
            state += _WORD(0x9E3779B97F4A7C15)
            word = (state ^ (state >> _WORD(30))) * _WORD(0xBF58476D1CE4E5B9)
            word = (word ^ (word >> _WORD(27))) * _WORD(0x94D049BB133111EB)
            words[number] = word ^ (word >> _WORD(31))
        part = values[first : first + len(halves)]
        target = outputs[first : first + len(halves)]
        for k in range(len(part)):
            value = part[k] * scale
            target[k] = value if halves[k] >= dropped else np.float32(0)
