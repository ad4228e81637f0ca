"""imgpipe.inspection: arithmetic counted by hand, maps of every convolution."""

import keras
import numpy as np
import pytest

from imgpipe.backbones import build_backbone
from imgpipe.inspection import compute_activation_maps, count_multiply_adds
from imgpipe.training import build_model
from tiny import make_settings


def test_multiply_adds_of_cnn1():
    model = build_model("cnn1", (28, 28, 1), 10, {"dropout": 0.2})
    assert count_multiply_adds(model) == 26 * 26 * 32 * 9 + 13 * 13 * 32 * 128 + 1280


@pytest.mark.parametrize("channels", [1, 3])
def test_multiply_adds_of_a_backbone_follow_its_own_image_size(channels):
    settings = make_settings(layer="block1_pool", image_size=[40, 32])
    backbone = build_backbone(settings, channels)
    expected = 40 * 32 * 64 * 9 * (3 + 64)
    assert count_multiply_adds(backbone) == expected


def test_activation_maps():
    options = {"dropout": [0.25] * 3, "dense_dropout": [0.5] * 2}
    model = build_model("cnn4", (28, 28, 1), 10, options)
    image = np.random.default_rng(0).integers(0, 256, (28, 28, 1), dtype=np.uint8)
    maps = compute_activation_maps(model, image)
    assert [m.shape for m in maps.values()] == [
        (26, 26, 32),
        (24, 24, 32),
        (10, 10, 64),
        (8, 8, 128),
    ]
    first = next(layer for layer in model.layers if isinstance(layer, keras.layers.Conv2D))
    expected = first(image[np.newaxis].astype(np.float32) / 255).numpy()[0]
    np.testing.assert_allclose(next(iter(maps.values())), expected, atol=1e-5)


def test_a_model_without_convolutions_has_no_maps():
    model = keras.Sequential(
        [keras.Input((4, 4, 1)), keras.layers.Flatten(), keras.layers.Dense(3)]
    )
    assert compute_activation_maps(model, np.zeros((4, 4, 1), np.uint8)) == {}
    assert count_multiply_adds(model) == 48


def test_depthwise_convolutions_count_once_a_channel():
    model = keras.Sequential([keras.Input((8, 8, 5)), keras.layers.DepthwiseConv2D(3)])
    assert count_multiply_adds(model) == 6 * 6 * 5 * 9
