"""imgpipe.winograd: what convolutions are by definition, whatever the sizes, threads and batches."""

import importlib.util
import os
import subprocess
import sys

import numpy as np
import pytest
from numba import config

from convolutions import assert_near, convolve_plainly, differentiate_plainly, draw, draw_gradients
from imgpipe import compiled, winograd
from imgpipe.direct_convolution import DirectConvolution
from imgpipe.winograd import (
    LANES,
    Chain,
    TiledConvolution,
    choose_tile,
    convolve,
    convolve_and_pool,
    differentiate_convolution,
)
from tiny import ROOT

SCRIPT = """
import hashlib
import sys

sys.path[:0] = ["tests/imgpipe", "tests/support"]
from imgpipe import compiled, winograd
from test_winograd import compute_chain, draw

print(hashlib.sha256(compute_chain(draw(3, 20, 26, 3))).hexdigest())
print(len(winograd._convolve_tiles.stats.cache_hits))
"""


def compute(convolutions, images):
    return Chain(convolutions).compute(images, np.copy)


def compute_chain(images):
    """Compute what a small network with two poolings makes of images of 20 × 26."""
    kernel = draw(3, 3, images.shape[-1], 8)
    return compute(
        [
            DirectConvolution(kernel, draw(3, 3, 8), 20, 26),
            TiledConvolution(draw(3, 3, 8, 12), draw(12), 20, 26, pools=True),
            TiledConvolution(draw(3, 3, 12, 20), draw(20), 10, 13, pools=False),
            TiledConvolution(draw(3, 3, 20, 16), draw(16), 10, 13, pools=False),
            TiledConvolution(draw(3, 3, 16, 40), draw(40), 10, 13, pools=True),
        ],
        images,
    )


@pytest.mark.parametrize("pools", [False, True])
@pytest.mark.parametrize("tile", [4, 6])
@pytest.mark.parametrize(
    ("height", "width", "channels", "count"),
    [
        (12, 24, 16, 16),
        (13, 30, 64, 32),
        (5, 7, 3, 5),
        (2, 2, 4, 130),
        (19, 3, 1, 1),
        (2, 41, 7, 17),
    ],
)
def test_it_is_the_convolution(height, width, channels, count, tile, pools):
    images, kernel, bias = (
        draw(3, height, width, channels),
        draw(3, 3, channels, count),
        draw(count),
    )
    convolution = TiledConvolution(kernel, bias, height, width, pools=pools, tile=tile)
    assert_near(compute([convolution], images), convolve_plainly(images, kernel, bias, pools))


@pytest.mark.parametrize("tile", [4, 6])
def test_a_map_of_one_pixel(tile):
    images, kernel, bias = draw(2, 1, 1, 4), draw(3, 3, 4, 16), draw(16)
    convolution = TiledConvolution(kernel, bias, 1, 1, pools=False, tile=tile)
    assert_near(compute([convolution], images), convolve_plainly(images, kernel, bias))


@pytest.mark.parametrize("padding", [0, 1])
@pytest.mark.parametrize("pools", [False, True])
@pytest.mark.parametrize("tile", [1, 4, 6])  # 1: the direct convolution
def test_nothing_is_written_but_the_rows_asked_for(tile, pools, padding):
    images, kernel, bias = draw(2, 12, 16, 5), draw(3, 3, 5, 19), draw(19)
    options = {"padding": padding, "pools": pools}
    if tile == 1:
        convolution = DirectConvolution(kernel, np.tile(bias, (3, 3, 1)), 12, 16, **options)
    else:
        convolution = TiledConvolution(kernel, bias, 12, 16, **options, tile=tile)
    before = images.copy()
    outputs = np.full((2, *convolution.output_shape), np.nan, np.float32)
    buffer = np.full(convolution.buffer_size + 100, np.nan, np.float32)
    buffer[-100:] = 7
    rows = 2 * convolution.image_rows
    for start in range(1, rows - 1, convolution.chunk_rows):
        chunk = slice(start, min(start + convolution.chunk_rows, rows - 1))
        winners = np.empty((*outputs.shape[:3], 0), np.uint8)
        convolution.convolve_rows(images, chunk, buffer, outputs, winners)
    assert (buffer[-100:] == 7).all()
    np.testing.assert_array_equal(images, before)
    expected = convolve_plainly(images, kernel, bias, pools, padding)
    size = max(2, tile) // (2 if pools else 1)  # rows of outputs in one of convolve_rows
    first, last = size, (convolution.image_rows - 1) * size
    assert np.isnan(outputs[0, :first]).all()
    assert np.isnan(outputs[1, last:]).all()
    assert_near(outputs[0, first:], expected[0, first:])
    assert_near(outputs[1, :last], expected[1, :last])


