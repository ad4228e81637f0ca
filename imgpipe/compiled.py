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


def allocate_aligned(shape: tuple) -> np.ndarray:
    """Allocate a float32 array that TensorFlow takes over without a copy: at a multiple of 64."""
    values = np.empty(prod(shape) + 15, np.float32)
    start = -values.ctypes.data % 64 // 4
    return values[start : start + prod(shape)].reshape(shape)
