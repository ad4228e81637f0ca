"""imgpipe.cifar: planes of red, green and blue become pixels."""

import io

import numpy as np
import pytest

from imgpipe import cifar
from imgpipe.cifar import parse_cifar


def parse(content, name):
    images, labels = zip(*parse_cifar(io.BytesIO(content), name), strict=True)
    return np.concatenate(images), np.concatenate(labels)


@pytest.mark.parametrize("block", [1, 3, 1024])
def test_planes_become_pixels(monkeypatch, block):
    monkeypatch.setattr(cifar, "_BLOCK", block)
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (4, 32, 32, 3), dtype=np.uint8)
    labels = np.array([3, 0, 9, 1], np.uint8)
    content = b"".join(
        bytes([label]) + b"".join(image[..., c].tobytes() for c in range(3))
        for image, label in zip(images, labels, strict=True)
    )
    parsed, parsed_labels = parse(content, "data_batch_1.bin")
    np.testing.assert_array_equal(parsed, images)
    np.testing.assert_array_equal(parsed_labels, labels)


@pytest.mark.parametrize("length", [0, 3072, 3074])
@pytest.mark.parametrize("block", [1, 1024])
def test_another_length_is_refused(length, block, monkeypatch):
    monkeypatch.setattr(cifar, "_BLOCK", block)
    with pytest.raises(ValueError, match=rf"test_batch\.bin: has {length} bytes"):
        parse(bytes(length), "test_batch.bin")


@pytest.mark.parametrize("block", [1, 1024])
def test_a_label_that_cifar_does_not_have_is_refused(block, monkeypatch):
    monkeypatch.setattr(cifar, "_BLOCK", block)
    with pytest.raises(ValueError, match=r"test_batch\.bin: image 1 has the label 10, more than"):
        parse(bytes(3073) + b"\x0a" + bytes(3072), "test_batch.bin")