@pytest.mark.parametrize("padding", [0, 1])
@pytest.mark.parametrize(("height", "width"), [(3, 3), (6, 10), (11, 8), (27, 26)])
def test_a_convolution_by_itself(height, width, padding):
    images, kernel, bias = draw(5, height, width, 18), draw(3, 3, 18, 33), draw(33)
    images.flags.writeable = False
    maps = convolve(images, kernel, bias, padding=padding)
    assert_near(maps, convolve_plainly(images, kernel, bias, padding=padding))


@pytest.mark.parametrize("padding", [0, 1])
@pytest.mark.parametrize(
    ("height", "width", "channels", "count"),
    [(4, 4, 2, 1), (9, 14, 20, 18), (8, 27, 1, 32), (13, 6, 6, 16)],
)
def test_pooling_tells_which_pixel_it_took(height, width, channels, count, padding):
    images, kernel, bias = (
        draw(30, height, width, channels),
        draw(3, 3, channels, count),
        draw(count),
    )
    maps, winners = convolve_and_pool(images, kernel, bias, padding=padding)
    assert_near(maps, convolve_plainly(images, kernel, bias, pools=True, padding=padding))
    whole = convolve_plainly(images, kernel, bias, padding=padding)
    rows, columns = maps.shape[1:3]
    for y, x in np.ndindex(2, 2):
        pixels = whole[:, y : 2 * rows : 2, x : 2 * columns : 2]
        chosen = winners == 2 * y + x
        assert_near(maps[chosen], pixels[chosen])
    np.testing.assert_array_equal(winners == 4, maps == 0)
    assert set(np.unique(winners)) == set(range(5))


@pytest.mark.parametrize("pools", [False, True])
@pytest.mark.parametrize("padding", [0, 1])
@pytest.mark.parametrize(
    ("height", "width", "channels", "count"), [(4, 4, 2, 1), (9, 14, 20, 18), (6, 31, 6, 16)]
)
def test_gradients_are_those_of_the_convolution(height, width, channels, count, padding, pools):
    images, kernel = draw(5, height, width, channels), draw(3, 3, channels, count)
    shape = 5, height - 2 + 2 * padding, width - 2 + 2 * padding, count
    *arrays, winners, slopes = draw_gradients(*shape, pools=pools)
    expected = differentiate_plainly(images, slopes, kernel, padding)
    found = differentiate_convolution(images, *arrays, kernel, winners, padding=padding)
    for ours, plain in zip(found, expected, strict=True):
        assert_near(ours, plain)


def test_a_chain_is_its_convolutions_one_after_the_other():
    images = draw(3, 20, 26, 3)
    images.flags.writeable = False
    place = np.ix_([0, *[1] * 18, 2], [0, *[1] * 24, 2])
    maps = convolve_plainly(images, draw(3, 3, 3, 8), draw(3, 3, 8)[place])
    for channels, count, pools in (
        (8, 12, True),
        (12, 20, False),
        (20, 16, False),
        (16, 40, True),
    ):
        maps = convolve_plainly(maps, draw(3, 3, channels, count), draw(count), pools)
    assert_near(compute_chain(images), maps)


def test_an_image_has_the_same_bytes_alone_and_among_others(monkeypatch):
    images = draw(7, 20, 26, 3)
    together = compute_chain(images)
    for number in (0, 6):
        assert (compute_chain(images[number : number + 1])[0] == together[number]).all()
    monkeypatch.setattr(winograd, "_BLOCK_PIXELS", 600)  # one or two images in a part
    monkeypatch.setattr(winograd, "_CHUNK_TILES", 7)
    np.testing.assert_array_equal(compute_chain(images), together)


