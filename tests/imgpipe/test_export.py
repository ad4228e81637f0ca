"""imgpipe.export: each format, run by its own runtime, gives what the trained model gives."""

import json
import re
import zipfile

import keras
import numpy as np
import pytest
from PIL import Image

import tiny
from imgpipe.backbones import build_backbone
from imgpipe.contract import Contract
from imgpipe.export import (
    DESCRIPTION,
    FORMATS,
    choose_images,
    compare_export,
    describe_export,
    join_network,
    run_export,
    write_network,
    write_readme,
)
from imgpipe.files import write_json
from imgpipe.images import decode_image, fit_images
from imgpipe.trained import TrainedModel
from imgpipe.training import build_model

CLASS_NAMES = ["Schuh", "鞋", "a/b"]


def randomize(model):
    """Give every weight a value that training might have given, normalisation's included."""
    rng = np.random.default_rng(0)
    model.set_weights([w + rng.uniform(-0.05, 0.05, w.shape) for w in model.get_weights()])


def make_pixel_model():
    """Make a model with batch normalisation, on grey images."""
    model = build_model("cnn4", (20, 20, 1), 3, {"dropout": [0.25] * 3, "dense_dropout": [0.5] * 2})
    randomize(model)
    return TrainedModel(make_pixel_contract(), model, None)


def make_pixel_contract():
    return Contract("d", "m", CLASS_NAMES, [20, 20], 1, None)


def make_backbone_model(precision="float32", channels=3):
    """Make a model whose backbone shrinks one side of the images and stretches the other."""
    settings = tiny.make_settings(image_size=[32, 40], layer="block1_pool", precision=precision)
    backbone = build_backbone(settings, channels)
    randomize(backbone)  # not what building gives
    head = {"standardize": True, "hidden_units": 8, "dropout": 0.5}
    model = build_model("vgg16_block4", backbone.output_shape[1:], 3, head)
    model.layers[0].adapt(backbone(make_images(channels=channels)))
    contract = Contract("d", "m", CLASS_NAMES, [48, 36], channels, settings)
    return TrainedModel(contract, model, backbone)


def make_images(size=(48, 36), channels=3):
    """Make images that a model tells apart."""
    images, _ = tiny.make_images(34, size=max(size), channels=channels)
    return np.ascontiguousarray(images[:, : size[0], : size[1]])


@pytest.fixture(scope="module", params=[make_pixel_model, make_backbone_model])
def trained(request):
    trained = request.param()
    return trained, join_network(trained)


@pytest.mark.filterwarnings("ignore::UserWarning:tensorflow.lite.python.interpreter")
@pytest.mark.parametrize("format", FORMATS)
def test_every_format_gives_what_the_model_gives(trained, format, tmp_path, monkeypatch, capsys):
    if format == "onnx":
        pytest.importorskip("tf2onnx")
    trained, network = trained
    contract = trained.contract
    images = make_images(contract.image_size, contract.channels)
    description = describe_export(contract)
    path = write_network(format, network, tmp_path, description)
    comparison = compare_export(run_export(format, path, images), trained, images)
    assert comparison.images == 34
    assert comparison.tolerance == (1e-4 if trained.backbone is None else 0.05)

    # The code in the README does with a photograph what this project does.
    write_json(description, tmp_path / DESCRIPTION)
    write_readme(tmp_path / "README.md", format, description, comparison)
    exif = Image.Exif()
    exif[0x0112] = 6  # on its side
    Image.fromarray(make_images((60, 50))[0]).save(tmp_path / "photo.jpg", exif=exif)
    monkeypatch.chdir(tmp_path)
    (code,) = re.findall(r"```python\n(.*?)```", (tmp_path / "README.md").read_text(), re.S)
    values = {}
    exec(code, values)
    photo = fit_images(
        [decode_image(tmp_path / "photo.jpg", "photo.jpg")],
        image_size=contract.image_size,
        channels=contract.channels,
    )
    np.testing.assert_array_equal(values["images"], photo)
    expected = trained.predict(photo)
    np.testing.assert_allclose(values["probabilities"], expected, atol=comparison.tolerance)
    assert capsys.readouterr().out.startswith(CLASS_NAMES[expected.argmax()])
    assert read_description(format, path) == description


def read_description(format, path):
    """Read what is inside the network's file, or, of a SavedModel, its folder."""
    if format == "onnx":
        import onnx

        (entry,) = onnx.load(path).metadata_props
        assert entry.key == "imgpipe"
        return json.loads(entry.value)
    if format == "tflite":
        return json.loads(zipfile.ZipFile(path).read(DESCRIPTION))
    return json.loads((path / DESCRIPTION).read_text())


def test_a_backbone_in_bfloat16_is_joined_in_float32(monkeypatch):
    trained = make_backbone_model("bfloat16", channels=1)
    network = join_network(trained)
    images = make_images(channels=1)[:6]
    exported = network.predict(images, verbose=0)["probabilities"]
    comparison = compare_export(exported, trained, images)
    assert comparison.tolerance == 0.25
    assert comparison.largest_difference > 1e-4  # the trained model is the one in bfloat16
    with pytest.raises(ValueError, match=r"up to .* where 0.0001 is allowed"):
        compare_export(trained.predict(images), trained, images)
    monkeypatch.setattr(TrainedModel, "predict", lambda self, images: exported[::-1])
    with pytest.raises(ValueError, match=r"up to .* where 0.25 is allowed"):
        compare_export(exported, trained, images)


def test_what_differs_is_refused():
    layers = [keras.Input((20, 20, 1), dtype="uint8"), keras.layers.Rescaling(1 / 255)]
    layers += [keras.layers.Flatten(), keras.layers.Dense(3, activation="softmax")]
    trained = TrainedModel(make_pixel_contract(), keras.Sequential(layers), None)
    images = make_images((20, 20), 1)
    expected = trained.predict(images)
    near = expected + np.float32(5e-5)
    assert compare_export(near, trained, images).largest_difference == pytest.approx(5e-5, rel=0.1)
    for wrong in (expected + np.float32(2e-4), expected[::-1], expected * np.float32(np.nan)):
        with pytest.raises(ValueError, match=r"differ .* by up to .* where 0.0001 is allowed"):
            compare_export(wrong, trained, images)
    with pytest.raises(ValueError, match="gives float64"):
        compare_export(expected.astype(float), trained, images)


def test_what_cannot_be_converted_is_told_in_one_line(tmp_path):
    with pytest.raises(ValueError, match=r"cannot be converted to tflite \(.*try another") as error:
        write_network("tflite", None, tmp_path, {})
    assert "\n" not in str(error.value)


def test_images_to_compare_on_are_spread_evenly():
    images = np.arange(10_001)
    assert choose_images(images, 1_000_000).tolist()[::333] == [0, 3333, 6666, 10_000]
    assert len(choose_images(images, 15_000_000_000)) == 100
    assert len(choose_images(images, 10**15)) == 50
    assert choose_images(images[:7], 10**15).tolist() == list(range(7))


def test_the_documentation_shows_the_code_that_is_written():
    text = (tiny.ROOT / "docs/export.md").read_text()
    for format in FORMATS.values():
        assert format.runtime in text
        assert format.usage in text
