"""Chains of 3×3 convolutions, on a processor and with a fraction of the multiplications.

For tiles of m × m outputs a convolution becomes (m + 2)^2 products of matrices between two
transforms. A pair of channels then takes 64 multiplications for 36 outputs (m = 6), or 36 for 16
(m = 4), instead of 9 for each. What the transforms cost matters little where channels are many.
The sums are those of each tile alone: an image's results are the same bytes in any batch and on
any number of threads.

Source: Lavin & Gray 2016, "Fast Algorithms for Convolutional Neural Networks", arXiv 1509.09308;
with the points 0, 1, -1, 2, -2 and infinity for m = 4, and 1/2 and -1/2 as well for m = 6.
"""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import pairwise
from math import prod

import joblib
import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic

from imgpipe.arrays import blocks

TILES = (4, 6)  # m
LANES = 16  # output channels that are computed at once, as many as a processor's registers take
_ROWS = 6  # tiles that are: with 12 registers of 8 sums or 6 of 16
_CHUNK_TILES = 64  # that a thread works on at once, or one row of them if that is more
_CHUNK_ROWS = 64  # of pixels, likewise, in a DirectConvolution
_BLOCK_PIXELS = 8_500  # of maps that pass through a block together
_KERNEL_TILES = 3  # of an image, which take as long as its share of reading the kernel
_PARTS = 4  # of a batch, whose gradients are added up in one order
_GRADIENT_TILES = 36  # that a thread works on at once where it differentiates
_MOST_THREADS = 16  # there are hardly chunks for more
_F, _ZERO = np.float32, np.float32(0)
_GAP = 16  # numbers between matrices, whose equal places would fall on one line of the cache

# For each point p: 1, p and p^2, divided by the product of p's distances from the other points.
_KERNEL_TRANSFORMS = {
    4: np.array(
        [
            [1 / 4, 0, 0],
            [-1 / 6, -1 / 6, -1 / 6],
            [-1 / 6, 1 / 6, -1 / 6],
            [1 / 24, 2 / 24, 4 / 24],
            [1 / 24, -2 / 24, 4 / 24],
            [0, 0, 1],
        ]
    ),
    6: np.array(
        [
            [1, 0, 0],
            [-2 / 9, -2 / 9, -2 / 9],
            [-2 / 9, 2 / 9, -2 / 9],
            [1 / 90, 2 / 90, 4 / 90],
            [1 / 90, -2 / 90, 4 / 90],
            [32 / 45, 16 / 45, 8 / 45],
            [32 / 45, -16 / 45, 8 / 45],
            [0, 0, 1],
        ]
    ),
}


def transform_kernel(kernel: np.ndarray, tile: int) -> np.ndarray:
    """Transform a kernel for tiles of one size.

    Args:
        kernel: float32 (3, 3, channels in, channels out).
        tile: 4 or 6.

    Returns:
        float32 ((tile + 2)^2, panels, channels in, LANES), computed in float64: the channels out
        are cut into panels, of which the last one is filled up with zeros.
    """
    transform = _KERNEL_TRANSFORMS[tile]
    _, _, channels, outputs = kernel.shape
    panels = _divide_up(outputs, LANES)
    transformed = np.zeros((len(transform) ** 2, panels, channels, LANES))
    _transform_kernel(np.ascontiguousarray(kernel), transform, transformed)
    return transformed.astype(np.float32)


def _cut_into_panels(kernel: np.ndarray) -> np.ndarray:
    """Cut a kernel's channels out into panels, the last one filled up with zeros.

    Returns:
        (panels, 3, 3, channels in, LANES).
    """
    missing = -kernel.shape[-1] % LANES
    filled = np.pad(kernel, [(0, 0), (0, 0), (0, 0), (0, missing)])
    return np.moveaxis(filled.reshape(*kernel.shape[:3], -1, LANES), 3, 0)


def choose_tile(height: int, width: int) -> int:
    """Choose the tile that is faster on maps of this size.

    That is the one with fewer multiplications, tiles that reach beyond the maps counted whole.
    Where tiles are few, the smaller one's kernels also take less time to read, and less memory.
    """
    return min(
        TILES,
        key=lambda m: (m + 2) ** 2 * (_divide_up(height, m) * _divide_up(width, m) + _KERNEL_TILES),
    )


def _allocate_array(shape: tuple) -> np.ndarray:
    return np.empty(shape, np.float32)


