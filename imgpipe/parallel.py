"""Work on many images, block by block, on all cores."""

import time
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any

import joblib
import numpy as np
from joblib.externals.loky import get_reusable_executor
from joblib.externals.loky.process_executor import TerminatedWorkerError

from imgpipe.arrays import BLOCK_IMAGES, blocks
from imgpipe.stage import progress_bar

_FIRST_ROWS = 4  # of a first block; each has twice as many as the one before it
_TRIAL_SECONDS = 0.2  # in which this process sees how long all of it takes
_BLOCK_SECONDS = 0.25  # that a block may take a worker: so long the end of a failing stage waits
_WORTH_SECONDS = 3  # of work, for which the second is spent in which workers start
IDLE_SECONDS = 5  # after which workers end; those whose stage was killed, half a minute later
_ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")  # in a worker


def map_blocks(
    work: Callable, rows: np.ndarray, description: str, size: int = BLOCK_IMAGES
) -> Iterator:
    """Call `work` on one block of rows after the other, with a progress bar.

    Where the first blocks, which are small, show that all of them take no more than a few seconds,
    this process does the work; otherwise as many workers as there are cores.

    Args:
        work: takes row numbers (n,); it and what it returns must be picklable.
        rows: integers (n,).
        description: of the work, for the progress bar.
        size: of a block, at most.

    Yields:
        What `work` returns for each block, in the order of the rows. However slowly it is taken,
        only a few blocks are worked on ahead, so that memory does not grow with their number.

    Raises:
        MemoryError: the system has killed a worker, which it does where memory runs out.
    """
    with progress_bar(total=len(rows), unit=" images", desc=description) as bar:
        try:
            for count, result in _work_through(work, rows, size):
                yield result
                bar.update(count)
        except TerminatedWorkerError:
            raise MemoryError from None


def _work_through(work: Callable, rows: np.ndarray, size: int) -> Iterator[tuple[int, Any]]:
    """Yield the lengths of blocks, and what `work` returns for them."""
    done = seconds = each = 0
    count = min(size, _FIRST_ROWS)
    while done < len(rows) and seconds < _TRIAL_SECONDS:
        part = rows[done : done + count]
        started = time.perf_counter()
        result = work(part)
        each = (time.perf_counter() - started) / len(part)
        if done:  # the first one may have to read what the others find, as the table of places
            seconds += each * len(part)
            count = min(size, 2 * count)
        done += len(part)
        yield len(part), result
    others = rows[done:]
    run = map
    if each * len(others) > _WORTH_SECONDS and joblib.cpu_count() > 1:
        run, size = _share, max(1, min(size, int(_BLOCK_SECONDS / each)))
    parts = [others[block] for block in blocks(len(others), size)]
    yield from zip(map(len, parts), run(work, parts), strict=True)


def _share(work: Callable, parts: list[np.ndarray]) -> Iterator:
    """Have workers do the work. (joblib.Parallel does not wait for who takes its results.)"""
    count = joblib.cpu_count()
    executor = get_reusable_executor(count, timeout=IDLE_SECONDS, env=_ONE_THREAD)
    waiting = deque()
    try:
        for part in parts:
            waiting.append(executor.submit(work, part))
            if len(waiting) > 2 * count:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        for future in waiting:  # which nobody wants any more; those at work end soon
            future.cancel()
