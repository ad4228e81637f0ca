"""imgpipe.sparse_products: dense layers, whatever the sizes and the share of zeros."""

import numpy as np
import pytest

from imgpipe import compiled
from imgpipe.sparse_products import descend, differentiate, multiply_and_rectify


def draw(*shape, share=1.0, seed=0, dtype=np.float32):
    """Draw a matrix of which a share is not zero, of some columns more than of others."""
    rng = np.random.default_rng(seed)
    shares = np.minimum(rng.exponential(share, shape[-1]), 1) if share < 1 else share
    return np.where(rng.random(shape) < shares, rng.normal(size=shape), 0).astype(dtype)


def draw_layer(count, feature_dim, units, share=0.1):
    """Draw features, weights and biases."""
    features = draw(count, feature_dim, share=share, dtype=np.float16)
    return features, draw(feature_dim, units), draw(units, seed=1)


@pytest.mark.parametrize("share", [0, 0.1, 1])
@pytest.mark.parametrize(
    ("count", "feature_dim", "units"), [(1, 1, 1), (3, 130, 65), (257, 700, 512), (5, 64, 70_000)]
)
def test_it_is_the_layer_and_its_gradients(count, feature_dim, units, share):
    features, weights, biases = draw_layer(count, feature_dim, units, share)
    gradients = draw(count, units, seed=2)
    outputs = multiply_and_rectify(features, weights, biases)
    by_weights, by_biases = differentiate(features, outputs, gradients)
    assert {a.dtype for a in (outputs, by_weights, by_biases)} == {np.dtype(np.float32)}
    close = {"rtol": 1e-4, "atol": 1e-4}
    doubled = features.astype(np.float64)
    sums = doubled @ weights + biases
    np.testing.assert_allclose(outputs, np.maximum(sums, 0), **close)
    slopes = np.where(outputs > 0, gradients, 0)
    np.testing.assert_allclose(by_weights, doubled.T @ slopes, **close)
    np.testing.assert_allclose(by_biases, slopes.sum(axis=0), **close)


@pytest.mark.parametrize(
    ("count", "feature_dim", "units"), [(1, 1, 1), (3, 130, 65), (257, 700, 512)]
)
def test_a_step_of_adam(count, feature_dim, units):
    features, weights, biases = draw_layer(count, feature_dim, units)
    outputs, gradients = multiply_and_rectify(features, weights, biases), draw(count, units, seed=2)
    by_weights, by_biases = differentiate(features, outputs, gradients)
    mean, square = draw(feature_dim, units, seed=3), draw(feature_dim, units, seed=4) ** 2
    rates = np.array([0.01, 0.1, 0.001, 1e-7], np.float32)
    expected_mean = mean + (by_weights - mean) * 0.1
    expected_square = square + (by_weights**2 - square) * 0.001
    expected = weights - 0.01 * expected_mean / (np.sqrt(expected_square) + 1e-7)
    found = descend(features, outputs, gradients, weights, (mean, square), rates)
    np.testing.assert_array_equal(found, by_biases)
    for ours, by_hand in (mean, expected_mean), (square, expected_square), (weights, expected):
        np.testing.assert_allclose(ours, by_hand, rtol=1e-4, atol=1e-5)


def test_the_smallest_numbers_and_signs_count():
    features = np.array([[6e-8, -6e-8, -0.0, 0.0, 65504, -65504]], np.float16)
    outputs = multiply_and_rectify(features, np.eye(6, 64, dtype=np.float32), np.zeros(64, "f4"))
    np.testing.assert_array_equal(outputs[0, :6], np.maximum(features[0], 0).astype(np.float32))
    by_weights, _ = differentiate(features, np.ones((1, 64), "f4"), np.ones((1, 64), "f4"))
    np.testing.assert_array_equal(by_weights[:, 0], features[0].astype(np.float32))


def test_what_is_no_number_is_not_left_out():
    features, weights, biases = draw_layer(4, 100, 64)
    features[2, 50] = np.nan
    outputs = multiply_and_rectify(features, weights, biases)
    assert np.isnan(outputs).all(axis=1).tolist() == [False, False, True, False]
    by_weights, _ = differentiate(features, np.ones_like(outputs), outputs)
    assert np.isnan(by_weights[50]).all()


def test_they_are_the_same_on_any_number_of_threads(monkeypatch):
    features, weights, biases = draw_layer(100, 3000, 128)
    results = []
    for cores in (1, 2, 3):
        monkeypatch.setattr(compiled, "count_cores", lambda cores=cores: cores)
        outputs = multiply_and_rectify(features, weights, biases)
        by_weights, by_biases = differentiate(features, outputs, outputs)
        moved, moments = weights.copy(), (0 * weights, 0 * weights)
        descend(features, outputs, outputs, moved, moments, np.full(4, 0.1, np.float32))
        arrays = outputs, by_weights, by_biases, moved, *moments
        results.append([a.tobytes() for a in arrays])
    assert results[0] == results[1] == results[2]


def test_an_inputs_outputs_do_not_depend_on_its_batch():
    features, weights, biases = draw_layer(50, 500, 64)
    together = multiply_and_rectify(features, weights, biases)
    alone = multiply_and_rectify(features[7:8], weights, biases)
    np.testing.assert_array_equal(alone[0], together[7])
