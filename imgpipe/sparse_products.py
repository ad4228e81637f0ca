"""Products with features that are mostly zeros, as those behind a ReLU are.

What is multiplied by zero is left out: a row of a product is the sum of some rows of the other
matrix, each times what is not zero. Results are the same bytes on any number of threads.
"""

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic

from imgpipe.compiled import (
    OPTIONS,
    allocate_aligned,
    compile_function,
    declare_sum_of_product,
    find_place,
    spread,
    work_on_parts,
)

MOST_SHARE = 0.33  # of features that are not zero, up to which this is faster than to multiply all
LEAST_UNITS = 64  # columns of weights, from which on it is
MOST_ROWS = 2**16  # of features, that lists of them can name
_WIDTH = 64  # sums of a row, which registers hold
_DEPTH = 256  # rows of the other matrix that are copied into a near cache, _WIDTH of each: 64 KB
_COLUMNS = 128  # of features, whose gradients are summed up before the next ones
_PARTS = 8  # that threads take in turn: small ones, as one of them may read the next batch
_LANES = 32  # features that are looked through at once
_LINE = 16  # numbers in a line of the cache
_ZERO = np.float32(0)
_inline = njit(**OPTIONS)


def multiply_and_rectify(
    features: np.ndarray, weights: np.ndarray, biases: np.ndarray
) -> np.ndarray:
    """Compute a dense layer with ReLU, `max(features @ weights + biases, 0)`.

    Args:
        features: float16 (n, feature_dim).
        weights: float32 (feature_dim, units).
        biases: float32 (units,).

    Returns:
        float32 (n, units).
    """
    bits = _view_bits(features)
    (count, feature_dim), units = bits.shape, len(biases)
    blocks = -(-feature_dim // _DEPTH)
    size = blocks, count * _DEPTH + _LANES
    listed = np.empty(size, np.uint16), np.empty(size, np.float32)
    bounds = np.zeros((blocks, count + 1), np.int64)
    outputs = allocate_aligned((count, units))

    def list_rows(_, first: int, stop: int) -> None:
        _list_rows(bits, first, stop, *listed, bounds)

    def work(_, first: int, stop: int) -> None:
        _multiply_columns(*listed, bounds, weights, biases, first, stop, outputs)

    work_on_parts(list_rows, blocks)
    work_on_parts(work, -(-units // _WIDTH), _PARTS)
    return outputs


def differentiate(
    features: np.ndarray, outputs: np.ndarray, gradients: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Compute the gradients of a loss by the weights and biases of a dense layer with ReLU.

    Args:
        features: float16 (n, feature_dim), which went in; MOST_ROWS or fewer.
        outputs: float32 (n, units), which came out.
        gradients: of the loss by the outputs, likewise.

    Returns:
        float32 (feature_dim, units) and (units,).
    """
    by_weights = allocate_aligned((features.shape[1], outputs.shape[1]))
    return by_weights, _go_back(features, outputs, gradients, by_weights)


def descend(
    features: np.ndarray,
    outputs: np.ndarray,
    gradients: np.ndarray,
    weights: np.ndarray,
    moments: tuple[np.ndarray, np.ndarray],
    rates: np.ndarray,
) -> np.ndarray:
    """Do a step of Adam with the weights of a dense layer with ReLU, in their place.

    Their gradient is used where it is computed and stands nowhere as a whole.

    Args:
        features: as in `differentiate`.
        outputs: likewise.
        gradients: likewise.
        weights: float32 (feature_dim, units).
        moments: Adam's, of the gradient and its square, likewise, which are brought up to date too.
        rates: as imgpipe.optimizers.OnePassAdam.find_rates gives them.

    Returns:
        The gradient by the biases, float32 (units,).
    """
    return _go_back(features, outputs, gradients, weights, *moments, rates)


def _go_back(features, outputs, gradients, *targets) -> np.ndarray:
    bits, (count, units) = _view_bits(features), outputs.shape
    slopes = allocate_aligned((-(-units // _WIDTH), count, _WIDTH))
    by_biases = np.zeros(units, np.float32)
    _find_slopes(outputs, gradients, slopes, by_biases)

    def work(_, first: int, stop: int) -> None:
        _multiply_rows(bits, slopes, first, stop, *targets)

    work_on_parts(work, -(-features.shape[1] // _COLUMNS), _PARTS)
    return by_biases


def _view_bits(features: np.ndarray) -> np.ndarray:
    """Return float16 numbers as uint16, with zeros behind them up to a multiple of _LANES."""
    missing = -features.shape[1] % _LANES
    if missing:
        features = np.pad(features, ((0, 0), (0, missing)))
    return features.view(np.uint16)


_index = ir.IntType(64)

# What follows takes whole arrays and places in them: a part of an array would be counted by those
# who hold it, which threads do one after the other.


def _unpack(context, builder, signature, arguments) -> list:
    """Return arrays as such, the numbers of tuples, and other arguments as they are."""
    unpacked = []
    for kind, argument in zip(signature.args, arguments, strict=True):
        if isinstance(kind, types.Array):
            unpacked.append(context.make_array(kind)(context, builder, argument))
        elif isinstance(kind, types.BaseTuple):
            unpacked.append(cgutils.unpack_tuple(builder, argument))
        else:
            unpacked.append(argument)
    return unpacked


@intrinsic
def _add_rows(typing_context, rows, base, places, factors, block, start, stop, targets, row):
    """Add to a row of `targets` the rows at some places, each times its factor.

    `rows` and `targets` are float32 (any, _WIDTH). The places are those from `start` to `stop` in
    `places[block]`, uint16 (blocks, any), counted from `base`; the factors likewise, float32.
    """

    def generate(context, builder, signature, arguments):
        unpacked = _unpack(context, builder, signature, arguments)
        rows, base, places, factors, block, start, stop, targets, row = unpacked
        number, zero, one = ir.FloatType(), ir.Constant(_index, 0), ir.Constant(_index, 1)
        vector = ir.VectorType(number, _WIDTH)
        add_product = declare_sum_of_product(builder, vector)
        target = find_place(builder, targets, (row, zero), vector)
        total = cgutils.alloca_once_value(builder, builder.load(target, align=4))
        with cgutils.for_range_slice(builder, start, stop, one) as (n, _):
            place = builder.load(find_place(builder, places, (block, n), ir.IntType(16)))
            place = builder.add(base, builder.zext(place, _index)), zero
            values = builder.load(find_place(builder, rows, place, vector), align=4)
            factor = builder.load(find_place(builder, factors, (block, n), number))
            terms = values, spread(builder, factor, vector), builder.load(total)
            # "convergent" has LLVM not do four turns in one, which is slower with as few as here.
            builder.store(builder.call(add_product, terms, attrs=("convergent",)), total)
        builder.store(builder.load(total), target, align=4)
        return context.get_dummy_value()

    kinds = rows, base, places, factors, block, start, stop, targets, row
    return types.void(*kinds), generate


@intrinsic
def _copy_row(typing_context, source, place, target, target_place):
    """Copy _WIDTH numbers of float32 matrices, from one place on to another."""

    def generate(context, builder, signature, arguments):
        unpacked = _unpack(context, builder, signature, arguments)
        vector = ir.VectorType(ir.FloatType(), _WIDTH)
        source, target = (find_place(builder, *unpacked[n : n + 2], vector) for n in (0, 2))
        builder.store(builder.load(source, align=4), target, align=4)
        return context.get_dummy_value()

    return types.void(source, place, target, target_place), generate


@intrinsic
def _stream_row(typing_context, source, row, target, target_row, count):
    """Copy the first `count` numbers of a row past the caches, which others need more.

    Both rows begin with a line of the cache, and `count` is a multiple of _LINE.
    """

    def generate(context, builder, signature, arguments):
        unpacked = _unpack(context, builder, signature, arguments)
        source, row, target, target_row, count = unpacked
        vector = ir.VectorType(ir.FloatType(), _LINE)
        mark = builder.module.add_metadata([ir.Constant(ir.IntType(32), 1)])
        zero, step = ir.Constant(_index, 0), ir.Constant(_index, _LINE)
        with cgutils.for_range_slice(builder, zero, count, step) as (column, _):
            values = builder.load(find_place(builder, source, (row, column), vector), align=64)
            place = find_place(builder, target, (target_row, column), vector)
            builder.store(values, place, align=64).set_metadata("nontemporal", mark)
        return context.get_dummy_value()

    return types.void(source, row, target, target_row, count), generate


@intrinsic
def _prefetch_row(typing_context, matrix, place):
    """Have _WIDTH numbers of a matrix brought near, from a place on."""

    def generate(context, builder, signature, arguments):
        matrix, (row, column) = _unpack(context, builder, signature, arguments)
        byte, number = ir.IntType(8), ir.IntType(32)
        kinds = [byte.as_pointer(), number, number, number]
        prefetch = cgutils.get_or_insert_function(
            builder.module, ir.FunctionType(ir.VoidType(), kinds), "llvm.prefetch.p0"
        )
        to_read, to_keep, of_data = (ir.Constant(number, value) for value in (0, 3, 1))
        for n in range(0, _WIDTH, _LINE):
            there = row, builder.add(column, ir.Constant(_index, n))
            there = find_place(builder, matrix, there, byte)
            builder.call(prefetch, [there, to_read, to_keep, of_data])
        return context.get_dummy_value()

    return types.void(matrix, place), generate


@intrinsic
def _list_nonzeros(typing_context, bits, row, start, stop, places, factors, block, count):
    """List which features of a row are not zero, from column `start` to `stop`.

    `bits` are uint16 (n, feature_dim), a float16 each; the columns are a multiple of _LANES. Their
    numbers, counted from `start`, go into `places`, uint16 (blocks, any), of `block` from `count`
    on, and the features into `factors`, float32. Behind them anything may be written, _LANES.
    Returns where the next ones go.
    """

    def generate(context, builder, signature, arguments):
        unpacked = _unpack(context, builder, signature, arguments)
        bits, row, start, stop, places, factors, block, count = unpacked
        half, number = ir.IntType(16), ir.FloatType()
        halves, numbers = ir.VectorType(half, _LANES), ir.VectorType(number, _LANES)
        nothing, anything = ir.Constant(halves, None), ir.Constant(halves, ir.Undefined)
        without_sign = ir.Constant(halves, [0x7FFF] * _LANES)
        lanes = ir.Constant(halves, list(range(_LANES)))
        mask = ir.VectorType(ir.IntType(1), _LANES)
        compress = cgutils.get_or_insert_function(
            builder.module,
            ir.FunctionType(halves, [halves, mask, halves]),
            f"llvm.experimental.vector.compress.v{_LANES}i16",
        )
        end = cgutils.alloca_once_value(builder, count)
        step = ir.Constant(_index, _LANES)
        with cgutils.for_range_slice(builder, start, stop, step) as (column, _):
            values = builder.load(find_place(builder, bits, (row, column), halves), align=2)
            listed = builder.and_(values, without_sign)
            listed = builder.icmp_unsigned("!=", listed, nothing)
            first = spread(builder, builder.trunc(builder.sub(column, start), half), halves)
            columns = builder.call(compress, (builder.add(first, lanes), listed, anything))
            values = builder.call(compress, (values, listed, anything))
            values = builder.bitcast(values, ir.VectorType(ir.HalfType(), _LANES))
            values = builder.fpext(values, numbers)
            target = block, builder.load(end)
            builder.store(columns, find_place(builder, places, target, halves), align=2)
            builder.store(values, find_place(builder, factors, target, numbers), align=4)
            found = builder.ctpop(builder.bitcast(listed, ir.IntType(_LANES)))
            builder.store(builder.add(target[1], builder.zext(found, _index)), end)
        return builder.load(end)

    kinds = bits, row, start, stop, places, factors, block, count
    return types.int64(*kinds), generate


@_inline
def _copy_columns(source, row, count, left, target):
    """Copy columns of some rows of a matrix: _WIDTH from `left` on, or as many as there are."""
    width = min(_WIDTH, source.shape[1] - left)
    for k in range(count):
        if width == _WIDTH:
            _copy_row(source, (row + k, left), target, (k, 0))
        else:
            for column in range(width):
                target[k, column] = source[row + k, left + column]


@_inline
def _allocate(rows):
    """Allocate float32 (rows, _WIDTH) that begins with a line of the cache."""
    memory = np.empty(rows * _WIDTH + _LINE, np.float32)
    start = -(memory.ctypes.data // 4) % _LINE
    return memory[start : start + rows * _WIDTH].reshape(rows, _WIDTH)


@compile_function
def _list_rows(bits, first, stop, places, factors, bounds):
    """List what is not zero in the blocks of _DEPTH columns from `first` to `stop`, by rows."""
    count, feature_dim = bits.shape
    for row in range(count):
        for block in range(first, stop):
            start = block * _DEPTH
            end = min(start + _DEPTH, feature_dim)
            bounds[block, row + 1] = _list_nonzeros(
                bits, row, start, end, places, factors, block, bounds[block, row]
            )


@compile_function
def _multiply_columns(places, factors, bounds, weights, biases, first, stop, outputs):
    """Compute the columns from `first` to `stop` of the outputs, counted in _WIDTH.

    For each block of _DEPTH weights and each row, `places[block]` from `bounds[block, row]` to
    `bounds[block, row + 1]` are those of what is not zero, and `factors` what it is.
    """
    (count, units), feature_dim = outputs.shape, len(weights)
    near, sums = _allocate(_DEPTH), _allocate(count)
    ahead = -(-_DEPTH // count)  # weights that are brought near with each row for the next block
    for left in range(first * _WIDTH, stop * _WIDTH, _WIDTH):
        width = min(_WIDTH, units - left)
        for row in range(count):
            for column in range(width):
                sums[row, column] = biases[left + column]
        for block in range(len(bounds)):
            begin = block * _DEPTH
            following = min(begin + _DEPTH, feature_dim)
            end = min(following + _DEPTH, feature_dim)
            _copy_columns(weights, begin, following - begin, left, near)
            for row in range(count):
                for n in range(following, min(following + ahead, end)):
                    _prefetch_row(weights, (n, left))
                following += ahead
                start, past = bounds[block, row], bounds[block, row + 1]
                _add_rows(near, 0, places, factors, block, start, past, sums, row)
        for row in range(count):
            for column in range(width):
                value = sums[row, column]
                # Not a maximum, so that what is no number stays so.
                outputs[row, left + column] = _ZERO if value < _ZERO else value


@compile_function
def _find_slopes(outputs, gradients, slopes, by_biases):
    """Write the gradients by what ReLU got, cut into columns of _WIDTH, and their sums."""
    count, units = outputs.shape
    for tile in range(len(slopes)):
        left = tile * _WIDTH
        for row in range(count):
            for column in range(min(_WIDTH, units - left)):
                passes = outputs[row, left + column] > _ZERO
                slopes[tile, row, column] = gradients[row, left + column] if passes else _ZERO
            for column in range(min(_WIDTH, units - left)):
                by_biases[left + column] += slopes[tile, row, column]


@compile_function
def _multiply_rows(bits, slopes, first, stop, weights, means=None, squares=None, rates=None):
    """Compute the rows from `first` to `stop` of the gradient by the weights, counted in _COLUMNS.

    They go into `weights`, or where there are Adam's moments the weights there are moved by them.
    """
    tiles, count = slopes.shape[:2]
    feature_dim, units = weights.shape
    rows = slopes.reshape(tiles * count, _WIDTH)
    sums = _allocate(_COLUMNS * tiles)
    sum_rows = sums.reshape(_COLUMNS, tiles * _WIDTH)
    columns = np.empty((1, _COLUMNS + _LANES), np.uint16)
    values = np.empty((1, _COLUMNS + _LANES), np.float32)
    # For each column the rows in which it is not zero, and what it is there.
    places = np.empty((_COLUMNS, count), np.uint16)
    factors = np.empty((_COLUMNS, count), np.float32)
    counts = np.empty(_COLUMNS, np.int64)
    for start in range(first * _COLUMNS, min(stop * _COLUMNS, feature_dim), _COLUMNS):
        end = min(start + _COLUMNS, bits.shape[1])
        counts[:] = 0
        for row in range(count):
            for n in range(_list_nonzeros(bits, row, start, end, columns, values, 0, 0)):
                column = columns[0, n]
                place = counts[column]
                places[column, place] = row
                factors[column, place] = values[0, n]
                counts[column] = place + 1
        end = min(end, feature_dim)
        sums[:] = 0
        for tile in range(tiles):
            for k in range(end - start):
                target = k * tiles + tile
                _add_rows(rows, tile * count, places, factors, k, 0, counts[k], sums, target)
        for k in range(end - start):
            row = start + k
            if means is not None:
                rate, by_mean, by_square, least = rates[0], rates[1], rates[2], rates[3]
                for unit in range(units):
                    gradient, mean, square = sum_rows[k, unit], means[row, unit], squares[row, unit]
                    mean += (gradient - mean) * by_mean
                    square += (gradient * gradient - square) * by_square
                    means[row, unit], squares[row, unit] = mean, square
                    weights[row, unit] -= rate * mean / (np.sqrt(square) + least)
            elif units % _LINE == 0:
                _stream_row(sum_rows, k, weights, row, units)
            else:
                for unit in range(units):
                    weights[row, unit] = sum_rows[k, unit]
