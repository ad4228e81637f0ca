"""imgpipe.backbones: the same features as plain Keras, one scaling, any cut."""

import h5py
import keras
import numpy as np
import pytest
import tensorflow as tf

from imgpipe import backbones
from imgpipe.backbones import build_backbone, extract_features, resolve_precision
from tiny import make_settings

IMAGES = np.random.default_rng(0).integers(0, 256, (5, 32, 32, 3), dtype=np.uint8)


def features(images=IMAGES, batch_size=2, **changes):
    backbone = build_backbone(make_settings(**changes), images.shape[-1])
    return np.concatenate(list(extract_features(backbone, [images[:3], images[3:]], batch_size)))


def plain_keras(scaled, layer="block2_pool"):
    keras.utils.set_random_seed(backbones.RANDOM_WEIGHTS_SEED)
    network = keras.applications.VGG16(weights=None, include_top=False, input_shape=(32, 32, 3))
    return keras.Model(network.input, network.get_layer(layer).output).predict(scaled, verbose=0)


def test_the_features_are_plain_keras_features():
    scaled = keras.applications.vgg16.preprocess_input(IMAGES.astype(np.float32))
    maps = plain_keras(scaled)
    for pooling, expected in (
        ("avg", maps.mean(axis=(1, 2))),
        ("max", maps.max(axis=(1, 2))),
        ("flatten", maps.reshape(5, -1)),
    ):
        ours = features(pooling=pooling)
        assert ours.dtype == np.float16
        np.testing.assert_allclose(ours, expected, rtol=2e-3, atol=2e-3)


def test_unit_scaling_is_the_other_one_and_never_both():
    expected = plain_keras(IMAGES.astype(np.float32) / 255).mean(axis=(1, 2))
    np.testing.assert_allclose(features(scaling="unit"), expected, rtol=2e-3, atol=1e-4)


def test_images_are_left_as_they_were():
    before = IMAGES.copy()
    features()
    np.testing.assert_array_equal(IMAGES, before)


@pytest.mark.parametrize(
    ("channels", "changes"),
    [
        (1, {"layer": "block1_conv1", "image_size": [33, 40]}),
        (3, {"layer": "block1_conv2", "image_size": [40, 33], "scaling": "unit"}),
        (1, {"layer": "block3_conv2", "image_size": [37, 50], "pooling": "max", "scaling": "unit"}),
        (3, {"layer": "block5_pool", "image_size": [32, 50], "pooling": "flatten"}),
        (1, {"layer": "block3_pool", "network": "vgg19", "image_size": [70, 32]}),
    ],
)
def test_they_are_those_of_the_network_as_keras_runs_it(channels, changes):
    images = IMAGES[..., :channels]
    backbone = build_backbone(make_settings(**changes), channels)
    (ours,) = extract_features(backbone, [images], batch_size=3)
    expected = backbone.predict(images, verbose=0)
    np.testing.assert_allclose(ours, expected, rtol=6e-4, atol=1e-5 * expected.max())


def test_keras_is_left_what_it_does_faster(monkeypatch):
    in_float32, in_bfloat16 = (
        build_backbone(make_settings(precision=p), 3) for p in ("float32", "bfloat16")
    )
    assert backbones._has_fast_convolutions(in_float32)
    assert not backbones._has_fast_convolutions(in_bfloat16)
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: ["GPU"])
    assert not backbones._has_fast_convolutions(in_float32)


@pytest.mark.parametrize("channels", [1, 3])
def test_features_have_the_same_bytes_in_any_batch(channels):
    images = IMAGES[..., :channels]
    np.testing.assert_array_equal(features(images, batch_size=1), features(images, batch_size=5))


def test_no_images_have_no_features():
    backbone = build_backbone(make_settings(), 3)
    (nothing,) = extract_features(backbone, [IMAGES[:0]], batch_size=2)
    assert nothing.shape == (0, 128)


def test_the_network_is_the_same_with_and_without_a_graph():
    backbone = build_backbone(make_settings(image_size=[45, 45]), 3)
    np.testing.assert_allclose(backbone(IMAGES), backbone.predict(IMAGES, verbose=0), rtol=1e-4)


def test_grey_is_repeated_to_rgb():
    grey = IMAGES[..., :1]
    rgb = np.repeat(grey, 3, axis=-1)
    np.testing.assert_allclose(features(grey), features(rgb), rtol=1e-3)


def test_images_are_resized_inside():
    small = features(IMAGES[:, :16, :16], image_size=[48, 40], pooling="flatten")
    assert small.shape == (5, 12 * 10 * 128)


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_lower_precision_agrees_with_float32(precision):
    exact, rough = (features(precision=p).astype(np.float64) for p in ("float32", precision))
    cosine = (exact * rough).sum(1) / np.linalg.norm(exact, axis=1) / np.linalg.norm(rough, axis=1)
    assert cosine.min() > 0.999
    assert keras.config.dtype_policy().name == "float32"  # no global state is left behind


def test_vgg19_at_the_articles_size_has_its_shape_and_count():
    backbone = build_backbone(
        make_settings(
            network="vgg19", layer="block5_pool", pooling="flatten", image_size=[150, 150]
        ),
        1,
    )
    assert backbone.output_shape == (None, 8192)
    assert backbone.count_params() == 20_024_384
    assert not backbone.trainable_weights


def test_vgg16_has_its_count():
    backbone = build_backbone(make_settings(layer="block5_pool", pooling="max"), 3)
    assert backbone.count_params() == 14_714_688


def save_legacy(network, path):
    """Save weights in the layout of the files that keras.applications downloads."""
    from keras.src.legacy.saving.legacy_h5_format import save_weights_to_hdf5_group

    with h5py.File(path, "w") as file:
        save_weights_to_hdf5_group(file, network)


@pytest.mark.parametrize("layout", ["own.weights.h5", "vgg16_notop.h5"])
def test_weights_of_both_layouts_are_loaded(tmp_path, layout):
    keras.utils.set_random_seed(7)
    network = keras.applications.VGG16(weights=None, include_top=False, input_shape=(32, 32, 3))
    path = tmp_path / layout
    network.save_weights(path) if "weights" in layout else save_legacy(network, path)
    backbone = build_backbone(make_settings(layer="block5_pool"), 3, path)
    for layer in network.layers:
        for ours, theirs in (
            zip(backbone.get_layer(layer.name).weights, layer.weights, strict=True)
            if layer.weights
            else ()
        ):
            np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("content", [b"", b"text", b"\x89HDF\r\n\x1a\n" + b"\0" * 100])
def test_a_file_that_holds_no_weights(tmp_path, content):
    path = tmp_path / "own.weights.h5"
    path.write_bytes(content)
    with pytest.raises(ValueError, match="does not hold the weights of vgg16"):
        build_backbone(make_settings(), 3, path)


def test_weights_of_another_network(tmp_path):
    path = tmp_path / "own.weights.h5"
    keras.applications.VGG19(weights=None, include_top=False, input_shape=(32, 32, 3)).save_weights(
        path
    )
    with pytest.raises(ValueError, match="does not hold the weights of vgg16"):
        build_backbone(make_settings(), 3, path)


@pytest.mark.parametrize(
    ("devices", "capability", "expected"),
    [([], None, "float32"), (["GPU"], (7, 5), "float32"), (["GPU"], (8, 0), "bfloat16")],
)
def test_precision(monkeypatch, devices, capability, expected):
    details = {"compute_capability": capability}
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: devices)
    monkeypatch.setattr(tf.config.experimental, "get_device_details", lambda device: details)
    assert resolve_precision("auto") == expected
    assert resolve_precision("float16") == "float16"
