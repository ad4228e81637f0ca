"""imgpipe.fingerprints: equal pixels, equal sums; similar looks, similar hashes."""

import hashlib
import io
import weakref

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from imgpipe import fingerprints
from imgpipe.duplicates import NEAR_BITS
from imgpipe.fingerprints import _shrink, fingerprint_images


def make_pictures(count):
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 256, (count, 12, 12, 3), dtype=np.uint8)
    return [Image.fromarray(c).resize((64, 48), Image.Resampling.BICUBIC) for c in coarse]


def hashes_of(pictures):
    return fingerprint_images(map(np.asarray, pictures))["perceptual_hash"].to_numpy()


def recompress(picture):
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=80)
    return Image.open(file)


def test_sums_are_of_the_pixels():
    images = np.random.default_rng(0).integers(0, 256, (3, 8, 8, 1), dtype=np.uint8)
    sums = fingerprint_images([images[0], images[1], images[0]])["sha256"]
    assert sums[0] == sums[2] == hashlib.sha256(images[0].tobytes()).hexdigest() != sums[1]


def test_what_looks_alike_has_nearly_the_same_hash():
    pictures = make_pictures(40)
    hashes = hashes_of(pictures)
    for change in (recompress, lambda p: p.resize((128, 96)), lambda p: p.point(lambda v: v * 0.9)):
        bits = np.bitwise_count(hashes ^ hashes_of(map(change, pictures)))
        assert (bits <= NEAR_BITS).mean() > 0.9
    others = np.bitwise_count(hashes[:, None] ^ hashes)[~np.eye(40, dtype=bool)]
    assert others.min() > 8


def test_an_image_that_cannot_be_had_keeps_its_reason():
    table = fingerprint_images([ValueError("a.jpg: is empty"), np.zeros((8, 8, 3), np.uint8)])
    assert list(table["error"]) == ["a.jpg: is empty", ""]
    assert table["sha256"][0] == "" and len(table["sha256"][1]) == 64


@pytest.mark.parametrize("channels", [1, 3])
def test_an_image_has_the_same_hash_alone_and_among_others(channels):
    rng = np.random.default_rng(1)
    for height in [*range(1, 100), 127, 224, 333]:
        images = list(rng.integers(0, 256, (5, height, 7, channels), dtype=np.uint8))
        images.insert(2, ValueError("cannot be decoded"))
        images.append(rng.integers(0, 256, (9, 8, channels), dtype=np.uint8))
        together = fingerprint_images(iter(images))
        alone = pd.concat([fingerprint_images([image]) for image in images], ignore_index=True)
        pd.testing.assert_frame_equal(together, alone)


@pytest.mark.parametrize("size", [(64, 64), (300, 300), (100, 60), (45, 200), (28, 28)])
def test_an_image_is_shrunk_to_the_same_pixels_alone_and_among_others(size):
    """The hash does not show a pixel that is rounded in another way, but once in 100,000 images."""
    images = list(np.random.default_rng(1).integers(0, 256, (7, *size, 3), dtype=np.uint8))
    alone = np.concatenate([_shrink([image]) for image in images])
    for count in range(2, 8):
        np.testing.assert_array_equal(_shrink(images[:count]), alone[:count])


def test_a_large_image_is_let_go_before_the_next_is_decoded(monkeypatch):
    """Two of the largest at once would take a worker more memory than it may have."""
    monkeypatch.setattr(fingerprints, "_STACK_SIZE", 1)
    last = None

    def images():
        nonlocal last
        for height in (8, 8, 9):
            assert last is None or last() is None
            image = np.zeros((height, 8, 3), np.uint8)
            last = weakref.ref(image)
            yield image
            del image

    assert len(fingerprint_images(images())) == 3
