"""imgpipe.embedding: what is alike comes to lie together, the same way each time."""

import numpy as np
import pytest

from imgpipe.embedding import choose_rows, find_components, flatten_images, place_neighbours


def make_clusters(count: int, dimensions: int = 20) -> tuple[np.ndarray, np.ndarray]:
    """Make vectors around three far points; return them and the number of the point."""
    rng = np.random.default_rng(0)
    numbers = np.arange(count) % 3
    centres = 20 * np.eye(3, dimensions)
    return centres[numbers] + rng.normal(size=(count, dimensions)), numbers


@pytest.mark.parametrize(("count", "limit"), [(7, 10), (10, 10), (95, 10)])
def test_rows_are_spread_over_the_table(count, limit):
    rows = choose_rows(count, limit)
    assert len(rows) == min(count, limit) == len(set(rows))
    assert (rows[0], rows[-1]) == (0, count - 1)
    assert np.ptp(np.diff(rows)) <= 1


def test_pixels_are_vectors_and_large_images_are_shrunk():
    images = np.random.default_rng(0).integers(0, 256, (5, 28, 28, 1), dtype=np.uint8)
    vectors = flatten_images(images, np.array([3, 1]))
    np.testing.assert_array_equal(vectors, (images[[3, 1]].reshape(2, -1) / np.float32(255)))
    large = np.repeat(np.repeat(images, 4, axis=1), 2, axis=2)
    assert flatten_images(large, np.arange(5)).shape == (5, 32 * 16)
    colours = np.zeros((2, 64, 64, 3), np.uint8) + np.array([255, 0, 51], np.uint8)
    np.testing.assert_allclose(flatten_images(colours, np.array([0]))[0, :3], [1, 0, 0.2])


@pytest.mark.parametrize("shape", [(200, 30), (30, 200)])
def test_components_keep_distances_as_well_as_they_can(shape):
    vectors = np.random.default_rng(0).normal(size=shape) * np.linspace(9, 1, shape[1])
    components = find_components(vectors)
    centred = vectors - vectors.mean(axis=0)
    values = np.linalg.svd(centred, compute_uv=False)[: components.shape[1]]
    np.testing.assert_allclose(np.linalg.norm(components, axis=0), values, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("shape", [(1, 7), (2, 1), (4, 3), (6, 1)])
@pytest.mark.parametrize("spread", [0, 1])
def test_few_or_equal_vectors_have_places_too(shape, spread):
    vectors = spread * np.random.default_rng(0).normal(size=shape)
    components = find_components(vectors)
    for places in (components[:, :2], place_neighbours(components)):
        assert places.shape == (len(vectors), 2) and np.isfinite(places).all()


def test_neighbours_stay_neighbours_and_a_second_run_is_equal():
    vectors, numbers = make_clusters(90)
    components = find_components(vectors)
    places = place_neighbours(components)
    distances = np.linalg.norm(places[:, None] - places, axis=2)
    np.fill_diagonal(distances, np.inf)
    assert (numbers[distances.argmin(axis=1)] == numbers).mean() > 0.95
    np.testing.assert_array_equal(place_neighbours(components), places)
