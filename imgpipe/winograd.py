"""3×3 convolutions on a processor, with a fraction of the multiplications.

For tiles of m × m outputs a convolution becomes (m + 2)^2 products of matrices between two
transforms. A pair of channels then takes 64 multiplications for 36 outputs (m = 6), or 36 for 16
(m = 4), instead of 9 for each. What the transforms cost matters little where channels are many.
The sums are those of each tile alone: an image's results are the same bytes in any batch and on
any number of threads.

Source: Lavin & Gray 2016, "Fast Algorithms for Convolutional Neural Networks", arXiv 1509.09308.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from itertools import pairwise
from math import prod

import numpy as np
from llvmlite import ir
from llvmlite.binding import get_host_cpu_features
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic

from imgpipe.arrays import blocks
from imgpipe.compiled import (
    OPTIONS,
    PARTS,
    allocate_aligned,
    compile_function,
    count_cores,
    declare_sum_of_product,
    find_place,
    spread,
    work_at_once,
    work_on_parts,
)
from imgpipe.direct_convolution import MOST_CHANNELS, DirectConvolution

TILES = (4, 6)  # m
LANES = 16  # output channels that are computed at once, as many as a processor's registers take
# Tiles that are: with 8 registers of 16 sums, or 12 of 8.
_ROWS = 8 if get_host_cpu_features().get("avx512f") else 6
_WIDTH = 8  # numbers that are transformed at once
_CHUNK_TILES = 64  # that a thread works on at once, or one row of them if that is more
_BLOCK_PIXELS = 8_500  # of maps that pass through a block together
_KERNEL_TILES = 3  # of an image, which take as long as its share of reading the kernel
_MOST_THREADS = 16  # there are hardly chunks for more
_ZERO = np.float32(0)
_PIXELS = np.arange(4, dtype=np.uint8)  # of a square of 2 × 2, by rows
_NONE = np.uint8(4)
_GAP = 16  # numbers between matrices, whose equal places would fall on one line of the cache
_SUM_POINT = 1 * 6 + 1  # the one at (1, 1) for m = 4, where a tile's product is its sum


def transform_kernel(kernel: np.ndarray, tile: int) -> np.ndarray:
    """Transform a kernel for tiles of one size.

    Args:
        kernel: float32 (3, 3, channels in, channels out).
        tile: 4 or 6.

    Returns:
        float32 ((tile + 2)^2, panels, channels in, LANES): the channels out are cut into panels,
        of which the last one is filled up with zeros.
    """
    _, _, channels, outputs = kernel.shape
    n = tile + 2
    half = np.empty((3, n, channels, outputs), np.float32)
    transformed = np.zeros((n**2, _divide_up(outputs, LANES), channels, LANES), np.float32)
    _transform_kernel(tile, np.ascontiguousarray(kernel, np.float32), half, transformed)
    return transformed


def choose_tile(height: int, width: int) -> int:
    """Choose the tile that is faster on maps of this size.

    That is the one with fewer multiplications, tiles that reach beyond the maps counted whole.
    Where tiles are few, the smaller one's kernels also take less time to read, and less memory.
    """
    return min(
        TILES,
        key=lambda m: (m + 2) ** 2 * (_divide_up(height, m) * _divide_up(width, m) + _KERNEL_TILES),
    )


def _divide_up(size: int, part: int) -> int:
    return -(-size // part)


class TiledConvolution:
    """A 3×3 convolution with bias and ReLU, then perhaps 2×2 maximum pooling.

    Args:
        kernel: float32 (3, 3, channels in, channels out).
        bias: float32 (channels out,).
        height: of the images.
        width: likewise.
        padding: zeros around the images, 0 ("valid") or 1 ("same").
        pools: whether pooling follows, which leaves out an odd last row or column.
        tile: 4 or 6; None for the faster one.

    Attributes:
        input_shape: (height, width, channels) of the images.
        output_shape: likewise of the outputs.
        image_rows: of tiles, in an image.
        chunk_rows: how many of them convolve_rows takes at most.
        buffer_size: numbers in the buffer that it needs.
    """

    def __init__(
        self,
        kernel: np.ndarray,
        bias: np.ndarray,
        height: int,
        width: int,
        *,
        padding: int = 1,
        pools: bool = False,
        tile: int | None = None,
    ):
        channels, outputs = kernel.shape[2:]
        rows, columns = height - 2 + 2 * padding, width - 2 + 2 * padding
        self.pools = pools
        step = 2 if pools else 1
        self.input_shape = height, width, channels
        self.output_shape = rows // step, columns // step, outputs
        self._padding = padding
        self._tile = tile or choose_tile(rows, columns)
        self._kernel = transform_kernel(kernel, self._tile)
        self._bias = np.ascontiguousarray(bias, np.float32)
        across = _divide_up(columns, self._tile)
        self.image_rows = _divide_up(rows, self._tile)
        self.chunk_rows = max(1, _CHUNK_TILES // across)
        n, tiles = self._tile + 2, _divide_up(self.chunk_rows * across, _ROWS) * _ROWS
        outputs = _divide_up(outputs, LANES) * LANES
        self.buffer_size = (
            n * (width + across * self._tile + 3) * channels
            + n**2 * (tiles * (channels + outputs) + 2 * _GAP)
            + (n + self._tile) * self._tile * outputs
        )

    def convolve_rows(
        self,
        images: np.ndarray,
        rows: slice,
        buffer: np.ndarray,
        outputs: np.ndarray,
        winners: np.ndarray,
    ) -> None:
        """Compute some of all rows of tiles; several threads may, each for other rows.

        Args:
            images: float32 (n, *input_shape).
            rows: of the n * image_rows; chunk_rows or fewer.
            buffer: float32 (buffer_size or more,), of this thread.
            outputs: float32 (n, *output_shape), to write to.
            winners: uint8 (n, *output_shape), likewise, if it pools: which of the four pixels of
                its square each output is, by rows, or 4 where ReLU made it 0. Or no channel of
                that, where nobody wants to know.
        """
        _convolve_tiles(
            images,
            self._kernel,
            self._bias,
            self._tile,
            self._padding,
            self.pools,
            rows.start,
            rows.stop,
            buffer,
            outputs,
            winners,
        )


_Convolution = DirectConvolution | TiledConvolution


def _convolve(
    convolution: _Convolution,
    images: np.ndarray,
    outputs: np.ndarray,
    winners: np.ndarray,
    buffers: list[np.ndarray],
) -> None:
    """Convolve images into outputs and winners, on as many threads as there are buffers."""
    rows, count = len(images) * convolution.image_rows, len(buffers)
    # Of one size, so that none shall wait long.
    size = _divide_up(rows, count * _divide_up(rows, count * convolution.chunk_rows))
    chunks = iter(list(blocks(rows, size)))  # of a list, which several threads can take from

    def take(buffer: np.ndarray) -> None:
        for chunk in chunks:
            convolution.convolve_rows(images, chunk, buffer, outputs, winners)

    work_at_once(take, buffers)


def _no_winners(outputs: np.ndarray) -> np.ndarray:
    return np.empty((*outputs.shape[:3], 0), np.uint8)


def _allocate_buffers(size: int) -> list[np.ndarray]:
    threads = min(count_cores(), _MOST_THREADS)
    return [np.empty(size, np.float32) for _ in range(threads)]


class Chain:
    """Convolutions that follow one another, on all cores.

    It keeps its memory from one call to the next, and so serves one caller at a time.

    Args:
        convolutions: each for images as the outputs of the one before it.

    Raises:
        ValueError: one of them is for others. The compiled code does not notice.
    """

    def __init__(self, convolutions: list[_Convolution]):
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
        self._buffers = _allocate_buffers(max(one.buffer_size for one in convolutions))

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
        reduced = []
        for part in self._cut(self._blocks[-1], len(images)):
            shape = part.stop - part.start, *self._blocks[-1][-1].output_shape
            outputs = self._allocate(("outputs",), shape)
            self._run(len(self._blocks), images[part], outputs)
            reduced.append(reduce(outputs))
        return np.concatenate(reduced)

    def _run(self, depth: int, images: np.ndarray, outputs: np.ndarray) -> None:
        """Send images through the first blocks, in parts that suit the last one of these."""
        block = self._blocks[depth - 1]
        for part in self._cut(block, len(images)):
            count = part.stop - part.start
            maps = self._allocate(("inputs", depth), (count, *block[0].input_shape))
            if depth == 1:
                maps[:] = images[part]
            else:
                self._run(depth - 1, images[part], maps)
            for number, convolution in enumerate(block, 1):
                if number == len(block):
                    target = outputs[part]
                else:  # in one of two places, while `maps` are in the other
                    shape = count, *convolution.output_shape
                    target = self._allocate(("between", number % 2), shape)
                _convolve(convolution, maps, target, _no_winners(target), self._buffers)
                maps = target

    def _cut(self, block: list[_Convolution], count: int) -> Iterator[slice]:
        """Cut `count` images so that a block's maps stay near the processor between its layers."""
        height, width, _ = block[0].output_shape
        parts = _divide_up(count, _divide_up(_BLOCK_PIXELS, height * width))
        return blocks(count, _divide_up(count, parts))

    def _allocate(self, place: tuple, shape: tuple) -> np.ndarray:
        """Allocate maps where earlier ones of the same place were."""
        if len(self._maps.get(place, ())) < prod(shape):
            self._maps[place] = np.empty(prod(shape), np.float32)
        return self._maps[place][: prod(shape)].reshape(shape)


