"""imgpipe.augmentation: geometry by hand, ranges, seeds."""

import math

import numpy as np
import pytest

from imgpipe.augmentation import augment_images, augment_part, draw_transforms
from imgpipe.schema import Augmentation

SHIFTS = {"width_shift": 0.0, "height_shift": 0.0}
FLIPS = {"horizontal_flip": False, "vertical_flip": False}
NONE = {"rotation": 0.0, **SHIFTS, "shear": 0.0, "zoom": 0.0, **FLIPS} | {
    "brightness": 0.0,
    "contrast": 0.0,
}
FULL = {
    "rotation": 8.0,
    "width_shift": 0.08,
    "height_shift": 3.0,
    "shear": 0.3,
    "zoom": 0.08,
    "horizontal_flip": True,
    "vertical_flip": True,
    "brightness": 0.3,
    "contrast": 0.3,
}


def make_noise(count, *shape, channels=1):
    return np.random.default_rng(0).integers(0, 256, (count, *shape, channels), dtype=np.uint8)


def augmented(images, seed=(1, 2), **changes):
    return augment_images(images, Augmentation(**(NONE | changes)), seed).numpy()


def transforms(count=2000, size=(20, 40), seed=(1, 2), **changes):
    settings = Augmentation(**(NONE | changes))
    return draw_transforms(settings, count, size, seed).numpy().astype(float)


def test_no_ranges_change_nothing():
    for channels in (1, 3):
        images = make_noise(4, 9, 7, channels=channels)
        np.testing.assert_array_equal(augmented(images), images)


def test_shifts_stay_in_their_range_and_fill_it():
    matrices = transforms(width_shift=0.1, height_shift=0.2)
    np.testing.assert_allclose(matrices[:, [0, 1, 3, 4]], [[1, 0, 0, 1]] * 2000, atol=1e-6)
    for column, limit in ((2, 0.1 * 40), (5, 0.2 * 20)):
        assert 0.95 * limit < np.abs(matrices[:, column]).max() <= limit + 1e-4


def test_a_shift_in_pixels_is_that_share_of_the_image():
    shares = transforms(width_shift=0.1, height_shift=0.2)
    pixels = transforms(width_shift=4.0, height_shift=4.0)  # of 40 and of 20
    np.testing.assert_allclose(shares, pixels, rtol=1e-6)
    one = transforms(width_shift=1.0)
    assert 0.95 < np.abs(one[:, 2]).max() <= 1


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(
    ("flips", "mirrored"),
    [
        ({"horizontal_flip": True}, lambda image: [image, image[:, ::-1]]),
        ({"vertical_flip": True}, lambda image: [image, image[::-1]]),
        (
            {"horizontal_flip": True, "vertical_flip": True},
            lambda image: [image, image[:, ::-1], image[::-1], image[::-1, ::-1]],
        ),
    ],
)
def test_a_flip_gives_the_image_or_its_mirror_image(channels, flips, mirrored):
    images = make_noise(400, 5, 8, channels=channels)
    counts = np.zeros(len(mirrored(images[0])))
    for image, result in zip(images, augmented(images, **flips), strict=True):
        same = [np.array_equal(result, candidate) for candidate in mirrored(image)]
        assert sum(same) == 1
        counts += same
    # Each as often as the others: four deviations of a binomial count on each side.
    share = 1 / len(counts)
    assert np.abs(counts - 400 * share).max() < 4 * (400 * share * (1 - share)) ** 0.5


def test_brightness_adds_one_number_to_all_pixels_of_an_image():
    images = make_noise(200, 6, 6, channels=3) // 4 + 96  # too far from 0 and 255 to be cut
    difference = augmented(images, brightness=0.3).astype(int) - images
    assert (difference == difference[:, :1, :1, :1]).all()
    added = difference[:, 0, 0, 0]
    assert 0.28 * 255 < np.abs(added).max() <= 0.3 * 255 + 0.5
    assert added.min() < 0 < added.max() and len(set(added)) > 60


def test_contrast_scales_about_the_mean():
    images = make_noise(200, 6, 6) // 4 + 96
    changed = augmented(images, contrast=0.5).astype(float)
    np.testing.assert_allclose(changed.mean(axis=(1, 2, 3)), images.mean(axis=(1, 2, 3)), atol=0.5)
    factors = changed.std(axis=(1, 2, 3)) / images.std(axis=(1, 2, 3))
    assert 0.49 < factors.min() < 0.53 and 1.47 < factors.max() < 1.51
    np.testing.assert_array_equal(augmented(np.full((4, 5, 5, 1), 77, np.uint8), contrast=0.5), 77)


@pytest.mark.parametrize("channels", [1, 3])
def test_light_is_cut_at_black_and_white(channels):
    images = make_noise(200, 6, 6, channels=channels)
    changed = augmented(images, brightness=0.9, contrast=0.9).astype(int)
    assert changed.min() == 0 and changed.max() == 255
    # Cut, not wrapped around: of two pixels of an image the brighter one stays no darker.
    for image, result in zip(images, changed, strict=True):
        assert (np.diff(result.ravel()[np.argsort(image, axis=None)]) >= 0).all()


def test_each_image_has_its_own_draw():
    images = np.repeat(make_noise(1, 9, 9, channels=3), 20, axis=0)
    for changes in (FULL, {"rotation": 8.0}, {"brightness": 0.9}, {"contrast": 0.9}):
        assert len({image.tobytes() for image in augmented(images, **changes)}) > 15


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
    images = make_noise(8, 28, 28, channels=channels)
    before = images.copy()
    settings = Augmentation(**FULL)
    first = augment_images(images, settings, (1, 2)).numpy()
    np.testing.assert_array_equal(first, augment_images(images, settings, (1, 2)))
    assert not np.array_equal(first, augment_images(images, settings, (1, 3)))
    np.testing.assert_array_equal(images, before)
    assert first.dtype == np.uint8 and first.shape == images.shape


def test_copies_differ_from_one_another_part_by_part_and_are_the_same_each_time():
    image = make_noise(1, 9, 9, channels=3)
    parts = [np.repeat(image, 3, axis=0), np.repeat(image, 2, axis=0)]
    copies = [
        [augment_part(part, Augmentation(**FULL), copy, n) for n, part in enumerate(parts)]
        for copy in (0, 0, 1)
    ]
    assert [len(part) for part in copies[0]] == [3, 2]
    for first, again in zip(*copies[:2], strict=True):
        np.testing.assert_array_equal(first, again)
    different = np.concatenate([*copies[0], *copies[2]])
    assert len({picture.tobytes() for picture in different}) == 10
    assert (parts[0] == image).all()
