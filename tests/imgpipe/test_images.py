"""imgpipe.images: any file, one kind of array."""

import numpy as np
import pytest
from PIL import Image

from imgpipe.images import fit_images, load_image


def save(path, picture, **options):
    picture.save(path, **options)
    return path


def test_transparency_is_white(tmp_path):
    picture = Image.new("RGBA", (4, 4), (255, 0, 0, 0))
    image = load_image(save(tmp_path / "a.png", picture), image_size=[4, 4], channels=3)
    assert (image == 255).all()


def test_exif_orientation_is_applied(tmp_path):
    picture = Image.new("L", (4, 8))
    picture.paste(255, (0, 0, 4, 4))  # the upper half is white
    exif = Image.Exif()
    exif[0x0112] = 3  # upside down
    path = save(tmp_path / "a.png", picture, exif=exif)
    image = load_image(path, image_size=[8, 4], channels=1)
    assert (image[:4] == 0).all() and (image[4:] == 255).all()


def test_sixteen_bits_keep_their_brightness(tmp_path):
    picture = Image.fromarray(np.full((4, 4), 0x8080, np.uint16))
    image = load_image(save(tmp_path / "a.png", picture), image_size=[4, 4], channels=1)
    assert (image == 0x80).all()


def test_shrinking_averages_what_it_covers():
    image = np.zeros((1, 8, 8, 1), np.uint8)
    image[:, ::2] = 200
    small = fit_images(image, image_size=[2, 2], channels=1)
    assert abs(int(small.mean()) - 100) <= 5


def test_grey_becomes_rgb_and_back():
    images = np.random.default_rng(0).integers(0, 256, (3, 5, 5, 1), dtype=np.uint8)
    rgb = fit_images(images, image_size=[5, 5], channels=3)
    assert rgb.shape == (3, 5, 5, 3)
    np.testing.assert_array_equal(fit_images(rgb, image_size=[5, 5], channels=1), images)


def test_nothing_is_copied_where_nothing_changes():
    images = np.zeros((3, 5, 5, 1), np.uint8)
    assert fit_images(images, image_size=[5, 5], channels=1) is images


def test_height_and_width_are_not_swapped():
    assert fit_images(np.zeros((1, 9, 9, 3), np.uint8), image_size=[4, 6], channels=3).shape == (
        (1, 4, 6, 3)
    )


@pytest.mark.parametrize("content", [b"", b"text", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff\xe0"])
def test_undecodable_files_are_named(tmp_path, content):
    (tmp_path / "a.jpg").write_bytes(content)
    with pytest.raises(ValueError, match=r"a\.jpg: cannot be decoded"):
        load_image(tmp_path / "a.jpg", image_size=[4, 4], channels=1)


def test_a_truncated_file(tmp_path):
    path = save(tmp_path / "a.jpg", Image.effect_noise((64, 64), 50))
    path.write_bytes(path.read_bytes()[:500])
    with pytest.raises(ValueError, match="cannot be decoded"):
        load_image(path, image_size=[4, 4], channels=1)
