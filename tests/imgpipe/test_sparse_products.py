"""imgpipe.sparse_products: products of matrices, whatever the sizes and the share of zeros."""

import numpy as np
import pytest

from imgpipe import compiled
from imgpipe.sparse_products import multiply, multiply_transposed


def draw(*shape, share=1.0, seed=0):
    """Draw a matrix of which a share is not zero, of some columns more than of others."""
    rng = np.random.default_rng(seed)
    shares = np.minimum(rng.exponential(share, shape[1]), 1) if share < 1 else share
    return np.where(rng.random(shape) < shares, rng.normal(size=shape), 0).astype(np.float32)


@pytest.mark.parametrize("share", [0, 0.1, 1])
@pytest.mark.parametrize(
    ("count", "feature_dim", "units"), [(1, 1, 1), (3, 130, 65), (257, 700, 512), (5, 64, 70_000)]
)
def test_they_are_those_of_all_numbers(count, feature_dim, units, share):
    features, weights = draw(count, feature_dim, share=share), draw(feature_dim, units)
    gradients = draw(count, units, seed=1)
    product, transposed = multiply(features, weights), multiply_transposed(features, gradients)
    assert product.dtype == transposed.dtype == np.float32
    doubled = features.astype(np.float64)
    np.testing.assert_allclose(product, doubled @ weights, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(transposed, doubled.T @ gradients, rtol=1e-4, atol=1e-4)


def test_what_is_no_number_is_not_left_out():
    features, weights = draw(4, 100, share=0.1), draw(100, 64)
    features[2, 50] = np.nan
    assert np.isnan(multiply(features, weights)).all(axis=1).tolist() == [False, False, True, False]
    assert np.isnan(multiply_transposed(features, weights[:4])[50]).all()


def test_they_are_the_same_on_any_number_of_threads(monkeypatch):
    features, weights = draw(100, 3000, share=0.1), draw(3000, 128)
    results = []
    for cores in (1, 2, 3):
        monkeypatch.setattr(compiled.joblib, "cpu_count", lambda cores=cores: cores)
        product = multiply(features, weights)
        results.append((product.tobytes(), multiply_transposed(features, product).tobytes()))
    assert results[0] == results[1] == results[2]


def test_an_inputs_product_does_not_depend_on_its_batch():
    features, weights = draw(50, 500, share=0.1), draw(500, 64)
    together = multiply(features, weights)
    np.testing.assert_array_equal(multiply(features[7:8], weights)[0], together[7])
