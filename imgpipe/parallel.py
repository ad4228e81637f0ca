"""Work on many images, block by block, on all cores."""

import time
from collections.abc import Callable, Iterator

import numpy as np
from joblib import Parallel, delayed
from joblib.externals.loky.process_executor import TerminatedWorkerError

from imgpipe.arrays import blocks
from imgpipe.stage import progress_bar

_TRIAL_SECONDS = 0.2  # in which this process sees how long all of it takes
_WORTH_SECONDS = 3  # of work, for which the second is spent in which workers start
IDLE_SECONDS = 5  # after which workers end; those whose stage was killed, half a minute later


def map_blocks(work: Callable, rows: np.ndarray, description: str) -> Iterator:
    """Call `work` on one block of rows after the other, with a progress bar.

    Where the first blocks show that all of them take no more than a few seconds, this process does
    the work; otherwise as many workers as there are cores.

    Args:
        work: takes row numbers (n,); it and what it returns must be picklable.
        rows: integers (n,).
        description: of the work, for the progress bar.

    Yields:
        What `work` returns for each block, in the order of the rows. Only a few blocks are
        worked on ahead of the one that is asked for.

    Raises:
        MemoryError: the system has killed a worker, which it does where memory runs out.
    """
    parts = [rows[block] for block in blocks(len(rows))]
    with progress_bar(total=len(rows), unit=" images", desc=description) as bar:
        try:
            for part, result in zip(parts, _work_through(work, parts), strict=True):
                yield result
                bar.update(len(part))
        except TerminatedWorkerError:
            raise MemoryError from None


def _work_through(work: Callable, parts: list[np.ndarray]) -> Iterator:
    done = seconds = 0
    while done < len(parts) and seconds < _TRIAL_SECONDS:
        started = time.perf_counter()
        result = work(parts[done])
        seconds += time.perf_counter() - started
        done += 1
        yield result
    others = parts[done:]
    is_worth_it = others and seconds / done * len(others) > _WORTH_SECONDS
    run = Parallel(
        -1 if is_worth_it else 1,  # -1: all cores that this process may use
        return_as="generator",
        pre_dispatch="2 * n_jobs",
        idle_worker_timeout=IDLE_SECONDS,
    )
    yield from run(delayed(work)(part) for part in others)
