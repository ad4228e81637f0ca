"""imgpipe.models: parameter counts to the digit, shapes, and the heads."""

import re

import numpy as np
import pytest

from imgpipe.params import load_params
from imgpipe.training import build_model
from tiny import ROOT


def build(name, input_shape, class_count=10, **changes):
    return build_model(name, input_shape, class_count, OPTIONS[name] | changes)


OPTIONS = {
    "cnn1": {"dropout": 0.2},
    "cnn3": {"dropout": [0.25, 0.25, 0.4], "dense_dropout": 0.3},
    "cnn4": {"dropout": [0.25] * 3, "dense_dropout": [0.5] * 2},
    "vgg16": {"standardize": False, "hidden_units": None, "dropout": 0.5},
    "vgg19": {"standardize": False, "hidden_units": 512, "dropout": 0.5},
    "vgg16_block4": {"standardize": True, "hidden_units": 512, "dropout": 0.5},
}


@pytest.mark.parametrize(
    ("name", "input_shape", "classes", "parameters", "trainable"),
    [
        ("cnn1", (28, 28, 1), 10, 693_962, 693_962),
        ("cnn3", (28, 28, 1), 10, 241_546, 241_546),
        ("cnn4", (28, 28, 1), 10, 1_221_546, 1_219_754),
        ("vgg19", (4 * 4 * 512,), 10, 8192 * 512 + 512 + 5130, 8192 * 512 + 512 + 5130),
        ("vgg16", (512,), 3, 1_539, 1_539),
    ],
)
def test_parameter_counts(name, input_shape, classes, parameters, trainable):
    model = build(name, input_shape, classes)
    assert model.count_params() == parameters
    assert sum(np.prod(w.shape) for w in model.trainable_weights) == trainable


@pytest.mark.parametrize("name", list(OPTIONS))
def test_the_committed_options_are_those_tested_here(name, tmp_path):
    text = (ROOT / "params.yaml").read_text()
    (tmp_path / "params.yaml").write_text(re.sub(r"(?m)^model: .*", f"model: {name}", text))
    assert load_params(tmp_path / "params.yaml").options == OPTIONS[name]


@pytest.mark.parametrize("name", ["cnn1", "cnn3", "cnn4"])
def test_layers_follow_the_article(name):
    kinds = {
        "cnn1": "Conv2D MaxPooling2D Dropout Flatten Dense Dense",
        "cnn3": "Conv2D MaxPooling2D Dropout Conv2D MaxPooling2D Dropout Conv2D Dropout Flatten "
        "Dense Dropout Dense",
        "cnn4": "Conv2D BatchNormalization Conv2D BatchNormalization MaxPooling2D Dropout "
        "Conv2D BatchNormalization Dropout Conv2D BatchNormalization MaxPooling2D Dropout Flatten "
        "Dense BatchNormalization Dropout Dense BatchNormalization Dropout Dense",
    }
    model = build(name, (28, 28, 1))
    names = [type(layer).__name__ for layer in model.layers]
    assert names[0] == "Rescaling"
    assert " ".join(names[1:]) == kinds[name]


@pytest.mark.parametrize("name", ["cnn1", "cnn3", "cnn4"])
@pytest.mark.parametrize(("size", "channels", "classes"), [(28, 1, 10), (40, 3, 2)])
def test_probabilities_for_any_size_and_class_count(name, size, channels, classes):
    model = build(name, (size, size, channels), classes)
    images = np.random.default_rng(0).integers(0, 256, (3, size, size, channels), dtype=np.uint8)
    probabilities = model.predict(images, verbose=0)
    assert probabilities.shape == (3, classes)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, atol=1e-5)


def test_images_too_small():
    with pytest.raises(ValueError, match=r"models\.cnn4 cannot take inputs of shape \(8, 8, 1\)"):
        build("cnn4", (8, 8, 1))
