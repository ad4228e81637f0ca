"""Convolutions as they are defined, in float64, to compare those of imgpipe with."""

import numpy as np


def draw(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def convolve_plainly(images, kernel, bias, pools=False, padding=1):
    _, height, width, _ = images.shape
    height, width, edge = height - 2 + 2 * padding, width - 2 + 2 * padding, (padding, padding)
    padded = np.pad(images.astype(np.float64), ((0, 0), edge, edge, (0, 0)))
    maps = sum(
        padded[:, i : i + height, j : j + width] @ kernel[i, j].astype(np.float64)
        for i in range(3)
        for j in range(3)
    )
    maps = np.maximum(maps + bias, 0)
    if pools:
        maps = maps[:, : height // 2 * 2, : width // 2 * 2]
        maps = maps.reshape(len(maps), height // 2, 2, width // 2, 2, -1).max(axis=(2, 4))
    return maps


def draw_gradients(*shape, pools):
    """Draw what came out of a convolution, the gradients by it, and what pooling took.

    Args:
        *shape: (n, rows, columns, channels) before any pooling.
        pools: whether 2×2 pooling follows.

    Returns:
        maps, gradients, winners or None, and the gradients by what was there before ReLU and
        pooling.
    """
    count, rows, columns, channels = shape
    slopes = np.zeros(shape)
    if not pools:
        maps, gradients = draw(*shape, seed=1), draw(*shape, seed=2)
        slopes[:] = np.where(maps > 0, gradients, 0)
        return maps, gradients, None, slopes
    shape = count, rows // 2, columns // 2, channels
    maps, gradients = draw(*shape, seed=1), draw(*shape, seed=2)
    winners = np.random.default_rng(3).integers(0, 5, shape).astype(np.uint8)
    for y, x in np.ndindex(2, 2):
        part = slopes[:, y : 2 * shape[1] : 2, x : 2 * shape[2] : 2]
        part[:] = np.where(winners == 2 * y + x, gradients, 0)
    return maps, gradients, winners, slopes


def differentiate_plainly(images, slopes, kernel, padding):
    """Differentiate a convolution without ReLU: by images, kernel and bias."""
    _, height, width, _ = images.shape
    _, rows, columns, _ = slopes.shape
    edge = (padding, padding)
    padded = np.pad(images.astype(np.float64), ((0, 0), edge, edge, (0, 0)))
    by_padded, by_kernel = np.zeros_like(padded), np.zeros(kernel.shape)
    for i, j in np.ndindex(3, 3):
        window = np.s_[:, i : i + rows, j : j + columns]
        by_padded[window] += slopes @ kernel[i, j].T
        by_kernel[i, j] = np.tensordot(padded[window], slopes, ((0, 1, 2), (0, 1, 2)))
    by_images = by_padded[:, padding : padding + height, padding : padding + width]
    return by_images, by_kernel, slopes.sum((0, 1, 2))


def assert_near(values, expected):
    assert values.shape == expected.shape
    np.testing.assert_allclose(values, expected, atol=3e-5 * max(1, np.abs(expected).max()))
