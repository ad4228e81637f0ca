"""imgpipe.parallel: every block once, in order, in this process or in others."""

import os
import signal

import joblib
import numpy as np
import pytest

from imgpipe.parallel import FEW_IMAGES, map_blocks


def square(rows):
    return rows**2, os.getpid()


@pytest.mark.parametrize("count", [0, 1, 700, FEW_IMAGES + 700])
def test_blocks_come_back_in_order(count):
    rows = np.random.default_rng(0).permutation(count)
    results = list(map_blocks(square, rows, "squares"))
    assert np.array_equal(np.concatenate([rows[:0], *(r for r, _ in results)]), rows**2)
    elsewhere = {pid for _, pid in results} - {os.getpid()}
    assert bool(elsewhere) == (count > FEW_IMAGES and joblib.cpu_count() > 1)


def test_an_error_in_a_worker_arrives():
    with pytest.raises(ZeroDivisionError):
        list(map_blocks(lambda rows: 1 // 0, np.arange(FEW_IMAGES + 1), "errors"))


def die(rows):
    os.kill(os.getpid(), signal.SIGKILL)


def test_a_worker_that_the_system_kills_is_told_as_want_of_memory():
    with pytest.raises(MemoryError):
        list(map_blocks(die, np.arange(FEW_IMAGES + 1), "killed"))
