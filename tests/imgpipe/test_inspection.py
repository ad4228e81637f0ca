"""imgpipe.inspection: arithmetic counted by hand, maps of every convolution."""

import keras
import numpy as np
import pytest

from imgpipe.backbones import build_backbone
from imgpipe.contract import Contract
from imgpipe.inspection import (
    compute_activation_maps,
    compute_class_activation,
    compute_penultimate,
    count_multiply_adds,
)
from imgpipe.trained import TrainedModel
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


def make_trained(model, backbone=None, settings=None) -> TrainedModel:
    contract = Contract("some", "net", ["a", "b", "c"], [8, 8], 1, settings)
    return TrainedModel(contract, model, backbone)


def make_averaging_model(kind: str) -> keras.Model:
    """Make a network whose last maps are averaged: there Grad-CAM is known in closed form."""
    images = keras.Input((8, 8, 1), dtype="uint8")
    layers = [
        keras.layers.Rescaling(1 / 255),
        keras.layers.Conv2D(4, 3, activation="relu"),
        keras.layers.GlobalAveragePooling2D(),
        keras.layers.Dense(3, activation="softmax"),
    ]
    if kind == "sequential":
        return keras.Sequential([images, *layers])
    x = images
    for layer in layers:
        x = layer(x)
    return keras.Model(images, x)


@pytest.mark.parametrize("kind", ["sequential", "functional"])
def test_class_activation_is_the_weighted_sum_of_the_maps(kind):
    keras.utils.set_random_seed(3)
    model = make_averaging_model(kind)
    images = np.random.default_rng(0).integers(0, 256, (5, 8, 8, 1), dtype=np.uint8)
    labels = np.array([0, 1, 2, 0, 1])
    heat = compute_class_activation(make_trained(model), images, labels)
    convolution = next(x for x in model.layers if isinstance(x, keras.layers.Conv2D))
    maps = convolution(images.astype(np.float32) / 255).numpy()
    kernel = model.layers[-1].kernel.numpy()
    expected = np.maximum(np.einsum("nhwc,cn->nhw", maps, kernel[:, labels]), 0)
    highest = expected.max(axis=(1, 2), keepdims=True)
    assert (highest > 0).any()
    np.testing.assert_allclose(heat, expected / np.where(highest > 0, highest, 1), atol=1e-5)


def test_class_activation_of_a_backbone_goes_through_its_pooling():
    keras.utils.set_random_seed(3)
    settings = make_settings(layer="block1_pool", pooling="avg")
    backbone = build_backbone(settings, 1)
    head = keras.Sequential(
        [keras.Input((64,), dtype="float16"), keras.layers.Dense(3, activation="softmax")]
    )
    images = np.random.default_rng(0).integers(0, 256, (2, 8, 8, 1), dtype=np.uint8)
    labels = np.array([2, 0])
    heat = compute_class_activation(make_trained(head, backbone, settings), images, labels)
    maps = keras.Model(backbone.input, backbone.get_layer("block1_pool").output)(images).numpy()
    kernel = head.layers[-1].kernel.numpy()
    expected = np.maximum(np.einsum("nhwc,cn->nhw", maps, kernel[:, labels]), 0)
    assert heat.shape == (2, 16, 16)
    highest = expected.max(axis=(1, 2), keepdims=True)
    np.testing.assert_allclose(heat, expected / np.where(highest > 0, highest, 1), atol=0.01)


def test_class_activation_of_every_kind_of_model():
    images = np.zeros((2, 28, 28, 1), np.uint8)
    flat = keras.Sequential(
        [keras.Input((28, 28, 1)), keras.layers.Flatten(), keras.layers.Dense(10)]
    )
    labels = np.array([1, 2])
    assert compute_class_activation(make_trained(flat), images, labels).shape == (2, 0, 0)
    options = {"dropout": [0.25] * 3, "dense_dropout": [0.5] * 2}
    model = build_model("cnn4", (28, 28, 1), 10, options)
    heat = compute_class_activation(make_trained(model), images, labels)
    assert heat.shape[0] == 2 and heat.shape[1] > 1
    assert np.isfinite(heat).all() and heat.min() >= 0 and heat.max() <= 1


def test_the_penultimate_layer_and_the_last_one_give_the_predictions():
    model = build_model("cnn1", (28, 28, 1), 10, {"dropout": 0.2})
    images = np.random.default_rng(0).integers(0, 256, (30, 28, 28, 1), dtype=np.uint8)
    rows = np.array([4, 9, 29])
    vectors = compute_penultimate(model, images, rows)
    assert vectors.shape == (3, 128) and vectors.dtype == np.float16
    probabilities = model.layers[-1](vectors.astype(np.float32)).numpy()
    expected = model.predict(images[rows], verbose=0)
    np.testing.assert_allclose(probabilities, expected, atol=0.01)
