"""Having Python functions compiled, threads to run them, and arrays that their results go into."""

import contextlib
import ctypes
import hashlib
import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cache
from math import prod
from pathlib import Path

import joblib
import numpy as np
from llvmlite import ir
from numba import config, njit
from numba.core import cgutils
from numba.core.caching import InTreeCacheLocator

# A product and the sum it goes into may be rounded once; all else is computed as it is written, and
# what is divided by zero as numpy does: to look for it is slow.
OPTIONS = {"nogil": True, "fastmath": {"contract"}, "error_model": "numpy"}
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

    def get_source_stamp(self) -> bytes:
        """Return what changes with the function's file and this one, which it may call."""
        return hashlib.sha256(super().get_source_stamp() + Path(__file__).read_bytes()).digest()

    def get_disambiguator(self) -> str:
        """Return what stands in a file's name after the function's."""
        return f"{super().get_disambiguator()}-{self.get_source_stamp().hex()[:16]}"


# The user's own choice goes first, the user's own folder last: where nothing else can be written.
_LOCATORS = (
    f"UserProvidedCacheLocator,{__name__}.{ProjectCacheLocator.__name__},UserWideCacheLocator"
)


def compile_function(function: Callable) -> Callable:
    """Have a function compiled at its first call, and the result kept where that can be.

    What is kept is used until the function's own file changes, or this one. Of others it must
    therefore call nothing that is compiled into it.
    """
    others = config.CACHE_LOCATOR_CLASSES
    config.CACHE_LOCATOR_CLASSES = others or _LOCATORS
    try:
        return njit(function, cache=True, **OPTIONS)
    except RuntimeError:  # neither its folder nor the user's own can be written
        return njit(function, **OPTIONS)
    finally:
        config.CACHE_LOCATOR_CLASSES = others


# Compilers do not find by themselves how to keep in registers what innermost loops work on. Some
# functions are therefore not computed but written down, in LLVM's language, with these.


def find_place(builder: ir.IRBuilder, array, places: tuple, kind: ir.Type) -> ir.Value:
    """Return the pointer to an element of an array, or to a vector that begins there.

    Args:
        builder: of the function.
        array: of numba.
        places: of the element, for each axis.
        kind: of what is there.
    """
    place = builder.ptrtoint(array.data, ir.IntType(64))
    for step, count in zip(cgutils.unpack_tuple(builder, array.strides), places, strict=True):
        place = builder.add(place, builder.mul(count, step))  # a step is in bytes
    return builder.inttoptr(place, kind.as_pointer())


def declare_sum_of_product(builder: ir.IRBuilder, kind: ir.Type) -> ir.Function:
    """Return the function from x, y and z to x * y + z, for numbers or vectors."""
    name = f"v{kind.count}f32" if isinstance(kind, ir.VectorType) else "f32"
    signature = ir.FunctionType(kind, [kind] * 3)
    return cgutils.get_or_insert_function(builder.module, signature, f"llvm.fmuladd.{name}")


def spread(builder: ir.IRBuilder, number: ir.Value, kind: ir.VectorType) -> ir.Value:
    """Return a vector of one number."""
    first_lane = ir.Constant(ir.IntType(32), 0)
    all_lanes = ir.Constant(ir.VectorType(ir.IntType(32), kind.count), None)  # are lane 0
    vector = builder.insert_element(ir.Constant(kind, None), number, first_lane)
    return builder.shuffle_vector(vector, vector, all_lanes)


class _Threads:
    """Threads, each of which does one thing at a time."""

    def __init__(self, count: int):
        self._pools = [ThreadPoolExecutor(1) for _ in range(count)]
        self._names = [pool.submit(threading.get_native_id).result() for pool in self._pools]

    def start(self, work: Callable, arguments: Sequence) -> list[Future]:
        """Have each thread call a function with one of as many arguments."""
        self._leave_processor()
        pairs = zip(self._pools, arguments, strict=True)
        return [pool.submit(work, argument) for pool, argument in pairs]

    def _leave_processor(self) -> None:
        """Keep the threads off the processor that this one runs on, where Linux is.

        It may wake a thread on the processor of the one that wakes it, in virtual machines even
        where another one is idle, and have it wait there for milliseconds.
        """
        if not hasattr(os, "sched_setaffinity"):
            return
        with contextlib.suppress(OSError):  # where it is not allowed
            others = os.sched_getaffinity(0) - {ctypes.pythonapi.sched_getcpu()}
            for name in self._names if others else ():
                os.sched_setaffinity(name, others)


@cache  # to start them takes as long as some convolutions
def _start_threads(count: int) -> _Threads:
    return _Threads(count)


def work_at_once(work: Callable, arguments: Sequence) -> None:
    """Call a function with each of some arguments at once, with the first one in this thread.

    It begins there while the other threads still wake up.
    """
    first, *others = arguments
    calls = _start_threads(len(others)).start(work, others)
    work(first)
    for call in calls:
        call.result()


@cache  # to find out takes a sixteenth of a millisecond, and several of those in a step
def count_cores() -> int:
    """Return how many cores this process may use."""
    return joblib.cpu_count()


def work_on_parts(work: Callable[[int, int, int], None], count: int, parts: int = PARTS) -> None:
    """Have all cores work on parts of something.

    Args:
        work: takes the part's number, below `parts`, the first thing in it, and the one after it.
        count: of things.
        parts: as many, of about the same size.
    """
    numbers = iter(range(parts))  # which several threads can take from

    def take(_: int) -> None:
        for part in numbers:
            work(part, count * part // parts, count * (part + 1) // parts)

    work_at_once(take, range(min(count_cores(), parts)))


def allocate_aligned(shape: tuple, dtype: type = np.float32) -> np.ndarray:
    """Allocate an array that TensorFlow takes over without a copy: at a multiple of 64."""
    size = prod(shape) * np.dtype(dtype).itemsize
    memory = np.empty(size + 63, np.uint8)
    start = -memory.ctypes.data % 64
    return memory[start : start + size].view(dtype).reshape(shape)
