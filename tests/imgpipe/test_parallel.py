"""imgpipe.parallel: every block once, in order, in this process or in others."""

import functools
import os
import signal
import time

import joblib
import numpy as np
import pytest

from imgpipe import parallel
from imgpipe.parallel import map_blocks


def square(rows):
    return rows**2, os.getpid()


@pytest.mark.parametrize("is_worth_it", [False, True])
@pytest.mark.parametrize("count", [0, 1, 1700])
def test_blocks_come_back_in_order(monkeypatch, count, is_worth_it):
    monkeypatch.setattr(parallel, "_TRIAL_SECONDS", 1e-9)
    monkeypatch.setattr(parallel, "_WORTH_SECONDS", 0 if is_worth_it else 60)
    rows = np.random.default_rng(0).permutation(count)
    results = list(map_blocks(square, rows, "squares"))
    assert np.array_equal(np.concatenate([rows[:0], *(r for r, _ in results)]), rows**2)
    elsewhere = {pid for _, pid in results} - {os.getpid()}
    assert bool(elsewhere) == (is_worth_it and count > 256 and joblib.cpu_count() > 1)


@pytest.mark.skipif(joblib.cpu_count() == 1, reason="needs two cores")
def test_workers_wait_for_who_takes_their_results(monkeypatch, tmp_path):
    monkeypatch.setattr(parallel, "_TRIAL_SECONDS", 1e-9)
    monkeypatch.setattr(parallel, "_WORTH_SECONDS", 0)
    results = map_blocks(functools.partial(leave_trace, tmp_path), np.arange(100), "traces", 1)
    next(results), next(results)
    time.sleep(0.5)
    assert len(list(tmp_path.iterdir())) <= 4 + 2 * joblib.cpu_count()
    assert len(list(results)) == 98
    assert len(list(tmp_path.iterdir())) == 100


def leave_trace(folder, rows):
    (folder / str(rows[0])).touch()


def fail(here, rows):
    if os.getpid() != here:
        raise ZeroDivisionError


def die(here, rows):
    if os.getpid() != here:
        os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.skipif(joblib.cpu_count() == 1, reason="needs two cores")
@pytest.mark.parametrize(("work", "error"), [(fail, ZeroDivisionError), (die, MemoryError)])
def test_what_happens_to_a_worker_is_told_here(monkeypatch, work, error):
    """One that the system kills is told as want of memory."""
    monkeypatch.setattr(parallel, "_TRIAL_SECONDS", 1e-9)
    monkeypatch.setattr(parallel, "_WORTH_SECONDS", 0)
    with pytest.raises(error):
        list(map_blocks(functools.partial(work, os.getpid()), np.arange(1700), "errors"))
