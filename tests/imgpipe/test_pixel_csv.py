"""imgpipe.pixel_csv: whole numbers in, arrays out, and nothing else accepted."""

import io
import warnings

import numpy as np
import pytest

from imgpipe import pixel_csv
from imgpipe.pixel_csv import parse_pixel_csv

HEADER = "label,pixel1,pixel2,pixel3,pixel4\n"


def parse(text):
    images, labels = zip(*parse_pixel_csv(io.BytesIO(text.encode()), "a.csv"), strict=True)
    return np.concatenate(images), np.concatenate(labels)


def test_rows_become_square_images():
    images, labels = parse(HEADER + "3,0,1,2,255\n0,9,8,7,6\n")
    np.testing.assert_array_equal(images, [[[0, 1], [2, 255]], [[9, 8], [7, 6]]])
    np.testing.assert_array_equal(labels, [3, 0])
    assert images.dtype == labels.dtype == np.uint8


def test_whole_numbers_as_other_programs_write_them():
    images, labels = parse(HEADER + '1.0,"2",1e2,+4, 5\n')
    np.testing.assert_array_equal(images, [[[2, 100], [4, 5]]])
    assert labels == [1]


def test_many_lines_and_a_byte_order_mark():
    lines = "".join(f"{n % 10},{n % 256},1,2,3\n" for n in range(5001))
    images, labels = parse("\ufeff" + HEADER + lines)
    assert images.shape == (5001, 2, 2)
    assert labels[5000] == 0 and images[4999, 0, 0] == 4999 % 256


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "No columns"),
        (HEADER, "holds no images"),
        (HEADER + "\n\n", "holds no images"),
        ("a,b\n1,2\n", "its header begins with a,b"),
        ("label,pixel1,pixel2\n0,1,2\n", "2 pixels make no square image"),
        (HEADER + "1,2,3,4\n", ""),
        (HEADER + "1,2,3,4,5,6\n", ""),
        (HEADER + "1,2,3,4,5\n1,2,3,4,5,6\n", ""),
        (HEADER + "1,2,3,4,256\n", "256 is not in 0 to 255"),
        (HEADER + "1,2,-3,4,5\n", "-3 is not in 0 to 255"),
        (HEADER + "1,2,x,4,5\n", ""),
        (HEADER + "1,2,3.5,4,5\n", ""),
        (HEADER + "1,2,NaN,4,5\n", ""),
        (HEADER + "1,2,99999999999999999999,4,5\n", ""),
        (HEADER + f"1,2,{'9' * 5000},4,5\n", ""),
        (HEADER + "1,2,,4,5\n", ""),
        (HEADER + "1,2,1e400,4,5\n", ""),
        (HEADER + "1,2,-1e400,4,5\n", ""),
        (HEADER + "1,2,1e30,4,5\n", ""),
        (HEADER + "1,2,True,4,5\n", "'T' is no part of a number"),
        (HEADER + "1,2,1e3,4,5\n", "1000 is not in 0 to 255"),
        (HEADER + "1,2,1e-3,4,5\n", ""),
        (HEADER + "1,2,0x10,4,5\n", ""),
        (HEADER + '1,2,"3\n1,2",4,5\n', ""),
        (HEADER + '1,2,"3,4,5\n1,2,3,4,5\n', ""),
        (HEADER + "1,2,\0,4,5\n", ""),
        ("\0" + HEADER + "1,2,3,4,5\n", "its header begins with"),
        ("x" * 5000 + ",y\n1,2\n", "its header begins with x"),
    ],
)
def test_anything_else_is_refused(text, reason):
    with (
        warnings.catch_warnings(record=True) as printed,
        pytest.raises(ValueError, match=r"^a\.csv: .*" + reason) as caught,
    ):
        parse(text)
    assert not printed
    assert str(caught.value).isprintable() and len(str(caught.value)) < 400


@pytest.mark.parametrize("count", [1, 200_000])
def test_lines_that_end_with_cr_alone_are_told_as_such(count):
    """Whatever ends at LF or CRLF reads all of them as one line, of any length."""
    text = HEADER + "1,2,3,4,5\n" * count
    assert len(parse(text.replace("\n", "\r\n"))[1]) == count
    with pytest.raises(ValueError, match=r"end with CR alone; save it with LF or CRLF line ends"):
        parse(text.replace("\n", "\r"))


class Endless(io.RawIOBase):
    """A file of one line without end."""

    def __init__(self, start):
        self.start, self.given = start, 0

    def readable(self):
        return True

    def readinto(self, buffer):
        content = (self.start or b"1,")[: len(buffer)].ljust(len(buffer), b"1")
        self.start, self.given = self.start[len(buffer) :], self.given + len(buffer)
        assert self.given < 8 << 20
        buffer[:] = content
        return len(buffer)


@pytest.mark.parametrize("start", [b"label,pixel", HEADER.encode() + b"1,2,3,4,5\n1,"])
def test_a_line_without_end_is_refused_unread(start):
    with pytest.raises(ValueError, match=r"a\.csv: .*a line is longer than 1,048,576 bytes"):
        list(parse_pixel_csv(io.BufferedReader(Endless(start)), "a.csv"))


def test_blocks_of_lines_join_without_a_seam(monkeypatch):
    lines = [f"{n % 10},{n % 256},1,2,3\n" for n in range(50)]
    whole = parse(HEADER + "".join(lines))
    monkeypatch.setattr(pixel_csv, "_BLOCK", 40)
    for parts, expected in zip(parse("\ufeff" + HEADER + "".join(lines)), whole, strict=True):
        np.testing.assert_array_equal(parts, expected)