def convolve(
    images: np.ndarray, kernel: np.ndarray, bias: np.ndarray, *, padding: int
) -> np.ndarray:
    """Compute a 3×3 convolution with bias and ReLU.

    Args:
        images: float32 (n, height, width, channels).
        kernel: float32 (3, 3, channels, channels out).
        bias: float32 (channels out,).
        padding: zeros around the images, 0 ("valid") or 1 ("same").

    Returns:
        float32 (n, height - 2 + 2 padding, width - 2 + 2 padding, channels out).
    """
    _, height, width, _ = images.shape
    convolution = TiledConvolution(kernel, bias, height, width, padding=padding)
    outputs = allocate_aligned((len(images), *convolution.output_shape))
    buffers = _allocate_buffers(convolution.buffer_size)
    _convolve(convolution, images, outputs, _no_winners(outputs), buffers)
    return outputs


def convolve_and_pool(
    images: np.ndarray, kernel: np.ndarray, bias: np.ndarray, *, padding: int
) -> tuple[np.ndarray, np.ndarray]:
    """Compute a 3×3 convolution with bias, ReLU and 2×2 maximum pooling.

    The maps before pooling, four times as large, are never in memory.

    Args:
        images: as of `convolve`; there are 2 or more rows and columns to pool.
        kernel: likewise.
        bias: likewise.
        padding: likewise.

    Returns:
        outputs: float32 (n, rows // 2, columns // 2, channels out) of the rows and columns that
            `convolve` gives.
        winners: uint8 likewise, which the gradients need: which of the four pixels of its square
            an output is, by rows, or 4 where ReLU made it 0.
    """
    _, height, width, channels = images.shape
    options = {"padding": padding, "pools": True}
    if channels <= MOST_CHANNELS:
        biases = np.broadcast_to(bias, (3, 3, len(bias)))
        convolution = DirectConvolution(kernel, biases, height, width, **options)
    else:
        convolution = TiledConvolution(kernel, bias, height, width, **options)
    shape = len(images), *convolution.output_shape
    outputs, winners = allocate_aligned(shape), allocate_aligned(shape, np.uint8)
    buffers = _allocate_buffers(convolution.buffer_size)
    _convolve(convolution, images, outputs, winners, buffers)
    return outputs, winners


