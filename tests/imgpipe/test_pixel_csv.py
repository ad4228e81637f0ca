"""imgpipe.pixel_csv: whole numbers in, arrays out, and nothing else accepted."""

import io

import numpy as np
import pytest

from imgpipe.pixel_csv import parse_pixel_csv

HEADER = "label,pixel1,pixel2,pixel3,pixel4\n"


def parse(text):
    return parse_pixel_csv(io.BytesIO(text.encode()), "a.csv")


def test_rows_become_square_images():
    images, labels = parse(HEADER + "3,0,1,2,255\n0,9,8,7,6\n")
    np.testing.assert_array_equal(images, [[[0, 1], [2, 255]], [[9, 8], [7, 6]]])
    np.testing.assert_array_equal(labels, [3, 0])
    assert images.dtype == labels.dtype == np.uint8


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
    ],
)
def test_anything_else_is_refused(text, reason):
    with pytest.raises(ValueError, match=r"^a\.csv: .*" + reason):
        parse(text)
