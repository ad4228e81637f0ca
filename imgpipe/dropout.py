"""Dropout on a processor, with random numbers that take little time."""

import numpy as np

from imgpipe.compiled import allocate_aligned, compile_function

_HALF_WORDS = 2**16  # random numbers of 16 bits, four from a word
_WORDS = 256  # that are drawn at once
_WORD = np.uint64
_NO_PIXEL = np.uint8(4)
_NO_WINNERS = np.empty(0, np.uint8)


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
    outputs = allocate_aligned(values.shape)
    _call(values.reshape(-1), _NO_WINNERS, seed, rate, outputs.reshape(-1))
    return outputs


def drop_in_place(
    values: np.ndarray, seed: np.ndarray, rate: float, winners: np.ndarray | None = None
) -> None:
    """Do to values what `drop_out` does, where they are.

    Args:
        values: float32, contiguous.
        seed: as of `drop_out`.
        rate: likewise.
        winners: uint8, as of `winograd.convolve_and_pool`, if the values are such maps. Where one
            is dropped, no pixel has won.
    """
    flat = values.reshape(-1)
    _call(flat, _NO_WINNERS if winners is None else winners.reshape(-1), seed, rate, flat)


def find_scale(rate: float) -> float:
    """Return what the values that are kept are multiplied by."""
    return _HALF_WORDS / (_HALF_WORDS - _count_dropped(rate))


def _count_dropped(rate: float) -> int:
    """Return how many of the _HALF_WORDS drop a value."""
    return min(max(round(rate * _HALF_WORDS), 1), _HALF_WORDS - 1)


def _call(values, winners, seed, rate: float, outputs) -> None:
    dropped, scale = np.uint16(_count_dropped(rate)), np.float32(find_scale(rate))
    high, low = (_WORD(part) for part in seed)
    # In one thread: others take as long to wake up.
    _drop_out(values, winners, high << _WORD(32) | low, dropped, scale, outputs)


@compile_function
def _drop_out(values, winners, seed, dropped, scale, outputs):
    """Draw words from SplitMix64, whose n-th one is a function of n and the seed.

    Source: Steele, Lea & Flood 2014, "Fast splittable pseudorandom number generators".
    """
    words = np.empty(_WORDS, np.uint64)
    halves = words.view(np.uint16)
    kept = np.empty(len(halves), np.float32)  # as compilers want it, who fear that arrays overlap
    state = seed
    for first in range(0, len(values), len(halves)):
        for number in range(len(words)):
            state += _WORD(0x9E3779B97F4A7C15)
            word = (state ^ (state >> _WORD(30))) * _WORD(0xBF58476D1CE4E5B9)
            word = (word ^ (word >> _WORD(27))) * _WORD(0x94D049BB133111EB)
            words[number] = word ^ (word >> _WORD(31))
        part = slice(first, first + len(halves))
        source, target, pixels = values[part], outputs[part], winners[part]
        for k in range(len(source)):
            value = source[k] * scale
            kept[k] = value if halves[k] >= dropped else np.float32(0)
        for k in range(len(target)):
            target[k] = kept[k]
        for k in range(len(pixels)):
            pixels[k] = pixels[k] if halves[k] >= dropped else _NO_PIXEL
