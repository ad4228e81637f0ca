"""imgpipe.direct_convolution: what convolutions of few channels are by definition."""

import numpy as np
import pytest

from convolutions import assert_near, convolve_plainly, differentiate_plainly, draw, draw_gradients
from imgpipe import compiled
from imgpipe.direct_convolution import DirectConvolution, differentiate_kernel
from imgpipe.winograd import Chain


def compute(convolution, images):
    return Chain([convolution]).compute(images, np.copy)


@pytest.mark.parametrize("pools", [False, True])
@pytest.mark.parametrize("padding", [0, 1])
@pytest.mark.parametrize("channels", [1, 3])
def test_it_has_other_biases_at_the_edges(channels, padding, pools):
    images, kernel, biases = draw(2, 6, 9, channels), draw(3, 3, channels, 20), draw(3, 3, 20)
    rows, columns = ([0, *[1] * (size - 4 + 2 * padding), 2] for size in (6, 9))
    bias = biases[np.ix_(rows, columns)]
    expected = convolve_plainly(images, kernel, bias, pools, padding)
    convolution = DirectConvolution(kernel, biases, 6, 9, padding=padding, pools=pools)
    assert_near(compute(convolution, images), expected)


@pytest.mark.parametrize("pools", [False, True])
@pytest.mark.parametrize(
    ("height", "width", "channels", "count"), [(12, 24, 1, 32), (5, 7, 3, 5), (4, 31, 4, 33)]
)
def test_it_is_the_convolution(height, width, channels, count, pools):
    images, kernel, bias = (
        draw(3, height, width, channels),
        draw(3, 3, channels, count),
        draw(count),
    )
    biases = np.tile(bias, (3, 3, 1))
    convolution = DirectConvolution(kernel, biases, height, width, pools=pools)
    assert_near(compute(convolution, images), convolve_plainly(images, kernel, bias, pools))


@pytest.mark.parametrize("pools", [False, True])
def test_what_is_no_number_stays_so(pools):
    images = draw(1, 12, 12, 1)
    images[0, 5, 5, 0] = np.nan
    convolution = DirectConvolution(draw(3, 3, 1, 16), draw(3, 3, 16), 12, 12, pools=pools)
    assert np.isnan(compute(convolution, images)).any()


@pytest.mark.parametrize("pools", [False, True])
@pytest.mark.parametrize("padding", [0, 1])
@pytest.mark.parametrize(
    ("height", "width", "channels", "count"),
    [(4, 4, 2, 1), (9, 14, 20, 18), (6, 31, 6, 16), (9, 14, 3, 18), (6, 31, 1, 32)],
)
def test_gradients_are_those_of_the_convolution(height, width, channels, count, padding, pools):
    images, kernel = draw(5, height, width, channels), draw(3, 3, channels, count)
    shape = 5, height - 2 + 2 * padding, width - 2 + 2 * padding, count
    *arrays, winners, slopes = draw_gradients(*shape, pools=pools)
    _, *expected = differentiate_plainly(images, slopes, kernel, padding)
    found = differentiate_kernel(images, *arrays, kernel, winners, padding=padding)
    for ours, plain in zip(found, expected, strict=True):
        assert_near(ours, plain)


def test_gradients_are_the_same_for_any_number_of_threads(monkeypatch):
    images, kernel = draw(9, 7, 10, 3), draw(3, 3, 3, 18)
    maps, gradients, *_ = draw_gradients(9, 5, 8, 18, pools=False)
    found = []
    for count in (1, 3):
        monkeypatch.setattr(compiled, "count_cores", lambda count=count: count)
        arrays = differentiate_kernel(images, maps, gradients, kernel, padding=0)
        found.append([array.tobytes() for array in arrays])
    assert found[0] == found[1]
