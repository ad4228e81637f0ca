"""Having Python functions compiled, and arrays that their results go into."""

from collections.abc import Callable
from math import prod

import numpy as np
from numba import njit

# A product and the sum it goes into may be rounded once; all else is computed as it is written.
OPTIONS = {"nogil": True, "fastmath": {"contract"}}


def compile_function(function: Callable) -> Callable:
    """Have a function compiled at its first call, and the result kept where that can be.

    What is kept is used until the function's own file changes. Of other files it must therefore
    call nothing that is compiled into it.
    """
    try:
        return njit(function, cache=True, **OPTIONS)
    except RuntimeError:  # neither its folder nor the user's own can be written
        return njit(function, **OPTIONS)


def allocate_aligned(shape: tuple, dtype: type = np.float32) -> np.ndarray:
    """Allocate an array that TensorFlow takes over without a copy: at a multiple of 64."""
    size = prod(shape) * np.dtype(dtype).itemsize
    values = np.empty(size + 63, np.uint8)
    start = -values.ctypes.data % 64
    return values[start : start + size].view(dtype).reshape(shape)
