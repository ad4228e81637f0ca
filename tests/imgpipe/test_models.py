"""imgpipe.models: parameter counts to the digit, shapes, and the heads."""

import re
import sys
from types import SimpleNamespace

import numpy as np
import pytest

from imgpipe import training
from imgpipe.params import load_params
from tiny import ROOT


def build(name, input_shape, class_count=10, **changes):
    return training.build_model(name, input_shape, class_count, OPTIONS[name] | changes)


OPTIONS = {
    "cnn1": {"dropout": 0.2},
    "cnn3": {"dropout": [0.25, 0.25, 0.4], "dense_dropout": 0.3},
    "cnn4": {"dropout": [0.25] * 3, "dense_dropout": [0.5] * 2},
    "cifar_cnn": {"dropout": 0.4},
    "sneaker_cnn": {"pooling": "average", "dropout": [0.3, 0.3]},
    "mpox_cnn": {"pooling": "average", "dropout": [0.3, 0.4, 0.5]},
    "vgg16": {"standardize": False, "hidden_units": None, "dropout": 0.5},
    "vgg19": {"standardize": False, "hidden_units": 512, "dropout": 0.5},
    "vgg16_avg": {"standardize": True, "hidden_units": None, "dropout": 0.5},
    "vgg16_block4": {"standardize": True, "hidden_units": 512, "dropout": 0.5},
}
PIXEL_MODELS = ["cnn1", "cnn3", "cnn4", "cifar_cnn", "sneaker_cnn", "mpox_cnn"]


@pytest.mark.parametrize(
    ("name", "input_shape", "classes", "parameters", "trainable"),
    [
        ("cnn1", (28, 28, 1), 10, 693_962, 693_962),
        ("cnn3", (28, 28, 1), 10, 241_546, 241_546),
        ("cnn4", (28, 28, 1), 10, 1_221_546, 1_219_754),
        ("cifar_cnn", (32, 32, 3), 10, 122_570, 122_570),
        ("sneaker_cnn", (224, 224, 3), 2, 22_175_138, 22_175_138),
        ("mpox_cnn", (240, 240, 3), 2, 22_249_378, 22_249_378),
        ("vgg19", (4 * 4 * 512,), 10, 8192 * 512 + 512 + 5130, 8192 * 512 + 512 + 5130),
        ("vgg16", (512,), 3, 1_539, 1_539),
    ],
)
def test_parameter_counts(name, input_shape, classes, parameters, trainable):
    model = build(name, input_shape, classes)
    assert model.count_params() == parameters
    assert sum(np.prod(w.shape) for w in model.trainable_weights) == trainable


@pytest.mark.parametrize(
    ("name", "input_shape", "option"),
    [
        ("cifar_cnn", (32, 32, 3), {"dropout": None}),
        ("sneaker_cnn", (40, 40, 3), {"pooling": "max"}),
        ("mpox_cnn", (40, 40, 3), {"pooling": "max"}),
    ],
)
def test_an_option_that_costs_no_parameter(name, input_shape, option):
    usual, changed = build(name, input_shape), build(name, input_shape, **option)
    assert changed.count_params() == usual.count_params()
    assert kinds(changed) != kinds(usual)


@pytest.mark.parametrize("name", list(OPTIONS))
def test_the_committed_options_are_those_tested_here(name, tmp_path):
    text = (ROOT / "params.yaml").read_text()
    (tmp_path / "params.yaml").write_text(re.sub(r"(?m)^model: .*", f"model: {name}", text))
    assert load_params(tmp_path / "params.yaml").options == OPTIONS[name]


def kinds(model):
    return [type(layer).__name__ for layer in model.layers]


@pytest.mark.parametrize("name", PIXEL_MODELS)
def test_layers_follow_the_article(name):
    expected = {
        "cnn1": "Conv2D MaxPooling2D Dropout Flatten Dense Dense",
        "cnn3": "Conv2D MaxPooling2D Dropout Conv2D MaxPooling2D Dropout Conv2D Dropout Flatten "
        "Dense Dropout Dense",
        "cnn4": "Conv2D BatchNormalization Conv2D BatchNormalization MaxPooling2D Dropout "
        "Conv2D BatchNormalization Dropout Conv2D BatchNormalization MaxPooling2D Dropout Flatten "
        "Dense BatchNormalization Dropout Dense BatchNormalization Dropout Dense",
        "cifar_cnn": "Conv2D MaxPooling2D Conv2D MaxPooling2D Conv2D Dropout Flatten Dense Dense",
        "sneaker_cnn": "Conv2D AveragePooling2D Conv2D MaxPooling2D Dropout Conv2D Dropout "
        "Flatten Dense Dense",
        "mpox_cnn": "Conv2D AveragePooling2D Conv2D AveragePooling2D Dropout Conv2D "
        "AveragePooling2D Dropout Conv2D Dropout Flatten Dense Dense",
    }
    first, *rest = kinds(build(name, (40, 40, 1)))
    assert first == "Rescaling"
    assert " ".join(rest) == expected[name]


@pytest.mark.parametrize("name", PIXEL_MODELS)
@pytest.mark.parametrize(("size", "channels", "classes"), [(38, 1, 10), (40, 3, 2)])
def test_probabilities_for_any_size_and_class_count(name, size, channels, classes):
    model = build(name, (size, size, channels), classes)
    images = np.random.default_rng(0).integers(0, 256, (3, size, size, channels), dtype=np.uint8)
    probabilities = model.predict(images, verbose=0)
    assert probabilities.shape == (3, classes)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, atol=1e-5)


@pytest.mark.parametrize(
    ("name", "least"), list(zip(PIXEL_MODELS, [4, 18, 16, 18, 18, 38], strict=True))
)
def test_images_too_small(name, least):
    build(name, (least, least, 1))
    for shape in ((least - 1, least - 1, 1), (60, least - 1, 3)):
        with pytest.raises(ValueError, match=re.escape(f"cannot take inputs of shape {shape}: ")):
            build(name, shape)
    with pytest.raises(ValueError) as caught:
        build(name, (2, 3, 1))
    assert str(caught.value) == (
        f"models.{name} cannot take inputs of shape (2, 3, 1): images must be {least}×{least} "
        "pixels or larger; set a larger image_size in the dataset's block or choose another model"
    )


def test_a_model_that_fails_for_another_reason_tells_it(monkeypatch):
    def build_model(image_shape, class_count):
        raise ValueError(f"no layer takes {class_count} classes\nmore")

    module = SimpleNamespace(build_model=build_model)
    monkeypatch.setitem(sys.modules, "imgpipe.models.mine", module)
    with pytest.raises(ValueError, match=r"of shape \(28, 28, 1\): no layer takes 3 classes$"):
        training.build_model("mine", (28, 28, 1), 3, {})
