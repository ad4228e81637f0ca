"""3×3 convolutions of images of few channels on a processor, computed as they are defined.

Four pixels of the results, a square of 2 × 2, are summed up at once in the processor's registers,
and pooled there where pooling follows. An image's results are the same bytes in any batch and on
any number of threads.
"""

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic

from imgpipe.compiled import (
    OPTIONS,
    PARTS,
    compile_function,
    declare_sum_of_product,
    find_place,
    spread,
    work_on_parts,
)

MOST_CHANNELS = 4  # with which a convolution is better computed in this way
_LANES = 16  # output channels that are computed at once, as many as a processor's registers take
_SUM_LANES = 8  # that are in gradients, of which there are ten sums
_CHUNK_ROWS = 64  # of squares, that a thread works on at once
_NO_PIXEL = 4  # after those of a square
_ZERO = np.float32(0)


class DirectConvolution:
    """A 3×3 convolution of few channels with ReLU, then perhaps pooling.

    Args:
        kernel: float32 (3, 3, channels in, channels out).
        biases: float32 (3, 3, channels out), for results in the first, any other and the last
            row, and likewise column.
        height: of the images; there are 2 or more rows and columns of results.
        width: likewise.
        padding: zeros around the images, 0 ("valid") or 1 ("same").
        pools: whether 2×2 maximum pooling follows, which leaves out an odd last row or column.

    Attributes:
        input_shape: (height, width, channels) of the images.
        output_shape: likewise of the outputs.
        image_rows: of squares, in an image.
        chunk_rows: how many of them convolve_rows takes at most.
        buffer_size: numbers in the buffer that it needs.
    """

    def __init__(
        self,
        kernel: np.ndarray,
        biases: np.ndarray,
        height: int,
        width: int,
        *,
        padding: int = 1,
        pools: bool = False,
    ):
        channels, outputs = kernel.shape[2:]
        rows, columns = height - 2 + 2 * padding, width - 2 + 2 * padding
        panels, step = -(-outputs // _LANES), 2 if pools else 1
        self.pools = pools
        self.input_shape = height, width, channels
        self.output_shape = rows // step, columns // step, outputs
        self.image_rows = rows // 2 if pools else (rows + 1) // 2
        self.chunk_rows = _CHUNK_ROWS
        self.buffer_size = 4 * (columns + 3) * channels + 4 * panels * _LANES
        self._padding = padding
        self._kernel = np.zeros((panels, channels, 9, _LANES), np.float32)
        self._biases = np.zeros((3, 3, panels, _LANES), np.float32)
        taps = kernel.reshape(9, channels, outputs)
        for panel in range(panels):
            part = slice(panel * _LANES, (panel + 1) * _LANES)
            count = len(range(outputs)[part])
            self._kernel[panel, ..., :count] = taps[..., part].transpose(1, 0, 2)
            self._biases[..., panel, :count] = biases[..., part]

    def convolve_rows(
        self,
        images: np.ndarray,
        rows: slice,
        buffer: np.ndarray,
        outputs: np.ndarray,
        winners: np.ndarray,
    ) -> None:
        """Compute some of all rows of squares; several threads may, each for other rows.

        Args:
            images: float32 (n, *input_shape).
            rows: of the n * image_rows; chunk_rows or fewer.
            buffer: float32 (buffer_size or more,), of this thread.
            outputs: float32 (n, *output_shape), to write to.
            winners: uint8 (n, *output_shape), likewise, if it pools: which of the four pixels of
                its square each output is, by rows, or 4 where ReLU made it 0. Or no channel of
                that, where nobody wants to know.
        """
        _convolve_rows(
            images,
            self._kernel,
            self._biases,
            self._padding,
            self.pools,
            rows.start,
            rows.stop,
            buffer,
            outputs,
            winners,
        )


def differentiate_kernel(
    images: np.ndarray,
    maps: np.ndarray,
    gradients: np.ndarray,
    kernel: np.ndarray,
    winners: np.ndarray | None = None,
    *,
    padding: int,
) -> tuple[np.ndarray, np.ndarray]:
    """Compute the gradients of a loss by the kernel and bias of a 3×3 convolution with ReLU.

    Args:
        images: float32 (n, height, width, channels), which went in.
        maps: float32 (n, height - 2 + 2 padding, width - 2 + 2 padding, channels out), which came
            out, after bias and ReLU; or (n, rows // 2, columns // 2, channels out) after pooling.
        gradients: of the loss by the maps, likewise.
        kernel: float32 (3, 3, channels, channels out); only its shape counts.
        winners: uint8, as of `DirectConvolution.convolve_rows`, if the maps are pooled.
        padding: zeros around the images, 0 ("valid") or 1 ("same").

    Returns:
        The gradients by the kernel and the bias, float32, in their shapes. They are the same to
        the bit for any number of threads.
    """
    channels, outputs = kernel.shape[2:]
    filled = -(-outputs // _SUM_LANES) * _SUM_LANES
    sums = np.zeros((PARTS, channels, 10, filled), np.float32)
    if winners is None:
        winners = np.empty((*maps.shape[:3], 0), np.uint8)

    def work(part: int, first: int, stop: int) -> None:
        _add_gradients(images, maps, winners, gradients, padding, first, stop, sums[part])

    work_on_parts(work, len(images))
    total = sums.sum(axis=0)[..., :outputs]
    return total[:, :9].transpose(1, 0, 2).reshape(kernel.shape), total[0, 9]


_index, _number = ir.IntType(64), ir.FloatType()


def _at(count: int):
    return ir.Constant(_index, count)


def _load(builder, array, places, kind: ir.Type):
    return builder.load(find_place(builder, array, places, kind), align=1)


def _load_patch(builder, near, column, channels, size: int, kind: ir.VectorType) -> dict:
    """Load one channel of size × size pixels, by row and column, each as a vector of equals.

    Args:
        builder: of the function.
        near: float32 (size, any), rows of pixels.
        column: of the first pixel's channel.
        channels: of a pixel.
        size: as above.
        kind: of the vectors.
    """
    values = {}
    for i, j in np.ndindex(size, size):
        place = builder.add(column, builder.mul(_at(j), channels))
        number = _load(builder, near, (_at(i), place), _number)
        values[i, j] = spread(builder, number, kind)
    return values


def _make_square(pools: bool):
    """Make a function for 2 × 2 pixels of a convolution with ReLU, of _LANES output channels."""
    vector, places = ir.VectorType(_number, _LANES), ir.VectorType(ir.IntType(8), _LANES)
    nothing = ir.Constant(vector, None)

    def rectify(builder, values):
        # Not a maximum, so that what is no number stays so.
        return builder.select(builder.fcmp_ordered("<", values, nothing), nothing, values)

    def larger(builder, one, other):
        return builder.select(builder.fcmp_ordered(">", one, other), one, other)

    def name(pixel: int):
        return ir.Constant(places, [pixel] * _LANES)

    def find_winners(builder, pixels: list, largest):
        winners = name(3)
        for pixel in (2, 1, 0):  # the first one of equals
            equal = builder.fcmp_ordered("==", pixels[pixel], largest)
            winners = builder.select(equal, name(pixel), winners)
        positive = builder.fcmp_ordered(">", largest, nothing)
        return builder.select(positive, winners, name(_NO_PIXEL))

    @intrinsic
    def convolve_square(typing_context, near, kernel, biases, edges, outputs, winners):
        """Compute a square.

        `near` is float32 (4, 4 * channels or more), the square and the pixels around it, `kernel`
        (channels, 9, _LANES), `biases` (3, 3, _LANES); `edges` are the first and second row, then
        column, of biases. The pixels go by rows into `outputs`, float32 (4, _LANES); or the largest
        into the first of them, and which that is into `winners`, uint8 (1, _LANES).
        """

        def generate(context, builder, signature, arguments):
            near, kernel, biases, outputs, winners = (
                context.make_array(signature.args[n])(context, builder, arguments[n])
                for n in (0, 1, 2, 4, 5)
            )
            above, below, left, right = cgutils.unpack_tuple(builder, arguments[3])
            add_product = declare_sum_of_product(builder, vector)
            sums = [cgutils.alloca_once_value(builder, nothing) for _ in range(4)]
            channels, _, _ = cgutils.unpack_tuple(builder, kernel.shape)
            with cgutils.for_range(builder, channels) as loop:
                values = _load_patch(builder, near, loop.index, channels, 4, vector)
                for tap, (i, j) in enumerate(np.ndindex(3, 3)):
                    weights = _load(builder, kernel, (loop.index, _at(tap), _at(0)), vector)
                    for total, (a, b) in zip(sums, np.ndindex(2, 2), strict=True):
                        terms = values[a + i, b + j], weights, builder.load(total)
                        builder.store(builder.call(add_product, terms), total)
            corners = (above, left), (above, right), (below, left), (below, right)
            pixels = [
                builder.fadd(builder.load(total), _load(builder, biases, (*edge, _at(0)), vector))
                for total, edge in zip(sums, corners, strict=True)
            ]
            if pools:
                one, two, three, four = pixels
                largest = larger(builder, larger(builder, one, two), larger(builder, three, four))
                place = find_place(builder, winners, (_at(0), _at(0)), places)
                builder.store(find_winners(builder, pixels, largest), place, align=1)
                pixels = [largest]
            for row, values in enumerate(pixels):
                place = find_place(builder, outputs, (_at(row), _at(0)), vector)
                builder.store(rectify(builder, values), place, align=4)
            return context.get_dummy_value()

        return types.void(near, kernel, biases, edges, outputs, winners), generate

    return convolve_square


def _make_sum(pools: bool):
    """Make a function that sums up gradients in a row of maps, pooled or not."""
    vector, places = ir.VectorType(_number, _SUM_LANES), ir.VectorType(ir.IntType(8), _SUM_LANES)
    nothing, side = ir.Constant(vector, None), 2 if pools else 1

    @intrinsic
    def add_row(typing_context, near, channels, gradients, maps, sums):
        """Add up the gradients by one input channel's nine taps and by the bias, _SUM_LANES each.

        `near` is float32 (side + 2, any), from that channel of the row's first pixel on; `channels`
        are a pixel's. `gradients` are float32 (columns, _SUM_LANES), by the row; `maps` likewise
        that row, or uint8, which pixel of its square each is. `sums` are float32 (10, _SUM_LANES).
        """

        def generate(context, builder, signature, arguments):
            near, gradients, maps, sums = (
                context.make_array(signature.args[n])(context, builder, arguments[n])
                for n in (0, 2, 3, 4)
            )
            channels = arguments[1]
            add_product = declare_sum_of_product(builder, vector)
            targets = [find_place(builder, sums, (_at(n), _at(0)), vector) for n in range(10)]
            totals = [
                cgutils.alloca_once_value(builder, builder.load(target, align=4))
                for target in targets
            ]
            count, _ = cgutils.unpack_tuple(builder, gradients.shape)
            with cgutils.for_range(builder, count) as loop:
                place = loop.index, _at(0)
                gradient = _load(builder, gradients, place, vector)
                values = _load(builder, maps, place, places if pools else vector)
                column = builder.mul(builder.mul(loop.index, _at(side)), channels)
                patch = _load_patch(builder, near, column, channels, side + 2, vector)
                for pixel, (a, b) in enumerate(np.ndindex(side, side)):
                    if pools:
                        named = ir.Constant(places, [pixel] * _SUM_LANES)
                        passes = builder.icmp_unsigned("==", values, named)
                    else:
                        passes = builder.fcmp_ordered(">", values, nothing)
                    slope = builder.select(passes, gradient, nothing)
                    for total, (i, j) in zip(totals, np.ndindex(3, 3), strict=False):
                        terms = patch[a + i, b + j], slope, builder.load(total)
                        builder.store(builder.call(add_product, terms), total)
                    builder.store(builder.fadd(builder.load(totals[-1]), slope), totals[-1])
            for total, target in zip(totals, targets, strict=True):
                builder.store(builder.load(total), target, align=4)
            return context.get_dummy_value()

        return types.void(near, channels, gradients, maps, sums), generate

    return add_row


_convolve_square, _pool_square = _make_square(pools=False), _make_square(pools=True)
_add_row, _add_pooled_row = _make_sum(pools=False), _make_sum(pools=True)
_inline = njit(**OPTIONS)


@_inline
def _copy_rows(image, top, rows):
    """Copy the rows of an image from `top` on, with zeros where it has none."""
    for i in range(len(rows)):
        inside = 0 <= top + i < len(image)
        for k in range(rows.shape[1]):
            rows[i, k] = image[top + i, k] if inside else _ZERO


@_inline
def _find_edge(place, size):
    """Return 0 for the first of some places, 2 for the last, 1 for any other."""
    return 0 if place == 0 else 2 if place == size - 1 else 1


@compile_function
def _convolve_rows(images, kernel, biases, padding, pools, first, stop, buffer, outputs, winners):
    """Compute the rows of squares from `first` to `stop` of all those of the outputs."""
    count, height, width, channels = images.shape
    pixel_rows = images.reshape(count, height, width * channels)
    rows, columns = height - 2 + 2 * padding, width - 2 + 2 * padding
    odd = 0 if pools else 1
    down, across = (rows + odd) // 2, (columns + odd) // 2
    channels_out, panels = outputs.shape[3], len(kernel)
    # Parts of the buffer: pixels, with zeros around the image, and results of a square.
    size = (columns + 3) * channels
    near = buffer[: 4 * size].reshape(4, size)
    square = buffer[4 * size : 4 * size + 4 * panels * _LANES].reshape(panels, 4, _LANES)
    places = np.empty((panels, 1, _LANES), np.uint8)
    inside = near[:, padding * channels : (padding + width) * channels]
    near[:] = 0
    for row in range(first, stop):
        image, y = divmod(row, down)
        _copy_rows(pixel_rows[image], 2 * y - padding, inside)
        for x in range(across):
            edges = (
                _find_edge(2 * y, rows),
                _find_edge(2 * y + 1, rows),
                _find_edge(2 * x, columns),
                _find_edge(2 * x + 1, columns),
            )
            patch = near[:, 2 * x * channels :]
            for panel in range(panels):
                bias, target, winner = biases[:, :, panel], square[panel], places[panel]
                if pools:
                    _pool_square(patch, kernel[panel], bias, edges, target, winner)
                else:
                    _convolve_square(patch, kernel[panel], bias, edges, target, winner)
            for panel in range(panels):
                part = slice(panel * _LANES, min((panel + 1) * _LANES, channels_out))
                if pools:
                    values, winner = outputs[image, y, x, part], winners[image, y, x, part]
                    for k in range(len(values)):
                        values[k] = square[panel, 0, k]
                    for k in range(len(winner)):
                        winner[k] = places[panel, 0, k]
                    continue
                for pixel in range(4):
                    line, column = 2 * y + pixel // 2, 2 * x + pixel % 2
                    if line < rows and column < columns:
                        values = outputs[image, line, column, part]
                        for k in range(len(values)):
                            values[k] = square[panel, pixel, k]


@compile_function
def _add_gradients(images, maps, winners, gradients, padding, first, stop, sums):
    """Add to `sums` the gradients of the images from `first` to `stop`, by channel and tap."""
    count, height, width, channels = images.shape
    pixel_rows = images.reshape(count, height, width * channels)
    _, down, across, outputs = gradients.shape
    pools = winners.shape[3] > 0
    side = 2 if pools else 1
    near = np.zeros((side + 2, (width + 2 * padding) * channels), np.float32)
    inside = near[:, padding * channels : (padding + width) * channels]
    filled = sums.shape[2]
    whole = filled == outputs
    # Rows of maps, with zeros where there are no channels.
    row_gradients = np.zeros((across, filled), np.float32)
    row_maps = np.zeros((across, filled), np.float32)
    row_winners = np.zeros((across, filled), np.uint8)
    for row in range(first * down, stop * down):
        image, y = divmod(row, down)
        _copy_rows(pixel_rows[image], side * y - padding, inside)
        if whole:
            row_gradients = gradients[image, y]
        else:
            row_gradients[:, :outputs] = gradients[image, y]
        if pools and whole:
            row_winners = winners[image, y]
        elif pools:
            row_winners[:, :outputs] = winners[image, y]
        elif whole:
            row_maps = maps[image, y]
        else:
            row_maps[:, :outputs] = maps[image, y]
        for channel in range(channels):
            pixels = near[:, channel:]
            for lane in range(0, filled, _SUM_LANES):
                slopes, target = row_gradients[:, lane:], sums[channel, :, lane:]
                if pools:
                    _add_pooled_row(pixels, channels, slopes, row_winners[:, lane:], target)
                else:
                    _add_row(pixels, channels, slopes, row_maps[:, lane:], target)
