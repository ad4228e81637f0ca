"""Products with features that are mostly zeros, as those behind a ReLU are.

What is multiplied by zero is left out. Results are the same bytes on any number of threads.
"""

import numpy as np
from numba import njit

from imgpipe.compiled import OPTIONS, allocate_aligned, compile_function, work_on_parts

MOST_SHARE = 0.25  # of features that are not zero, up to which this is faster than to multiply all
LEAST_UNITS = 64  # columns of weights, from which on it is
_CACHED = 2**16  # weights that are multiplied by all rows before the next ones are read: 256 KB
_COLUMNS = 64  # of features, whose rows are listed at once
_inline = njit(**OPTIONS)


def multiply(features: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Compute `features @ weights`.

    Args:
        features: float32 (n, feature_dim).
        weights: float32 (feature_dim, units).

    Returns:
        float32 (n, units).
    """
    outputs = allocate_aligned((len(features), weights.shape[1]))

    def work(_, first: int, stop: int) -> None:
        _multiply(features, weights, first, stop, outputs)

    work_on_parts(work, len(features))
    return outputs


def multiply_transposed(features: np.ndarray, gradients: np.ndarray) -> np.ndarray:
    """Compute `features.T @ gradients`: from the gradient of a product that of its weights.

    Args:
        features: float32 (n, feature_dim).
        gradients: float32 (n, units).

    Returns:
        float32 (feature_dim, units).
    """
    outputs = allocate_aligned((features.shape[1], gradients.shape[1]))

    def work(_, first: int, stop: int) -> None:
        _multiply_transposed(features, gradients, first, stop, outputs)

    work_on_parts(work, features.shape[1])
    return outputs


@_inline
def _list_nonzeros(values, places, found):
    """List the values that are not zero and their places; return how many there are."""
    count = np.uint64(0)
    for place in range(len(values)):
        value = values[place]
        places[count] = place
        found[count] = value
        count += np.uint64(value != 0)
    return np.int64(count)


@_inline
def _add_rows(rows, places, factors, count, outputs, row):
    """Add to a row of outputs the rows at `count` places, each times its factor.

    Four at a time, as the sums are read and written anew each time.
    """
    n = 0
    while n + 4 <= count:
        a, b, c, d = factors[n], factors[n + 1], factors[n + 2], factors[n + 3]
        p, q, r, s = places[n], places[n + 1], places[n + 2], places[n + 3]
        for j in range(outputs.shape[1]):
            total = outputs[row, j] + a * rows[p, j]
            total = total + b * rows[q, j]
            total = total + c * rows[r, j]
            outputs[row, j] = total + d * rows[s, j]
        n += 4
    while n < count:
        a, p = factors[n], places[n]
        for j in range(outputs.shape[1]):
            outputs[row, j] += a * rows[p, j]
        n += 1


@compile_function
def _multiply(features, weights, first, stop, outputs):
    """Compute the rows from `first` to `stop` of the outputs."""
    feature_dim, units = weights.shape
    size = max(1, _CACHED // units)
    places, found = np.empty(size, np.uint32), np.empty(size, np.float32)
    outputs[first:stop] = 0
    for start in range(0, feature_dim, size):
        end = min(start + size, feature_dim)
        block = weights[start:end]
        for row in range(first, stop):
            count = _list_nonzeros(features[row, start:end], places, found)
            _add_rows(block, places, found, count, outputs, row)


@compile_function
def _multiply_transposed(features, gradients, first, stop, outputs):
    """Compute the rows from `first` to `stop` of the outputs."""
    places, found = np.empty(_COLUMNS, np.uint32), np.empty(_COLUMNS, np.float32)
    # For each column the rows in which it is not zero, and what it is there.
    rows = np.empty((_COLUMNS, len(features)), np.uint32)
    factors = np.empty((_COLUMNS, len(features)), np.float32)
    counts = np.empty(_COLUMNS, np.int64)
    for start in range(first, stop, _COLUMNS):
        end = min(start + _COLUMNS, stop)
        counts[:] = 0
        outputs[start:end] = 0
        for row in range(len(features)):
            for n in range(_list_nonzeros(features[row, start:end], places, found)):
                column = places[n]
                count = counts[column]
                rows[column, count] = row
                factors[column, count] = found[n]
                counts[column] = count + 1
        for column in range(end - start):
            listed = rows[column], factors[column], counts[column]
            _add_rows(gradients, *listed, outputs, start + column)