def allocate_maps(
    count: int,
    height: int,
    width: int,
    channels: int,
    allocate: Callable[[tuple], np.ndarray] = _allocate_array,
) -> np.ndarray:
    """Allocate maps in the layout that convolutions read and write here.

    Args:
        count: of maps.
        height: of each.
        width: likewise.
        channels: likewise.
        allocate: takes a shape to a float32 array.

    Returns:
        float32 (count, rows, columns, channels). The map itself is at [1 : height + 1,
        1 : width + 1], with whatever was there; in a border of 1 around it, and in the room for
        incomplete tiles, all is 0.
    """
    rows, columns = (max(m * _divide_up(size, m) for m in TILES) + 2 for size in (height, width))
    maps = allocate((count, rows, columns, channels))
    maps[:, 0] = maps[:, height + 1 :] = 0
    maps[:, :, 0] = maps[:, :, width + 1 :] = 0
    return maps


def _divide_up(size: int, part: int) -> int:
    return -(-size // part)


class DirectConvolution:
    """A 3×3 convolution of few channels with zero padding and ReLU, computed as it is defined.

    Args:
        kernel: float32 (3, 3, channels in, channels out).
        biases: float32 (3, 3, channels out), for outputs in the first, any other and the last
            row, and likewise column.
        height: of the maps, 2 or more.
        width: likewise.
    """

    pools = False

    def __init__(self, kernel: np.ndarray, biases: np.ndarray, height: int, width: int):
        channels, outputs = kernel.shape[2:]
        self.input_shape = height, width, channels
        self.output_shape = height, width, outputs
        panels = _cut_into_panels(kernel)
        self._kernel = np.ascontiguousarray(panels.reshape(-1, 9 * channels, LANES), np.float32)
        self.buffer_size = _divide_up(width, _ROWS) * _ROWS * (9 * channels + len(panels) * LANES)
        self._biases = np.ascontiguousarray(biases, np.float32)

    def apply(self, maps: np.ndarray, outputs: np.ndarray, share: Callable) -> None:
        """Convolve `maps` into `outputs`, both in the layout of allocate_maps.

        `share` is called with a function, a number of rows, and how many rows at most that
        function takes at once: as a slice, with a float32 buffer of `buffer_size` or more.
        """
        height, width, _ = self.output_shape

        def work(chunk: slice, buffer: np.ndarray) -> None:
            _convolve_directly(
                maps,
                self._kernel,
                self._biases,
                height,
                width,
                chunk.start,
                chunk.stop,
                buffer,
                outputs,
            )

        share(work, len(maps) * height, _CHUNK_ROWS)


class TiledConvolution:
    """A 3×3 convolution with zero padding, bias and ReLU, then perhaps 2×2 maximum pooling.

    Args:
        kernel: float32 (3, 3, channels in, channels out).
        bias: float32 (channels out,).
        height: of the maps that go in.
        width: likewise.
        pools: whether pooling follows, which leaves out an odd last row or column.
        tile: 4 or 6; None for the faster one.
    """

    def __init__(
        self,
        kernel: np.ndarray,
        bias: np.ndarray,
        height: int,
        width: int,
        *,
        pools: bool,
        tile: int | None = None,
    ):
        channels, outputs = kernel.shape[2:]
        self.pools = pools
        step = 2 if pools else 1
        self.input_shape = height, width, channels
        self.output_shape = height // step, width // step, outputs
        self._tile = tile or choose_tile(height, width)
        self._kernel = transform_kernel(kernel, self._tile)
        self._bias = np.ascontiguousarray(bias, np.float32)
        # A chunk is some rows of tiles.
        row_tiles = _divide_up(width, self._tile)
        outputs = _divide_up(outputs, LANES) * LANES
        self._chunk_rows = max(1, _CHUNK_TILES // row_tiles)
        n, tiles = self._tile + 2, _divide_up(self._chunk_rows * row_tiles, _ROWS) * _ROWS
        self.buffer_size = (
            n * ((row_tiles * self._tile + 2) * channels + _GAP)
            + n**2 * (tiles * (channels + outputs) + 2 * _GAP)
            + (n + self._tile) * self._tile * outputs
        )

    def apply(self, maps: np.ndarray, outputs: np.ndarray, share: Callable) -> None:
        """Convolve `maps` into `outputs`, both in the layout of allocate_maps.

        `share` is called with a function, a number of rows, and how many rows at most that
        function takes at once: as a slice, with a float32 buffer of `buffer_size` or more.
        """
        height, width, _ = self.input_shape

        def work(chunk: slice, buffer: np.ndarray) -> None:
            _convolve_tiles(
                maps,
                self._kernel,
                self._bias,
                height,
                width,
                self._tile,
                self.pools,
                chunk.start,
                chunk.stop,
                buffer,
                outputs,
            )

        share(work, len(maps) * _divide_up(height, self._tile), self._chunk_rows)


class Chain:
    """Convolutions that follow one another, on all cores.

    It keeps its memory from one call to the next, and so serves one caller at a time.

    Args:
        convolutions: each for maps as the one before it gives them.

    Raises:
        ValueError: one of them is for other maps. The compiled code does not notice.
    """

    def __init__(self, convolutions: list[DirectConvolution | TiledConvolution]):
        for before, after in pairwise(convolutions):
            if before.output_shape != after.input_shape:
                raise ValueError(
                    f"a convolution of {after.input_shape} cannot follow one that gives "
                    f"{before.output_shape}"
                )
        ends = {n for n, convolution in enumerate(convolutions, 1) if convolution.pools}
        cuts = pairwise(sorted({0, *ends, len(convolutions)}))
        self._blocks = [convolutions[start:stop] for start, stop in cuts]
        self._maps: dict[tuple, np.ndarray] = {}
        size = max(convolution.buffer_size for convolution in convolutions)
        threads = min(joblib.cpu_count(), _MOST_THREADS)
        self._buffers = [np.empty(size, np.float32) for _ in range(threads)]

    def compute(self, images: np.ndarray, reduce: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
        """Send images through the chain.

        Args:
            images: float32 (n, height, width, channels), n 1 or more; left unchanged.
            reduce: takes the last maps of some of the images, float32 (m, height, width,
                channels), to an array (m, ...); the maps are gone once it has returned.

        Returns:
            What `reduce` gave, for all images.

        Raises:
            ValueError: the images are not what the first convolution is for.
        """
        if images.shape[1:] != self._blocks[0][0].input_shape:
            raise ValueError(
                f"images of {images.shape[1:]} cannot go into a convolution of "
                f"{self._blocks[0][0].input_shape}"
            )
        height, width, _ = shape = self._blocks[-1][-1].output_shape
        reduced = []
        with ThreadPoolExecutor(len(self._buffers)) as threads:
            share = partial(self._share, threads)
            for part in self._cut(self._blocks[-1], len(images)):
                outputs = self._allocate(("outputs",), part.stop - part.start, shape)
                self._run(len(self._blocks), images[part], outputs, share)
                reduced.append(reduce(outputs[:, 1 : height + 1, 1 : width + 1]))
        return np.concatenate(reduced)

    def _run(self, depth: int, images: np.ndarray, outputs: np.ndarray, share: Callable) -> None:
        """Send images through the first blocks, in parts that suit the last one of these."""
        block = self._blocks[depth - 1]
        for part in self._cut(block, len(images)):
            count = part.stop - part.start
            if depth == 1:
                _, height, width, _ = images.shape
                maps = self._allocate(("inputs", depth), count, images.shape[1:])
                maps[:, 1 : height + 1, 1 : width + 1] = images[part]
            else:
                shape = self._blocks[depth - 2][-1].output_shape
                maps = self._allocate(("inputs", depth), count, shape)
                self._run(depth - 1, images[part], maps, share)
            for number, convolution in enumerate(block, 1):
                if number == len(block):
                    target = outputs[part]
                else:  # in one of two places, while `maps` are in the other
                    place = "between", number % 2
                    target = self._allocate(place, count, convolution.output_shape)
                convolution.apply(maps, target, share)
                maps = target

    def _cut(self, block: list, count: int) -> Iterator[slice]:
        """Cut `count` images so that a block's maps stay near the processor between its layers."""
        height, width, _ = block[0].output_shape
        parts = _divide_up(count, _divide_up(_BLOCK_PIXELS, height * width))
        return blocks(count, _divide_up(count, parts))

    def _allocate(self, place: tuple, count: int, shape: tuple[int, int, int]) -> np.ndarray:
        """Allocate maps where earlier ones of the same place were."""

        def allocate(shape: tuple) -> np.ndarray:
            if len(self._maps.get(place, ())) < prod(shape):
                self._maps[place] = np.empty(prod(shape), np.float32)
            return self._maps[place][: prod(shape)].reshape(shape)

        return allocate_maps(count, *shape, allocate)

    def _share(
        self,
        threads: ThreadPoolExecutor,
        work: Callable[[slice, np.ndarray], None],
        rows: int,
        most: int,
    ) -> None:
        """Do `work` on rows in chunks of at most `most`, each thread with a buffer of its own."""
        count = len(self._buffers)
        size = _divide_up(rows, count * _divide_up(rows, count * most))  # none shall wait long
        chunks = iter(list(blocks(rows, size)))  # of a list, which several threads can take from

        def take(buffer: np.ndarray) -> None:
            for chunk in chunks:
                work(chunk, buffer)

        list(threads.map(take, self._buffers))


def differentiate_convolution(
    images: np.ndarray,
    maps: np.ndarray,
    gradients: np.ndarray,
    kernel: np.ndarray,
    *,
    padding: int,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Compute the gradients of a loss by what makes the maps of a 3x3 convolution with ReLU.

    The forward algorithm of tiles of 4 x 4 outputs is differentiated, so that both products take
    as few multiplications as it does.

    Args:
        images: float32 (n, height, width, channels), which went in.
        maps: float32 (n, height - 2 + 2 padding, width - 2 + 2 padding, channels out), which came
            out, after bias and ReLU.
        gradients: of the loss by the maps, likewise.
        kernel: float32 (3, 3, channels, channels out).
        padding: zeros around the images, 0 ("valid") or 1 ("same").

    Returns:
        The loss's gradients by the images, the kernel and the bias, float32, in their shapes. They
        are the same to the bit for any number of threads.
    """
    count, _, _, channels = images.shape
    _, rows, columns, outputs = maps.shape
    backward = transform_kernel(kernel.transpose(0, 1, 3, 2), 4)
    filled = _divide_up(channels, _ROWS) * _ROWS, _divide_up(outputs, LANES) * LANES
    image_gradients = _allocate_aligned(images.shape)
    kernel_sums = np.empty((_PARTS, 36, *filled), np.float32)
    bias_sums = np.empty((_PARTS, outputs), np.float32)
    chunk = max(1, _GRADIENT_TILES // (_divide_up(rows, 4) * _divide_up(columns, 4)))
    tiles = chunk * _divide_up(rows, 4) * _divide_up(columns, 4)
    tiles = _divide_up(tiles, _ROWS) * _ROWS
    widest = max(backward.shape[1] * LANES, filled[1])
    size = (
        2 * 6 * (_divide_up(columns, 4) * 4 + 2) * channels
        + 36 * (tiles * (channels + filled[1] + backward.shape[1] * LANES) + 3 * _GAP)
        + 2 * 6 * 6 * widest
    )

    def work(part: int) -> None:
        _differentiate_tiles(
            images,
            maps,
            gradients,
            backward,
            padding,
            chunk,
            count * part // _PARTS,
            count * (part + 1) // _PARTS,
            np.empty(size, np.float32),
            image_gradients,
            kernel_sums[part],
            bias_sums[part],
        )

    with ThreadPoolExecutor(min(joblib.cpu_count(), _PARTS)) as threads:
        list(threads.map(work, range(_PARTS)))
    kernel_gradients = np.empty(kernel.shape, np.float32)
    _transform_sums(kernel_sums, _KERNEL_TRANSFORMS[4], kernel_gradients)
    return image_gradients, kernel_gradients, bias_sums.sum(axis=0)


def _allocate_aligned(shape: tuple) -> np.ndarray:
    """Allocate a float32 array that TensorFlow takes over without a copy: at a multiple of 64."""
    values = np.empty(prod(shape) + 15, np.float32)
    start = -values.ctypes.data % 64 // 4
    return values[start : start + prod(shape)].reshape(shape)


# A product and the sum it goes into may be rounded once; all else is computed as it is written.
_OPTIONS = {"nogil": True, "fastmath": {"contract"}}
_inline = njit(**_OPTIONS)


def _compile(function: Callable) -> Callable:
    """Have a function compiled at its first call, and the result kept where that can be."""
    try:
        return njit(function, cache=True, **_OPTIONS)
    except RuntimeError:  # neither this folder nor the user's own can be written
        return njit(function, **_OPTIONS)


@_compile
def _convolve_directly(maps, kernel, biases, height, width, first, stop, buffer, outputs):
    """Convolve the rows from `first` to `stop` of all rows of the maps, and apply ReLU."""
    panels, depth, _ = kernel.shape
    filled_width = (width + _ROWS - 1) // _ROWS * _ROWS
    # Parts of the buffer, one after the other.
    patches, buffer = _split(buffer, filled_width, depth)
    products, buffer = _split(buffer, filled_width, panels * LANES)
    for row in range(first, stop):
        image, y = divmod(row, height)
        for x in range(width):
            for i in range(3):
                near = maps[image, y + i, x : x + 3].reshape(depth // 3)
                for k in range(len(near)):
                    patches[x, i * len(near) + k] = near[k]
        _multiply_panels(patches, kernel, products)
        place = _find_edge(y, height)
        for x in range(width):
            bias = biases[place, _find_edge(x, width)]
            values = outputs[image, y + 1, x + 1]
            for k in range(len(bias)):
                values[k] = _rectify(products[x, k] + bias[k])


@_compile
def _convolve_tiles(maps, kernel, bias, height, width, tile, pools, first, stop, buffer, outputs):
    """Convolve the rows of tiles from `first` to `stop` of all such rows of the maps."""
    points, panels, channels, _ = kernel.shape
    count = panels * LANES  # of channels out, those that fill up the last panel included
    n = tile + 2
    rows_of_tiles = (height + tile - 1) // tile
    row_tiles = (width + tile - 1) // tile
    tiles = (stop - first) * row_tiles
    filled_tiles = (tiles + _ROWS - 1) // _ROWS * _ROWS
    # Parts of the buffer, one after the other.
    length = (row_tiles * tile + 2) * channels
    rows, buffer = _split(buffer, n, length + _GAP)
    inputs, buffer = _split(buffer, points, filled_tiles * channels + _GAP)
    products, buffer = _split(buffer, points, filled_tiles * count + _GAP)
    halves, buffer = _split(buffer, n, tile * count)
    results, buffer = _split(buffer, tile, tile * count)

    for t in range(0, tiles, row_tiles):
        image, y = divmod(first + t // row_tiles, rows_of_tiles)
        source = maps[image, y * tile : y * tile + n]
        _transform_inputs(tile, source.reshape(n, -1)[:, :length], rows)
        for x in range(row_tiles):
            for a in range(n):
                start = x * tile * channels
                part = rows[a, start : start + n * channels].reshape(n, channels)
                place = (t + x) * channels
                _transform_inputs(tile, part, inputs[a * n : a * n + n, place : place + channels])

    for point in range(points):
        left = inputs[point, : filled_tiles * channels].reshape(filled_tiles, channels)
        target = products[point, : filled_tiles * count].reshape(filled_tiles, count)
        _multiply_panels(left, kernel[point], target)

    for t in range(tiles):
        row, x = divmod(t, row_tiles)
        image, y = divmod(first + row, rows_of_tiles)
        place = t * count
        for a in range(n):
            part = products[a * n : a * n + n, place : place + count]
            _transform_products(tile, part, halves[a].reshape(tile, count))
        for b in range(tile):
            part = slice(b * count, (b + 1) * count)
            _transform_products(tile, halves[:, part], results[:, part])
        used_rows = min(tile, height - y * tile)
        used_columns = min(tile, width - x * tile)
        grid = results.reshape(tile, tile, count)
        if pools:
            for i in range(used_rows // 2):
                for j in range(used_columns // 2):
                    values = outputs[image, (y * tile) // 2 + i + 1, (x * tile) // 2 + j + 1]
                    square = grid[2 * i : 2 * i + 2, 2 * j : 2 * j + 2]
                    for k in range(len(bias)):
                        top = _larger(square[0, 0, k], square[0, 1, k])
                        bottom = _larger(square[1, 0, k], square[1, 1, k])
                        values[k] = _rectify(_larger(top, bottom) + bias[k])
        else:
            for i in range(used_rows):
                for j in range(used_columns):
                    values = outputs[image, y * tile + i + 1, x * tile + j + 1]
                    for k in range(len(bias)):
                        values[k] = _rectify(grid[i, j, k] + bias[k])


@_inline
def _find_edge(place, size):
    """Return 0 for the first of some places, 2 for the last, 1 for any other."""
    return 0 if place == 0 else 2 if place == size - 1 else 1


@_inline
def _multiply_panels(left, panels, target):
    """Compute `target = left @ right`, with `right` (any, columns) cut into panels of columns.

    Args:
        left: float32 (rows, any), with a multiple of _ROWS rows.
        panels: float32 (columns / LANES, any, LANES).
        target: float32 (rows, columns).
    """
    for number in range(len(panels)):  # each of which stays in the cache for all rows
        columns = slice(number * LANES, (number + 1) * LANES)
        for row in range(0, len(left), _ROWS):
            rows = slice(row, row + _ROWS)
            _multiply(left[rows], panels[number], target[rows, columns])


@_compile
def _differentiate_tiles(
    images,
    maps,
    gradients,
    kernel,
    padding,
    chunk,
    first,
    stop,
    buffer,
    image_gradients,
    kernel_sums,
    bias_sums,
):
    """Differentiate the convolution of the images from `first` to `stop`, `chunk` at a time."""
    _, height, width, channels = images.shape
    _, out_height, out_width, outputs = maps.shape
    down, across = (out_height + 3) // 4, (out_width + 3) // 4
    most_tiles = (chunk * down * across + _ROWS - 1) // _ROWS * _ROWS
    filled_channels, filled_outputs = kernel.shape[1] * LANES, kernel_sums.shape[2]
    # Parts of the buffer, one after the other.
    strip, buffer = _split(buffer, 6, (across * 4 + 2) * channels)
    rows, buffer = _split(buffer, 6, strip.shape[1])
    inputs, buffer = _split(buffer, 36, most_tiles * channels + _GAP)
    signals, buffer = _split(buffer, 36, most_tiles * filled_outputs + _GAP)
    returns, buffer = _split(buffer, 36, most_tiles * filled_channels + _GAP)
    halves, buffer = _split(buffer, 6, 6 * max(filled_channels, filled_outputs))
    grid, buffer = _split(buffer, 6, halves.shape[1])
    inputs[:] = 0  # what is filled up must be numbers
    signals[:] = 0
    kernel_sums[:] = 0
    bias_sums[:] = 0
    for start in range(first, stop, chunk):
        end = min(stop, start + chunk)
        tiles = (end - start) * down * across
        filled_tiles = (tiles + _ROWS - 1) // _ROWS * _ROWS
        signals[:, tiles * filled_outputs :] = 0
        for t in range(tiles):
            image, place = divmod(t, down * across)
            image += start
            y, x = divmod(place, across)
            if x == 0:
                _cut_strip(images[image], y * 4 - padding, padding, strip)
                _transform_inputs(4, strip, rows)
            for a in range(6):
                part = rows[a, x * 4 * channels : (x * 4 + 6) * channels].reshape(6, channels)
                target = inputs[a * 6 : a * 6 + 6, t * channels : (t + 1) * channels]
                _transform_inputs(4, part, target)
            for i in range(4):
                for j in range(4):
                    part = grid[i, j * outputs : (j + 1) * outputs]
                    if y * 4 + i < out_height and x * 4 + j < out_width:
                        values = maps[image, y * 4 + i, x * 4 + j]
                        slopes = gradients[image, y * 4 + i, x * 4 + j]
                        for k in range(outputs):
                            part[k] = slopes[k] if values[k] > _ZERO else _ZERO
                            bias_sums[k] += part[k]
                    else:
                        part[:] = 0
            _spread_products(grid[:4, : 4 * outputs], halves[:, : 4 * outputs])
            for a in range(6):
                part = halves[a, : 4 * outputs].reshape(4, outputs)
                first_place = t * filled_outputs
                target = signals[a * 6 : a * 6 + 6, first_place : first_place + outputs]
                _spread_products(part, target)

        for point in range(36):
            left = inputs[point, : filled_tiles * channels].reshape(filled_tiles, channels)
            right = signals[point, : filled_tiles * filled_outputs]
            right = right.reshape(filled_tiles, filled_outputs)
            for lane in range(0, filled_outputs, LANES):
                for c in range(0, kernel_sums.shape[1], _ROWS):
                    target = kernel_sums[point, c : c + _ROWS, lane : lane + LANES]
                    _add_product(left.T[c : c + _ROWS], right[:, lane : lane + LANES], target)
            target = returns[point, : filled_tiles * filled_channels]
            target = target.reshape(filled_tiles, filled_channels)
            for panel in range(kernel.shape[1]):
                lanes = slice(panel * LANES, (panel + 1) * LANES)
                for t in range(0, filled_tiles, _ROWS):
                    part = right[t : t + _ROWS, :outputs]
                    _multiply(part, kernel[point, panel], target[t : t + _ROWS, lanes])

        image_gradients[start:end] = 0
        for t in range(tiles):
            image, place = divmod(t, down * across)
            y, x = divmod(place, across)
            first_place = t * filled_channels
            for a in range(6):
                part = returns[a * 6 : a * 6 + 6, first_place : first_place + channels]
                _return_inputs(part, halves[a, : 6 * channels].reshape(6, channels))
            _return_inputs(halves[:, : 6 * channels], grid[:, : 6 * channels])
            # The patch begins here; what lies outside the image is nobody's.
            top, left_edge = y * 4 - padding, x * 4 - padding
            skipped, end_column = max(0, -left_edge), min(6, width - left_edge)
            for i in range(max(0, -top), min(6, height - top)):
                part = grid[i, skipped * channels : end_column * channels]
                target = image_gradients[start + image, top + i].reshape(-1)
                target = target[(left_edge + skipped) * channels :]
                for k in range(len(part)):
                    target[k] += part[k]


@_compile
def _transform_kernel(kernel, transform, transformed):
    """Transform a kernel down and across."""
    _, _, channels, outputs = kernel.shape
    n = len(transform)
    for c in range(channels):
        for panel in range(transformed.shape[1]):
            count = min(LANES, outputs - panel * LANES)
            part = kernel[:, :, c, panel * LANES : panel * LANES + count]
            for a in range(n):
                for b in range(n):
                    target = transformed[a * n + b, panel, c]
                    for i in range(3):
                        for j in range(3):
                            factor = transform[a, i] * transform[b, j]
                            for k in range(count):
                                target[k] += factor * part[i, j, k]


@_compile
def _transform_sums(sums, transform, kernel_gradients):
    """Add up the parts, and take the gradients by the transformed kernel back to the kernel."""
    _, _, channels, outputs = kernel_gradients.shape
    n = len(transform)
    totals = np.empty(outputs, np.float32)
    kernel_gradients[:] = 0
    for c in range(channels):
        for a in range(n):
            for b in range(n):
                totals[:] = 0
                for part in range(len(sums)):
                    values = sums[part, a * n + b, c]
                    for k in range(outputs):
                        totals[k] += values[k]
                for i in range(3):
                    for j in range(3):
                        factor = _F(transform[a, i] * transform[b, j])
                        if factor != _ZERO:
                            values = kernel_gradients[i, j, c]
                            for k in range(outputs):
                                values[k] += factor * totals[k]


@_inline
def _cut_strip(image, top, padding, strip):
    """Copy the rows of an image from `top` on, with zeros where it has none."""
    height, width, channels = image.shape
    before = padding * channels
    used = min(width * channels, strip.shape[1] - before)
    for i in range(len(strip)):
        if 0 <= top + i < height:
            strip[i, :before] = 0
            strip[i, before : before + used] = image[top + i].reshape(-1)[:used]
            strip[i, before + used :] = 0
        else:
            strip[i] = 0


@_inline
def _spread_products(source, target):
    """Transpose what _transform_products does for m = 4: float32 (4, any) to (6, any)."""
    for i in range(source.shape[1]):
        s0, s1, s2, s3 = source[0, i], source[1, i], source[2, i], source[3, i]
        target[0, i] = s0
        even, odd = s0 + s2, s1 + s3
        target[1, i] = even + odd
        target[2, i] = even - odd
        even, odd = s0 + _F(4) * s2, _F(2) * s1 + _F(8) * s3
        target[3, i] = even + odd
        target[4, i] = even - odd
        target[5, i] = s3


@_inline
def _return_inputs(source, target):
    """Transpose what _transform_inputs does for m = 4: float32 (6, any), both."""
    for i in range(source.shape[1]):
        s0, s1, s2 = source[0, i], source[1, i], source[2, i]
        s3, s4, s5 = source[3, i], source[4, i], source[5, i]
        sum1, difference1 = s1 + s2, s2 - s1
        sum2, difference2 = s3 + s4, _F(2) * (s4 - s3)
        target[0, i] = _F(4) * s0
        target[1, i] = _F(4) * (difference1 + s5) + difference2
        target[2, i] = _F(-5) * s0 - _F(4) * sum1 - sum2
        target[3, i] = -difference1 - difference2 - _F(5) * s5
        target[4, i] = s0 + sum1 + sum2
        target[5, i] = s5


def _make_product(adds: bool) -> Callable:
    """Make `_multiply`, or `_add_product` where a product is added to what is there.

    Compilers do not find by themselves how to keep all the sums in registers. What stands here is
    not computed but written down, in LLVM's language: the loop over what `any` stands for.
    """

    @intrinsic
    def product(typing_context, left, right, target):
        """Compute `left @ right`, for float32 (_ROWS, any) and (any, LANES).

        The LANES of `right` and of `target` lie close; so do the rows of `left`, but where the
        product is added.
        """

        def generate(context, builder, signature, arguments):
            left, right, target = (
                context.make_array(kind)(context, builder, argument)
                for kind, argument in zip(signature.args, arguments, strict=True)
            )
            index, number = ir.IntType(64), ir.FloatType()
            vector = ir.VectorType(number, LANES)
            add_product = cgutils.get_or_insert_function(
                builder.module, ir.FunctionType(vector, [vector] * 3), f"llvm.fmuladd.v{LANES}f32"
            )
            first_lane = ir.Constant(ir.IntType(32), 0)
            all_lanes = ir.Constant(ir.VectorType(ir.IntType(32), LANES), None)  # are lane 0
            nothing = ir.Constant(vector, None)

            def find(array, row, column, kind: ir.Type):
                steps = cgutils.unpack_tuple(builder, array.strides)  # in bytes
                place = builder.ptrtoint(array.data, index)
                for step, count in zip(steps, (row, column), strict=True):
                    place = builder.add(place, builder.mul(count, step))
                return builder.inttoptr(place, kind.as_pointer())

            zero, *_ = rows = [ir.Constant(index, row) for row in range(_ROWS)]
            sources = [find(left, row, zero, number) for row in rows]
            if adds:
                _, step = cgutils.unpack_tuple(builder, left.strides)
                step = builder.sdiv(step, ir.Constant(index, 4))  # in numbers
            else:
                step = ir.Constant(index, 1)
            targets = [find(target, row, zero, vector) for row in rows]
            sums = [
                cgutils.alloca_once_value(
                    builder, builder.load(place, align=4) if adds else nothing
                )
                for place in targets
            ]
            depth, _ = cgutils.unpack_tuple(builder, right.shape)
            with cgutils.for_range(builder, depth) as loop:
                weights = builder.load(find(right, loop.index, zero, vector), align=4)
                place = builder.mul(loop.index, step)
                for source, total in zip(sources, sums, strict=True):
                    value = builder.load(builder.gep(source, [place]))
                    value = builder.insert_element(nothing, value, first_lane)
                    value = builder.shuffle_vector(value, value, all_lanes)
                    value = builder.call(add_product, [value, weights, builder.load(total)])
                    builder.store(value, total)
            for place, total in zip(targets, sums, strict=True):
                builder.store(builder.load(total), place, align=4)
            return context.get_dummy_value()

        return types.void(left, right, target), generate

    return product


_multiply, _add_product = _make_product(adds=False), _make_product(adds=True)


@_inline
def _split(buffer, rows, columns):
    """Take an array (rows, columns) from the front of a buffer; return it and the rest."""
    size = rows * columns
    return buffer[:size].reshape(rows, columns), buffer[size:]


@_inline
def _rectify(value):
    # Not max, so that what is no number stays so.
    return _ZERO if value < _ZERO else value


@_inline
def _larger(one, other):
    return one if one > other else other


@_inline
def _transform_inputs(tile, source, target):
    """Transform along the first axis: float32 (tile + 2, any), both."""
    if tile == 4:
        for i in range(source.shape[1]):
            s0, s1, s2 = source[0, i], source[1, i], source[2, i]
            s3, s4, s5 = source[3, i], source[4, i], source[5, i]
            target[0, i] = _F(4) * s0 - _F(5) * s2 + s4
            even, odd = s4 - _F(4) * s2, s3 - _F(4) * s1
            target[1, i] = even + odd
            target[2, i] = even - odd
            even, odd = s4 - s2, _F(2) * (s3 - s1)
            target[3, i] = even + odd
            target[4, i] = even - odd
            target[5, i] = _F(4) * s1 - _F(5) * s3 + s5
    else:
        for i in range(source.shape[1]):
            s0, s1, s2, s3 = source[0, i], source[1, i], source[2, i], source[3, i]
            s4, s5, s6, s7 = source[4, i], source[5, i], source[6, i], source[7, i]
            target[0, i] = s0 - s6 + _F(5.25) * (s4 - s2)
            even, odd = s6 - _F(4.25) * s4 + s2, s5 - _F(4.25) * s3 + s1
            target[1, i] = even + odd
            target[2, i] = even - odd
            even = s6 - _F(1.25) * s4 + _F(0.25) * s2
            odd = _F(2) * s5 - _F(2.5) * s3 + _F(0.5) * s1
            target[3, i] = even + odd
            target[4, i] = even - odd
            even = s6 - _F(5) * s4 + _F(4) * s2
            odd = _F(0.5) * s5 - _F(2.5) * s3 + _F(2) * s1
            target[5, i] = even + odd
            target[6, i] = even - odd
            target[7, i] = s7 - s1 + _F(5.25) * (s3 - s5)


@_inline
def _transform_products(tile, source, target):
    """Transform along the first axis: float32 (tile + 2, any) to (tile, any)."""
    if tile == 4:
        for i in range(source.shape[1]):
            sum1, difference1 = source[1, i] + source[2, i], source[1, i] - source[2, i]
            sum2, difference2 = source[3, i] + source[4, i], source[3, i] - source[4, i]
            first, last = source[0, i], source[5, i]
            target[0, i] = first + sum1 + sum2
            target[1, i] = difference1 + _F(2) * difference2
            target[2, i] = sum1 + _F(4) * sum2
            target[3, i] = difference1 + _F(8) * difference2 + last
    else:
        for i in range(source.shape[1]):
            sum1, difference1 = source[1, i] + source[2, i], source[1, i] - source[2, i]
            sum2, difference2 = source[3, i] + source[4, i], source[3, i] - source[4, i]
            sum3, difference3 = source[5, i] + source[6, i], source[5, i] - source[6, i]
            first, last = source[0, i], source[7, i]
            target[0, i] = first + sum1 + sum2 + sum3
            target[1, i] = difference1 + _F(2) * difference2 + _F(1 / 2) * difference3
            target[2, i] = sum1 + _F(4) * sum2 + _F(1 / 4) * sum3
            target[3, i] = difference1 + _F(8) * difference2 + _F(1 / 8) * difference3
            target[4, i] = sum1 + _F(16) * sum2 + _F(1 / 16) * sum3
            target[5, i] = difference1 + _F(32) * difference2 + _F(1 / 32) * difference3 + last
