"""imgpipe.idx: the header is believed only if the length agrees."""

import numpy as np
import pytest

from imgpipe.idx import appending_idx, open_idx
from tiny import write_idx


@pytest.mark.parametrize("shape", [(5,), (3, 4, 2)])
def test_reads_what_was_written(tmp_path, shape):
    array = np.arange(np.prod(shape), dtype=np.uint8).reshape(shape)
    write_idx(tmp_path / "x", array)
    read = open_idx(tmp_path / "x")
    np.testing.assert_array_equal(read, array)
    assert read.dtype == np.uint8


@pytest.mark.parametrize("shape", [(5,), (3, 4, 2)])
def test_blocks_give_the_bytes_of_the_whole(tmp_path, shape):
    array = np.arange(np.prod(shape), dtype=np.uint8).reshape(shape)
    write_idx(tmp_path / "whole", array)
    with appending_idx(tmp_path / "blocks") as append:
        for block in (array[:0], array[:1], array[1:1], array[1:]):
            append(block)
    assert (tmp_path / "blocks").read_bytes() == (tmp_path / "whole").read_bytes()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is not an IDX file"),
        (b"\0\0\x08", "is not an IDX file"),
        (b"\0\0\x08\0", "is not an IDX file"),
        (b"\0\0\x0d\x01\0\0\0\x01\0\0\0\0", "is not an IDX file of unsigned bytes"),
        (b"PK\x03\x04....", "is not an IDX file"),
        (b"\0\0\x08\x05" + 5 * b"\0\0\0\1" + b"x", "has 5 dimensions by its IDX header, more"),
        (b"\0\0\x08\xff" + 255 * b"\0\0\0\1" + b"x", "has 255 dimensions by its IDX header"),
        (b"\0\0\x08\x03\0\0", "ends within its IDX header"),
        (b"\0\0\x08\x01\0\0\0\x05abcd", "has 12 bytes where its IDX header"),
        (b"\0\0\x08\x01\0\0\0\x05abcdef", "has 14 bytes where its IDX header"),
        (b"\0\0\x08\x02\xff\xff\xff\xff\xff\xff\xff\xff", "has 12 bytes where"),
        (b"\0\0\x08\x01\0\0\0\0", "holds nothing"),
    ],
)
def test_refuses_what_is_not_whole(tmp_path, content, message):
    (tmp_path / "x").write_bytes(content)
    with pytest.raises(ValueError, match=message):
        open_idx(tmp_path / "x")
