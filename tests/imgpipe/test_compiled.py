"""imgpipe.compiled: what compiled functions are called with."""

import os

import pytest

from imgpipe.compiled import work_at_once, work_on_parts

linux_with_two = pytest.mark.skipif(
    not hasattr(os, "sched_getaffinity") or len(os.sched_getaffinity(0)) < 2,
    reason="needs two processors on Linux",
)


@pytest.mark.parametrize(("count", "parts"), [(10, 4), (3, 4), (1, 1), (100, 8)])
def test_all_is_worked_on_once(count, parts):
    done = []
    work_on_parts(lambda part, first, stop: done.append((part, range(first, stop))), count, parts)
    assert [part for part, _ in sorted(done, key=lambda one: one[0])] == list(range(parts))
    assert sorted(n for _, some in done for n in some) == list(range(count))


def test_what_goes_wrong_in_any_thread_is_raised():
    for wrong in range(3):

        def work(number, wrong=wrong):
            if number == wrong:
                raise ValueError(number)

        with pytest.raises(ValueError, match=str(wrong)):
            work_at_once(work, range(3))


@linux_with_two
def test_the_other_threads_stay_off_this_ones_processor():
    before, seen = os.sched_getaffinity(0), {}
    work_at_once(lambda number: seen.update({number: os.sched_getaffinity(0)}), range(3))
    assert seen[0] == before == os.sched_getaffinity(0)
    assert len(seen[1]) == len(seen[2]) == len(before) - 1