def test_a_chain_can_be_used_again_with_more_and_fewer_images():
    kernel, bias = draw(3, 3, 4, 8), draw(8)
    chain = Chain([TiledConvolution(kernel, bias, 7, 7, pools=False)])
    for count in (2, 5, 1):
        images = draw(count, 7, 7, 4, seed=count)
        assert_near(chain.compute(images, np.copy), convolve_plainly(images, kernel, bias))


def test_maps_of_another_size_are_refused():
    first = TiledConvolution(draw(3, 3, 4, 8), draw(8), 7, 9, pools=True)
    for channels, height, width in ((4, 3, 4), (8, 4, 4), (8, 3, 5)):
        after = TiledConvolution(draw(3, 3, channels, 8), draw(8), height, width, pools=False)
        with pytest.raises(ValueError, match=r"cannot follow one that gives \(3, 4, 8\)"):
            Chain([first, after])
    with pytest.raises(ValueError, match=r"images of \(7, 8, 4\) cannot go into"):
        compute([first], draw(1, 7, 8, 4))


def test_what_is_no_number_stays_so():
    images = draw(1, 12, 12, 4)
    images[0, 5, 5, 0] = np.nan
    for pools in (False, True):
        convolution = TiledConvolution(draw(3, 3, 4, 16), draw(16), 12, 12, pools=pools)
        assert np.isnan(compute([convolution], images)).any()


def test_the_tile_of_fewer_multiplications():
    assert [choose_tile(size, size) for size in (2, 4, 8, 18, 37, 75, 150)] == [4] * 3 + [6] * 4
    assert LANES % 8 == 0


def test_processes_and_numbers_of_threads_give_the_same_bytes_and_compile_once():
    compute_chain(draw(3, 20, 26, 3))  # compiles, if nothing has before
    printed = set()
    for threads in ("1", "3"):
        environment = os.environ | {"LOKY_MAX_CPU_COUNT": threads, "OMP_NUM_THREADS": threads}
        command = [sys.executable, "-c", SCRIPT]
        result = subprocess.run(
            command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True
        )
        printed.add(result.stdout)
    (output,) = printed
    assert output.endswith("\n1\n")


def test_it_runs_where_compiled_code_cannot_be_kept(monkeypatch):
    monkeypatch.setattr(config, "CACHE_LOCATOR_CLASSES", "IPythonCacheLocator")  # finds no place
    assert compiled.compile_function(lambda x: x + 1)(2) == 3


def test_an_experiment_keeps_compiled_code_where_it_was_started_from(monkeypatch, tmp_path):
    """So that those after it, in folders of their own, take it over unless their code differs."""
    monkeypatch.setenv("DVC_ROOT", str(tmp_path / "project"))
    hits = []
    for number, line in enumerate(("x + 1", "x + 1", "x + 2")):
        file = tmp_path / f"experiment-{number}/code.py"
        file.parent.mkdir()
        file.write_text(f"def add(x):\n    return {line}\n")
        spec = importlib.util.spec_from_file_location("code", file)
        code = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(code)
        add = compiled.compile_function(code.add)
        assert add(2) == eval(line, {"x": 2})
        hits.append(len(add.stats.cache_hits))
        assert list(file.parent.iterdir()) == [file]
    assert hits == [0, 1, 0]
    assert len(list((tmp_path / "project/imgpipe/__pycache__").glob("*.nbi"))) == 2


@pytest.mark.parametrize("padding", [0, 1])
def test_gradients_are_the_same_for_any_number_of_threads(monkeypatch, padding):
    images, kernel = draw(9, 7, 10, 20), draw(3, 3, 20, 18)
    maps, gradients = (draw(9, 5 + 2 * padding, 8 + 2 * padding, 18, seed=n) for n in (1, 2))
    found = []
    for count in (1, 3):
        monkeypatch.setattr(winograd, "count_cores", lambda count=count: count)
        arrays = differentiate_convolution(images, maps, gradients, kernel, padding=padding)
        found.append([array.tobytes() for array in arrays])
    assert found[0] == found[1]
