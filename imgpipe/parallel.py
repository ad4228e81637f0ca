"""Work on many images, block by block, on all cores."""

from collections.abc import Callable, Iterator

import numpy as np
from joblib import Parallel, delayed
from joblib.externals.loky.process_executor import TerminatedWorkerError

from imgpipe.arrays import blocks
from imgpipe.stage import progress_bar

FEW_IMAGES = 1000  # not worth the second in which workers start
IDLE_SECONDS = 5  # after which workers end; those whose stage was killed, half a minute later


def map_blocks(work: Callable, rows: np.ndarray, description: str) -> Iterator:
    """Call `work` on one block of rows after the other, with a progress bar.

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
    jobs = 1 if len(rows) <= FEW_IMAGES else -1  # all cores that this process may use
    run = Parallel(
        jobs,
        return_as="generator",
        pre_dispatch="2 * n_jobs",
        idle_worker_timeout=IDLE_SECONDS,
    )
    results = run(delayed(work)(part) for part in parts)
    with progress_bar(total=len(rows), unit=" images", desc=description) as bar:
        try:
            for part, result in zip(parts, results, strict=True):
                yield result
                bar.update(len(part))
        except TerminatedWorkerError:
            raise MemoryError from None
