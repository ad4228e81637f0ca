"""Having Python functions compiled, threads to run them, and arrays that their results go into."""

import os
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from math import prod

import joblib
import numpy as np
from numba import config, njit
from numba.core.caching import InTreeCacheLocator

# A product and the sum it goes into may be rounded once; all else is computed as it is written.
OPTIONS = {"nogil": True, "fastmath": {"contract"}}
PARTS = 4  # of a batch: as many on any machine, so that what is added up of them is rounded alike


class ProjectCacheLocator(InTreeCacheLocator):
    """Has numba keep what it compiles beside the code, as it does by itself.

    An experiment in a temporary folder keeps it in the project that it was started from
    (DVC_ROOT): the next one then need not compile it anew, for a quarter of a minute or more. As
    their code may differ, the files' names tell the code.
    """

    def __init__(self, function: Callable, file: str):
        super().__init__(function, file)
        if root := os.environ.get("DVC_ROOT"):
            self._cache_path = os.path.join(root, "imgpipe", "__pycache__")  # noqa: PTH118

    def get_disambiguator(self) -> str:
        """Return what stands in a file's name after the function's."""
        return f"{super().get_disambiguator()}-{self.get_source_stamp().hex()[:16]}"


# The user's own choice goes first, the user's own folder last: where nothing else can be written.
_LOCATORS = (
    f"UserProvidedCacheLocator,{__name__}.{ProjectCacheLocator.__name__},UserWideCacheLocator"
)


def compile_function(function: Callable) -> Callable:
    """Have a function compiled at its first call, and the result kept where that can be.

    What is kept is used until the function's own file changes. Of other files it must therefore
    call nothing that is compiled into it.
    """
    others = config.CACHE_LOCATOR_CLASSES
    config.CACHE_LOCATOR_CLASSES = others or _LOCATORS
    try:
        return njit(function, cache=True, **OPTIONS)
    except RuntimeError:  # neither its folder nor the user's own can be written
        return njit(function, **OPTIONS)
    finally:
        config.CACHE_LOCATOR_CLASSES = others


@cache  # to start them takes as long as some convolutions
def start_threads(count: int) -> ThreadPoolExecutor:
    """Start threads, or return those of an earlier call."""
    return ThreadPoolExecutor(count)


def work_on_parts(work: Callable[[int, int, int], None], count: int) -> None:
    """Have all cores work on parts of something.

    Args:
        work: takes the part's number, below PARTS, the first thing in it, and the one after it.
        count: of things.
    """

    def work_on_part(part: int) -> None:
        work(part, count * part // PARTS, count * (part + 1) // PARTS)

    list(start_threads(min(joblib.cpu_count(), PARTS)).map(work_on_part, range(PARTS)))


def allocate_aligned(shape: tuple, dtype: type = np.float32) -> np.ndarray:
    """Allocate an array that TensorFlow takes over without a copy: at a multiple of 64."""
    size = prod(shape) * np.dtype(dtype).itemsize
    return _align(np.empty(size + 63, np.uint8), shape, dtype)


def _align(memory: np.ndarray, shape: tuple, dtype: type) -> np.ndarray:
    start = -memory.ctypes.data % 64
    size = prod(shape) * np.dtype(dtype).itemsize
    return memory[start : start + size].view(dtype).reshape(shape)


class ReusedArray:
    """An array that is handed out again once nobody holds it any more.

    Memory of many megabytes that is allocated anew in each step, by threads in turn, stays theirs
    when it is given back: the process grows with every epoch.

    Args:
        shape: of the array, float32.
    """

    def __init__(self, shape: tuple):
        self._shape = shape
        self._owner = allocate_aligned(shape).base

    def take(self) -> np.ndarray:
        """Return the array, as it was left, or another one while it is in use."""
        holders = sys.getrefcount(self._owner) - 1  # but for this very call
        if holders > 1:  # an array, or a part of it, that was handed out
            self._owner = allocate_aligned(self._shape).base
        return _align(self._owner, self._shape, np.float32)
