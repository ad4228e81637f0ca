"""imgpipe.augmentation: geometry by hand, ranges, seeds."""

import math

import numpy as np
import pytest

from imgpipe.augmentation import augment_images, draw_transforms
from imgpipe.schema import Augmentation

NONE = {"rotation": 0.0, "width_shift": 0.0, "height_shift": 0.0, "shear": 0.0, "zoom": 0.0}
FULL = {"rotation": 8.0, "width_shift": 0.08, "height_shift": 0.08, "shear": 0.3, "zoom": 0.08}


def transforms(count=2000, size=(20, 40), seed=(1, 2), **changes):
    settings = Augmentation(**(NONE | changes))
    return draw_transforms(settings, count, size, seed).numpy().astype(float)


def test_no_ranges_change_nothing():
    images = np.random.default_rng(0).integers(0, 256, (4, 9, 7, 3), dtype=np.uint8)
    np.testing.assert_array_equal(augment_images(images, Augmentation(**NONE), (1, 2)), images)


def test_shifts_stay_in_their_range_and_fill_it():
    matrices = transforms(width_shift=0.1, height_shift=0.2)
    np.testing.assert_allclose(matrices[:, [0, 1, 3, 4]], [[1, 0, 0, 1]] * 2000, atol=1e-6)
    for column, limit in ((2, 0.1 * 40), (5, 0.2 * 20)):
        assert 0.95 * limit < np.abs(matrices[:, column]).max() <= limit + 1e-4


def test_rotation_keeps_the_centre_and_lengths():
    matrices = transforms(rotation=30.0)
    a, b, c, d, e, f = matrices[:, :6].T
    np.testing.assert_allclose(a * 19.5 + b * 9.5 + c, 19.5, atol=1e-4)
    np.testing.assert_allclose(d * 19.5 + e * 9.5 + f, 9.5, atol=1e-4)
    np.testing.assert_allclose(a * e - b * d, 1, atol=1e-6)
    angles = np.degrees(np.arctan2(d, a))
    assert 28 < np.abs(angles).max() <= 30.001
    assert abs(angles.mean()) < 1.5


def test_zoom_and_shear():
    zoomed = transforms(zoom=0.2)
    assert 0.8 <= zoomed[:, [0, 4]].min() < 0.82 and 1.18 < zoomed[:, [0, 4]].max() <= 1.2001
    assert not np.allclose(zoomed[:, 0], zoomed[:, 4])  # each axis by itself
    sheared = transforms(shear=10.0)
    angle = np.arcsin(-sheared[:, 1])
    np.testing.assert_allclose(sheared[:, 4], np.cos(angle), atol=1e-6)
    assert np.abs(angle).max() <= math.radians(10) + 1e-6


def test_a_shift_by_whole_pixels_moves_the_picture_and_repeats_the_border(monkeypatch):
    image = np.arange(16, dtype=np.uint8).reshape(1, 4, 4, 1)
    shifted = np.array([[1, 0, 1, 0, 1, 0, 0, 0]], np.float32)  # output x shows input x + 1
    monkeypatch.setattr("imgpipe.augmentation.draw_transforms", lambda *_: shifted)
    moved = augment_images(image, Augmentation(**NONE), (0, 0)).numpy()
    np.testing.assert_array_equal(moved[0, :, :3, 0], image[0, :, 1:, 0])
    np.testing.assert_array_equal(moved[0, :, 3, 0], image[0, :, 3, 0])


@pytest.mark.parametrize("channels", [1, 3])
def test_the_seed_decides(channels):
    images = np.random.default_rng(0).integers(0, 256, (8, 28, 28, channels), dtype=np.uint8)
    before = images.copy()
    settings = Augmentation(**FULL)
    first = augment_images(images, settings, (1, 2)).numpy()
    np.testing.assert_array_equal(first, augment_images(images, settings, (1, 2)))
    assert not np.array_equal(first, augment_images(images, settings, (1, 3)))
    np.testing.assert_array_equal(images, before)
    assert first.dtype == np.uint8 and first.shape == images.shape