def differentiate_convolution(
    images: np.ndarray,
    maps: np.ndarray,
    gradients: np.ndarray,
    kernel: np.ndarray,
    winners: np.ndarray | None = None,
    *,
    padding: int,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Compute the gradients of a loss by what makes the maps of a 3×3 convolution with ReLU.

    The forward algorithm of tiles of 4 × 4 outputs is differentiated, so that both products take
    as few multiplications as it does.

    Args:
        images: float32 (n, height, width, channels), which went in.
        maps: float32 (n, height - 2 + 2 padding, width - 2 + 2 padding, channels out), which came
            out, after bias and ReLU; or (n, rows // 2, columns // 2, channels out) after pooling.
        gradients: of the loss by the maps, likewise.
        kernel: float32 (3, 3, channels, channels out).
        winners: uint8, those of `convolve_and_pool`, if that made the maps.
        padding: zeros around the images, 0 ("valid") or 1 ("same").

    Returns:
        The loss's gradients by the images, the kernel and the bias, float32, in their shapes. They
        are the same to the bit for any number of threads.
    """
    outputs = maps.shape[3]
    backward = transform_kernel(kernel.transpose(0, 1, 3, 2), 4)
    image_gradients = allocate_aligned(images.shape)
    kernel_gradients = np.empty((PARTS, *kernel.shape), np.float32)
    bias_gradients = np.empty((PARTS, outputs), np.float32)

    def work(part: int, first: int, stop: int) -> None:
        _differentiate_tiles(
            images,
            maps,
            _no_winners(maps) if winners is None else winners,
            gradients,
            backward,
            padding,
            first,
            stop,
            image_gradients,
            kernel_gradients[part],
            bias_gradients[part],
        )

    work_on_parts(work, len(images))
    return image_gradients, kernel_gradients.sum(axis=0), bias_gradients.sum(axis=0)


_inline = njit(**OPTIONS)


def _make_transform(*matrices: np.ndarray, added: int = 0) -> Callable:
    """Make a function that multiplies by constant matrices, by the first one first.

    Args:
        *matrices: as said.
        added: how many of the first results are added to what is there.
    """

    @intrinsic
    def transform(typing_context, source, target):
        """Transform the last axis but one of `source`, float32 (…, rows, any), into `target`.

        Both have two or three axes. A row's numbers lie close, in both; `target` is as wide or
        wider, and elsewhere.
        """

        def generate(context, builder, signature, arguments):
            source, target = (
                context.make_array(kind)(context, builder, argument)
                for kind, argument in zip(signature.args, arguments, strict=True)
            )
            index = ir.IntType(64)
            *blocks, _, count = cgutils.unpack_tuple(builder, source.shape)
            whole = builder.and_(count, ir.Constant(index, -_WIDTH))
            nothing, number = ir.Constant(index, 0), ir.FloatType()
            vector = ir.VectorType(number, _WIDTH)
            with ExitStack() as loops:
                block = [loops.enter_context(cgutils.for_range(builder, n)).index for n in blocks]
                for kind, width, first, stop in (
                    (vector, _WIDTH, nothing, whole),
                    (number, 1, whole, count),
                ):
                    steps = ir.Constant(index, width)
                    with cgutils.for_range_slice(builder, first, stop, steps) as (column, _):
                        transform_columns(builder, source, target, (*block, column), kind)
            return context.get_dummy_value()

        return types.void(source, target), generate

    def transform_columns(builder, source, target, place: tuple, kind: ir.Type):
        *block, column = place

        def find(array, row: int):
            place = *block, ir.Constant(ir.IntType(64), row), column
            return find_place(builder, array, place, kind)

        values = [builder.load(find(source, row), align=4) for row in range(matrices[0].shape[1])]
        for matrix in matrices:
            values = [combine(builder, kind, factors, values) for factors in matrix]
        for row, value in enumerate(values):
            place = find(target, row)
            if row < added:
                value = builder.fadd(builder.load(place, align=4), value)
            builder.store(value, place, align=4)

    def combine(builder, kind: ir.Type, factors, values: list):
        add_product = declare_sum_of_product(builder, kind)
        total = None
        for factor, value in zip(factors.tolist(), values, strict=True):
            if factor == 0:
                continue
            constant = [factor] * kind.count if isinstance(kind, ir.VectorType) else factor
            if total is None:
                one = factor == 1
                total = value if one else builder.fmul(value, ir.Constant(kind, constant))
            elif abs(factor) == 1:
                total = (builder.fadd if factor > 0 else builder.fsub)(total, value)
            else:
                total = builder.call(add_product, [value, ir.Constant(kind, constant), total])
        return total

    return transform


def _make_product(adds: bool) -> Callable:
    """Make `_multiply`, or `_add_product` where a product is added to what is there."""

    @intrinsic
    def product(typing_context, left, right, target):
        """Compute `left @ right`, for float32 (_ROWS, any) and (any, LANES).

        The LANES of `right` and of `target` lie close.
        """

        def generate(context, builder, signature, arguments):
            left, right, target = (
                context.make_array(kind)(context, builder, argument)
                for kind, argument in zip(signature.args, arguments, strict=True)
            )
            index, number = ir.IntType(64), ir.FloatType()
            vector = ir.VectorType(number, LANES)
            add_product = declare_sum_of_product(builder, vector)
            nothing = ir.Constant(vector, None)
            zero, *_ = rows = [ir.Constant(index, row) for row in range(_ROWS)]
            sources = [find_place(builder, left, (row, zero), number) for row in rows]
            _, step = cgutils.unpack_tuple(builder, left.strides)
            step = builder.sdiv(step, ir.Constant(index, 4))  # in numbers
            targets = [find_place(builder, target, (row, zero), vector) for row in rows]
            sums = [
                cgutils.alloca_once_value(
                    builder, builder.load(place, align=4) if adds else nothing
                )
                for place in targets
            ]
            depth, _ = cgutils.unpack_tuple(builder, right.shape)
            with cgutils.for_range(builder, depth) as loop:
                weights = find_place(builder, right, (loop.index, zero), vector)
                weights = builder.load(weights, align=4)
                place = builder.mul(loop.index, step)
                for source, total in zip(sources, sums, strict=True):
                    value = builder.load(builder.gep(source, [place]))
                    terms = spread(builder, value, vector), weights, builder.load(total)
                    value = builder.call(add_product, terms)
                    builder.store(value, total)
            for place, total in zip(targets, sums, strict=True):
                builder.store(builder.load(total), place, align=4)
            return context.get_dummy_value()

        return types.void(left, right, target), generate

    return product


_multiply, _add_product = _make_product(adds=False), _make_product(adds=True)


def _find_matrices(points: list[float]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Find the matrices that transform inputs, kernels and products, for points and infinity.

    Outputs are the coefficients of a product of polynomials read backwards: a polynomial is known
    by its values at as many points as it has coefficients.

    Returns:
        (n, n), (n, 3) and (n - 2, n), with n = len(points) + 1.
    """
    n = len(points) + 1
    inputs, kernel, products = np.zeros((n, n)), np.zeros((n, 3)), np.zeros((n - 2, n))
    for row, point in enumerate(points):
        others = np.delete(points, row)
        inputs[row, :-1] = np.polynomial.polynomial.polyfromroots(others)
        kernel[row] = point ** np.arange(3) / np.prod(point - others)
        products[:, row] = point ** np.arange(n - 2)
    inputs[-1] = np.polynomial.polynomial.polyfromroots(points)
    kernel[-1, -1] = products[-1, -1] = 1
    return inputs, kernel, products


def _make_transforms(points: list[float]) -> tuple[Callable, ...]:
    """Make the transforms of inputs, kernels and products, and the transpose of each.

    The last one is that of inputs again, whose first two results are added to what is there.

    Args:
        points: 0, and each other one followed by its negative. At such a pair even powers are the
            same, and odd ones opposite: what they have in common is computed once.
    """
    inputs, kernel, products = _find_matrices(np.array(points, float))
    pairs = np.eye(len(inputs))
    for first in range(1, len(points), 2):
        pairs[first : first + 2, first : first + 2] = [[1, 1], [1, -1]]
    halved = np.linalg.inv(pairs)
    factors = (halved @ inputs, pairs), (halved @ kernel, pairs), (pairs, products @ halved)
    transposed = [(second.T, first.T) for first, second in factors]
    whole = (_make_transform(*pair) for pair in (*factors, *transposed))
    # Tiles of inputs overlap by two.
    return *whole, _make_transform(*transposed[0], added=2)


def _choose(for_4: Callable, for_6: Callable) -> Callable:
    """Make a function of the tile (4 or 6), source and target from a transform for each."""

    @_inline
    def transform(tile, source, target):
        if tile == 4:
            for_4(source, target)
        else:
            for_6(source, target)

    return transform


_of_4 = _make_transforms([0, 1, -1, 2, -2])
_of_6 = _make_transforms([0, 1, -1, 2, -2, 1 / 2, -1 / 2])
_transform_inputs, _transform_side, _transform_products = map(_choose, _of_4[:3], _of_6[:3])
_return_inputs, _return_side, _spread_products, _add_inputs = _of_4[3:]


@compile_function
def _transform_kernel(tile, kernel, half, transformed):
    """Transform a kernel across, into `half`, and then down."""
    _, _, channels, outputs = kernel.shape
    n = tile + 2
    for i in range(3):
        size = channels * outputs
        _transform_side(tile, kernel[i].reshape(3, size), half[i].reshape(n, size))
    for b in range(n):
        for c in range(channels):
            for panel in range(transformed.shape[1]):
                first = panel * LANES
                source = half[:, b, c, first : first + LANES]
                _transform_side(tile, source, transformed[b::n, panel, c])


@_inline
def _return_kernel(sums, half, gradients):
    """Transpose what _transform_kernel does for m = 4: float32 (36, channels, outputs), first."""
    _, channels, outputs = sums.shape
    size = channels * outputs
    for a in range(6):
        _return_side(sums[a * 6 : a * 6 + 6].reshape(6, size), half[a].reshape(3, size))
    _return_side(half.reshape(6, 3 * size), gradients.reshape(3, 3 * size))


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
def _copy_rows(image, top, rows):
    """Copy the rows of an image from `top` on, with zeros where it has none."""
    for i in range(len(rows)):
        if 0 <= top + i < len(image):
            rows[i] = image[top + i].reshape(-1)
        else:
            rows[i] = 0


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


@_inline
def _pool(one, two, three, four, bias, values, winners):
    """Take the largest of 2 × 2 pixels' channels, with ReLU after a bias, and which it is.

    Args:
        one: float32 (channels or more,), the first pixel; compilers want each by itself.
        two: likewise, the one beside it.
        three: the one below it.
        four: the last one.
        bias: float32 (channels,).
        values: float32 (channels,).
        winners: uint8 (channels,), or none where nobody wants to know.
    """
    for k in range(len(bias)):
        values[k] = _larger(_larger(one[k], two[k]), _larger(three[k], four[k]))
    for k in range(len(winners)):
        # The first one of equals.
        last = _PIXELS[2] if three[k] == values[k] else _PIXELS[3]
        later = _PIXELS[1] if two[k] == values[k] else last
        winner = _PIXELS[0] if one[k] == values[k] else later
        winners[k] = winner if values[k] + bias[k] > _ZERO else _NONE
    for k in range(len(bias)):
        values[k] = _rectify(values[k] + bias[k])


@_inline
def _pass_slopes(gradients, maps, winners, line, slopes):
    """Compute the gradients by a row of what a convolution gives before ReLU and pooling.

    Args:
        gradients: float32 (rows, columns, channels), by what it gives after them.
        maps: float32 likewise, which that is.
        winners: uint8 likewise, of pooling; or no channel of them, where nothing is pooled.
        line: the row; one beyond the last one is 0.
        slopes: float32 (any, channels or more), with 0 where there are no columns or channels.
    """
    rows, columns, channels = gradients.shape
    pools = winners.shape[2] > 0
    if line >= (2 * rows if pools else rows):
        slopes[:] = 0
    elif pools:
        for x in range(2 * columns):
            pixel = _PIXELS[line % 2 * 2 + x % 2]
            for k in range(channels):
                slope = gradients[line // 2, x // 2, k]  # whether needed or not: compilers dare not
                slopes[x, k] = slope if winners[line // 2, x // 2, k] == pixel else _ZERO
    else:
        for x in range(columns):
            for k in range(channels):
                slope = gradients[line, x, k]
                slopes[x, k] = slope if maps[line, x, k] > _ZERO else _ZERO


@_inline
def _load_tiles(tile, image, top, padding, across, lines, rows, inputs, place):
    """Transform a row of tiles, which begins above the image's row `top`.

    Args:
        tile: 4 or 6.
        image: float32 (height, width, channels).
        top: -1 or more.
        padding: columns of zeros to the left of the image.
        across: number of tiles.
        lines: float32 (tile + 2, width * channels), for rows of the image.
        rows: float32 (tile + 2, columns, channels), for the tiles, with 0 where the image is not.
        inputs: float32 (tile + 2, tile + 2, any), for the transformed tiles.
        place: of the first tile, in `inputs`.
    """
    height, width, channels = image.shape
    n = tile + 2
    used = rows.reshape(n, -1)[:, padding * channels : (padding + width) * channels]
    if top >= 0 and top + n <= height:
        _transform_inputs(tile, image[top : top + n].reshape(n, width * channels), used)
    else:
        _copy_rows(image, top, lines)
        _transform_inputs(tile, lines, used)
    for x in range(across):
        first = place + x * channels
        part = rows[:, x * tile : x * tile + n]
        _transform_inputs(tile, part, inputs[:, :, first : first + channels])


@compile_function
def _convolve_tiles(
    images, kernel, bias, tile, padding, pools, first, stop, buffer, outputs, winners
):
    """Convolve the rows of tiles from `first` to `stop` of all such rows of the images."""
    points, panels, channels, _ = kernel.shape
    _, height, width, _ = images.shape
    height, columns = height - 2 + 2 * padding, width - 2 + 2 * padding
    count = panels * LANES  # of channels out, those that fill up the last panel included
    n = tile + 2
    down, across = (height + tile - 1) // tile, (columns + tile - 1) // tile
    tiles = (stop - first) * across
    filled_tiles = (tiles + _ROWS - 1) // _ROWS * _ROWS
    # Parts of the buffer, one after the other.
    lines, buffer = _split(buffer, n, width * channels)
    rows, buffer = _split(buffer, n, (across * tile + 3) * channels)
    inputs, buffer = _split(buffer, points, filled_tiles * channels + _GAP)
    products, buffer = _split(buffer, points, filled_tiles * count + _GAP)
    halves, buffer = _split(buffer, n, tile * count)
    results, buffer = _split(buffer, tile, tile * count)
    # The same, by rows and columns.
    tile_rows = rows.reshape(n, across * tile + 3, channels)
    tile_inputs, tile_products = inputs.reshape(n, n, -1), products.reshape(n, n, -1)
    tile_halves = halves.reshape(n, tile, count)

    rows[:] = 0
    for t in range(0, tiles, across):
        image, y = divmod(first + t // across, down)
        top = y * tile - padding
        place = t * channels
        arrays = lines, tile_rows, tile_inputs
        _load_tiles(tile, images[image], top, padding, across, *arrays, place)

    for point in range(points):
        left = inputs[point, : filled_tiles * channels].reshape(filled_tiles, channels)
        target = products[point, : filled_tiles * count].reshape(filled_tiles, count)
        _multiply_panels(left, kernel[point], target)

    for t in range(tiles):
        row, x = divmod(t, across)
        image, y = divmod(first + row, down)
        place = t * count
        part = tile_products[:, :, place : place + count]
        _transform_products(tile, part, tile_halves)
        _transform_products(tile, halves, results)
        used_rows = min(tile, height - y * tile)
        used_columns = min(tile, columns - x * tile)
        grid = results.reshape(tile, tile, count)
        if pools:
            for i in range(used_rows // 2):
                for j in range(used_columns // 2):
                    line, column = (y * tile) // 2 + i, (x * tile) // 2 + j
                    values, places = outputs[image, line, column], winners[image, line, column]
                    above, below = grid[2 * i], grid[2 * i + 1]
                    left, right = 2 * j, 2 * j + 1
                    pixels = above[left], above[right], below[left], below[right]
                    _pool(*pixels, bias, values, places)
        else:
            for i in range(used_rows):
                for j in range(used_columns):
                    values = outputs[image, y * tile + i, x * tile + j]
                    for k in range(len(bias)):
                        values[k] = _rectify(grid[i, j, k] + bias[k])


@compile_function
def _differentiate_tiles(
    images,
    maps,
    winners,
    gradients,
    kernel,
    padding,
    first,
    stop,
    image_gradients,
    kernel_gradients,
    bias_gradients,
):
    """Differentiate the convolution of the images from `first` to `stop`."""
    _, height, width, channels = images.shape
    outputs = maps.shape[3]
    out_height, out_width = height - 2 + 2 * padding, width - 2 + 2 * padding
    down, across = (out_height + 3) // 4, (out_width + 3) // 4
    chunk = max(1, _CHUNK_TILES // across)
    most_tiles = (chunk * across + _ROWS - 1) // _ROWS * _ROWS
    filled_channels = kernel.shape[1] * LANES
    filled_outputs = (outputs + LANES - 1) // LANES * LANES
    lines = np.empty((6, width * channels), np.float32)
    rows = np.zeros((6, across * 4 + 3, channels), np.float32)
    slopes = np.zeros((4, across * 4, outputs), np.float32)
    slope_rows = np.empty((6, across * 4, outputs), np.float32)
    # What is filled up must be numbers.
    inputs = np.zeros((36, most_tiles * channels + _GAP), np.float32)
    signals = np.zeros((36, most_tiles * filled_outputs + _GAP), np.float32)
    returns = np.empty((36, most_tiles * filled_channels + _GAP), np.float32)
    # The same, by rows and columns.
    tile_inputs, tile_signals = inputs.reshape(6, 6, -1), signals.reshape(6, 6, -1)
    tile_returns = returns.reshape(6, 6, -1)
    # As many channels as _add_product takes.
    size = (channels + _ROWS - 1) // _ROWS * _ROWS
    kernel_sums = np.zeros((36, size, filled_outputs), np.float32)
    bias_gradients[:] = 0
    for start in range(first * down, stop * down, chunk):
        end = min(stop * down, start + chunk)
        tiles = (end - start) * across
        filled_tiles = (tiles + _ROWS - 1) // _ROWS * _ROWS
        signals[:, tiles * filled_outputs :] = 0
        for row in range(start, end):
            image, y = divmod(row, down)
            t = (row - start) * across
            top = y * 4 - padding
            place = t * channels
            _load_tiles(4, images[image], top, padding, across, lines, rows, tile_inputs, place)
            for i in range(4):
                arrays = gradients[image], maps[image], winners[image]
                _pass_slopes(*arrays, y * 4 + i, slopes[i])
            _spread_products(slopes.reshape(4, -1), slope_rows.reshape(6, -1))
            for x in range(across):
                place = (t + x) * filled_outputs
                part = slope_rows[:, x * 4 : x * 4 + 4]
                _spread_products(part, tile_signals[:, :, place : place + outputs])
                for k in range(outputs):
                    bias_gradients[k] += signals[_SUM_POINT, place + k]

        for point in range(36):
            left = inputs[point, : filled_tiles * channels].reshape(filled_tiles, channels)
            right = signals[point, : filled_tiles * filled_outputs]
            right = right.reshape(filled_tiles, filled_outputs)
            for lane in range(0, filled_outputs, LANES):
                for c in range(0, channels, _ROWS):
                    target = kernel_sums[point, c : c + _ROWS, lane : lane + LANES]
                    _add_product(left.T[c : c + _ROWS], right[:, lane : lane + LANES], target)
            target = returns[point, : filled_tiles * filled_channels]
            target = target.reshape(filled_tiles, filled_channels)
            _multiply_panels(right[:, :outputs], kernel[point], target)

        for row in range(start, end):
            image, y = divmod(row, down)
            rows[:, :2] = 0
            for x in range(across):
                place = ((row - start) * across + x) * filled_channels
                part = tile_returns[:, :, place : place + channels]
                _add_inputs(part, rows[:, x * 4 : x * 4 + 6])
            used = rows.reshape(6, -1)[:, padding * channels : (padding + width) * channels]
            target = image_gradients[image].reshape(height, -1)
            top = y * 4 - padding
            if y == 0:
                target[: 2 - padding] = 0
            if top >= 0 and top + 6 <= height:
                _add_inputs(used, target[top : top + 6])
            else:  # what lies outside the image is nobody's
                _return_inputs(used, lines)
                for i in range(max(0, -top), min(6, height - top)):
                    for k in range(lines.shape[1]):
                        value = lines[i, k]
                        target[top + i, k] = target[top + i, k] + value if i < 2 else value
            # As _load_tiles wants to find it.
            rows[:, :padding] = 0
            rows[:, padding + width :] = 0

    sums = kernel_sums[:, :channels, :outputs].copy()
    _return_kernel(sums, np.empty((6, 3, channels, outputs), np.float32), kernel_gradients)
