"""imgpipe.arrays: block by block, whole or not at all, without growing."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from imgpipe.arrays import blocks, continue_array, open_array, take_rows, write_array


@pytest.mark.parametrize(("count", "size"), [(10, 3), (1, 100), (0, 1), (6, 3)])
def test_blocks_cover_everything_once(count, size):
    cuts = list(blocks(count, size))
    assert [i for cut in cuts for i in range(cut.start, cut.stop)] == list(range(count))
    assert all(cut.stop - cut.start <= size for cut in cuts)


def test_parts_become_one_array(tmp_path):
    array = np.random.default_rng(0).integers(0, 256, (10, 4, 3), dtype=np.uint8)
    write_array(tmp_path / "x.npy", array.shape, np.uint8, [array[:3], array[3:3], array[3:]])
    np.testing.assert_array_equal(np.load(tmp_path / "x.npy"), array)
    np.testing.assert_array_equal(open_array(tmp_path / "x.npy"), array)


def count_resident(path):
    """Count the kilobytes of a file that this process has in memory."""
    _, found = Path("/proc/self/smaps").read_text().split(f"{path}\n")
    return int(found.split("Rss:")[1].split()[0])


@pytest.mark.parametrize("shape", [(300, 40, 30), (5000, 12)], ids=["long rows", "short rows"])
def test_rows_are_taken_in_the_order_asked_for(tmp_path, shape):
    array = np.random.default_rng(0).normal(size=shape)
    write_array(tmp_path / "x.npy", shape, np.float64, [array])
    rows = np.array([7, 299, 0, 7])
    for source in (array, open_array(tmp_path / "x.npy")):
        np.testing.assert_array_equal(take_rows(source, rows), array[rows])
    opened = open_array(tmp_path / "x.npy")
    np.testing.assert_array_equal(take_rows(opened[100:], rows[:1]), array[107:108])
    np.testing.assert_array_equal(take_rows(opened[::-1], rows[:1]), array[::-1][7:8])
    np.save(tmp_path / "columns.npy", np.asfortranarray(array))
    np.testing.assert_array_equal(
        take_rows(open_array(tmp_path / "columns.npy"), rows), array[rows]
    )
    assert take_rows(array, rows[:0]).shape == (0, *shape[1:])


def test_long_rows_that_were_taken_do_not_stay_in_memory(tmp_path):
    array = np.random.default_rng(0).normal(size=(1000, 1024))
    write_array(tmp_path / "x.npy", array.shape, np.float64, [array])
    opened = open_array(tmp_path / "x.npy")
    take_rows(opened, np.arange(1000))
    assert count_resident(tmp_path / "x.npy") < 100
    opened[:500].sum()
    assert count_resident(tmp_path / "x.npy") > 1000  # as it would have been


def test_an_array_that_is_cut_while_it_is_open_is_an_error(tmp_path):
    write_array(tmp_path / "x.npy", (10, 1024), np.float64, [np.ones((10, 1024))])
    opened = open_array(tmp_path / "x.npy")
    os.truncate(tmp_path / "x.npy", 50_000)
    with pytest.raises(ValueError, match=r"is not a whole \.npy file any more"):
        take_rows(opened, np.array([0, 9]))


def test_an_empty_array(tmp_path):
    write_array(tmp_path / "x.npy", (0, 0), np.float16, [])
    assert open_array(tmp_path / "x.npy").shape == (0, 0)


@pytest.mark.parametrize("parts", [[3, 4], [6, 5], [10, 1]])
def test_a_wrong_number_of_rows_leaves_nothing(tmp_path, parts):
    with pytest.raises(ValueError, match=r"x\.npy"):
        write_array(tmp_path / "x.npy", (10, 2), np.uint8, [np.zeros((n, 2)) for n in parts])
    assert not list(tmp_path.iterdir())


def test_missing_and_truncated_files(tmp_path):
    with pytest.raises(FileNotFoundError, match="dvc repro makes it"):
        open_array(tmp_path / "x.npy")
    np.save(tmp_path / "x.npy", np.zeros(1000))
    (tmp_path / "x.npy").write_bytes((tmp_path / "x.npy").read_bytes()[:-1])
    with pytest.raises(ValueError, match=r"x\.npy: is not a whole \.npy file"):
        open_array(tmp_path / "x.npy")


def test_pickles_are_refused(tmp_path):
    np.save(tmp_path / "x.npy", np.array([{}]), allow_pickle=True)
    with pytest.raises(ValueError, match=r"x\.npy: is not a whole"):
        open_array(tmp_path / "x.npy")


def test_memory_does_not_grow_with_the_array(tmp_path):
    """Writing 400 MB in 4 MB parts takes little more memory than writing 40 MB."""
    script = (
        "import resource, sys, numpy as np; from pathlib import Path;"
        "from imgpipe.arrays import write_array;"
        "n = int(sys.argv[1]); part = np.ones((1, 4 << 20), np.uint8);"
        "write_array(Path(sys.argv[2]), (n, 4 << 20), np.uint8, (part for _ in range(n)));"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)"
    )
    peaks = []
    for count in (10, 100):
        command = [sys.executable, "-c", script, str(count), str(tmp_path / "x.npy")]
        peaks.append(int(subprocess.run(command, capture_output=True, check=True).stdout))
    assert peaks[1] < peaks[0] + 20_000  # kilobytes


ROWS = np.arange(40, dtype=np.float16).reshape(10, 4)


def parts_from(done, failing=None):
    """Give ROWS in parts of three from one row on, up to a failure."""
    for start in range(done, 10, 3):
        if start == failing:
            raise InterruptedError
        yield ROWS[start : start + 3]


@pytest.mark.parametrize("garbage", [b"", b"half a part", bytes(500)])
def test_an_array_goes_on_after_its_last_part(tmp_path, garbage):
    """What follows the last part that was noted down may be anything."""
    path = tmp_path / "x.npy"
    for failing in (6, 9):
        with pytest.raises(InterruptedError):
            continue_array(path, (10, 4), np.float16, lambda done, f=failing: parts_from(done, f))
        with path.open("ab") as file:
            file.write(garbage)
    asked = []
    written = continue_array(
        path, (10, 4), np.float16, lambda done: asked.append(done) or parts_from(done)
    )
    assert (asked, written) == ([9], 1)
    np.save(tmp_path / "whole.npy", ROWS)
    assert path.read_bytes() == (tmp_path / "whole.npy").read_bytes()
    assert continue_array(path, (10, 4), np.float16, parts_from) == 0


def test_an_array_without_its_note_begins_anew(tmp_path):
    (tmp_path / "x.npy").write_bytes(b"something")
    assert continue_array(tmp_path / "x.npy", (10, 4), np.float16, parts_from) == 10
    np.testing.assert_array_equal(np.load(tmp_path / "x.npy"), ROWS)


def test_a_note_that_outlived_its_array_vouches_for_nothing(tmp_path):
    """Killed between giving away a whole array and removing its note, then in the next one."""
    path = tmp_path / "x.npy"
    continue_array(path, (10, 4), np.float16, parts_from)
    path.unlink()
    for failing in (0, 6):
        with pytest.raises(InterruptedError):
            continue_array(path, (10, 4), np.float16, lambda done, f=failing: parts_from(done, f))
    continue_array(path, (10, 4), np.float16, parts_from)
    np.testing.assert_array_equal(np.load(path), ROWS)


def test_a_part_too_many_is_refused_when_going_on(tmp_path):
    continue_array(tmp_path / "x.npy", (10, 4), np.float16, parts_from)
    with pytest.raises(ValueError, match=r"x\.npy: a part of shape .* exceeds"):
        continue_array(tmp_path / "x.npy", (10, 4), np.float16, lambda _: [ROWS[:1]])
