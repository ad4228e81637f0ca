"""imgpipe.trained and imgpipe.contract: what is saved comes back, byte for byte."""

import hashlib
import json
import resource

import keras
import numpy as np
import pytest

from imgpipe.backbones import build_backbone
from imgpipe.contract import BACKBONE_WEIGHTS, Contract, load_contract, save_trained
from imgpipe.trained import load_trained
from imgpipe.training import build_model
from tiny import DELETED, make_settings, set_value

BACKBONE = make_settings(layer="block1_pool", pooling="max", scaling="unit")
HEAD = {"standardize": False, "hidden_units": None, "dropout": 0.5}


def contract(backbone=None):
    return Contract(
        dataset="d",
        model="m",
        class_names=["Schuh", "鞋", "a/b"],
        image_size=[28, 28],
        channels=1,
        backbone=backbone,
    )


def test_a_pixel_model(tmp_path):
    model = build_model("cnn1", (28, 28, 1), 3, {"dropout": 0.2})
    sums = []
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        save_trained(tmp_path / name, model, contract(), tmp_path / "unused")
        files = sorted((tmp_path / name).iterdir())
        sums.append({f.name: hashlib.md5(f.read_bytes()).hexdigest() for f in files})
    assert sums[0] == sums[1]
    trained = load_trained(tmp_path / "a")
    assert trained.contract == contract()
    images = np.random.default_rng(0).integers(0, 256, (4, 28, 28, 1), dtype=np.uint8)
    np.testing.assert_array_equal(trained.predict(images), model.predict(images, verbose=0))


def test_a_model_with_a_backbone(tmp_path):
    backbone = build_backbone(BACKBONE, 1)
    backbone.set_weights([w + 0.01 for w in backbone.get_weights()])  # not what building gives
    backbone.save_weights(tmp_path / BACKBONE_WEIGHTS)
    head = build_model("vgg16", (64,), 3, HEAD)
    (tmp_path / "model").mkdir()
    save_trained(tmp_path / "model", head, contract(BACKBONE), tmp_path / BACKBONE_WEIGHTS)
    trained = load_trained(tmp_path / "model")
    images = np.random.default_rng(0).integers(0, 256, (4, 28, 28, 1), dtype=np.uint8)
    features = backbone.predict(images, verbose=0)
    np.testing.assert_allclose(
        trained.predict(images), head.predict(features, verbose=0), atol=1e-3
    )


def test_nothing_was_trained(tmp_path):
    with pytest.raises(FileNotFoundError, match="nothing was trained yet; run dvc repro"):
        load_contract(tmp_path / "contract.json")


@pytest.fixture
def stored(tmp_path):
    """A stored model, and a way to change its description."""
    save_trained(tmp_path, build_model("cnn1", (28, 28, 1), 3, {"dropout": 0.2}), contract(), "")

    def change(edit):
        content = json.loads((tmp_path / "model.json").read_text())
        edit(content)
        (tmp_path / "model.json").write_text(json.dumps(content))

    return tmp_path, change


def refused(folder, file, reason):
    with pytest.raises(ValueError, match=reason) as caught:
        load_trained(folder)
    told = str(caught.value)
    assert told.startswith(f"{folder / file}: ") and told.endswith("; run dvc repro")
    assert told.isprintable() and len(told) < 600


def layer(name, module="keras.layers", **config):
    return {"module": module, "class_name": name, "config": config, "registered_name": None}


CODE = {"class_name": "__lambda__", "config": {"value": ["4wAAAA==", None, None]}}
TOUCH = ["touch", "executed"]


@pytest.mark.parametrize(
    "item",
    [
        layer("Lambda", function=CODE),
        layer("Bidirectional", layer=layer("Lambda", function=CODE)),
        layer("Dense", units=2, activation=CODE),
        layer("Dense", units=2, activation=layer("function", "builtins")),
        layer("Popen", "subprocess", args=TOUCH),
        layer("system", "os", command="touch executed"),
        layer("get_file", "keras.utils", origin="https://example.org"),
        layer("enable_unsafe_deserialization", "keras.config"),
        layer("utils.get_file", "keras"),
        layer("Functional", "keras.src.models.functional", layers=[layer("system", "posix")]),
        layer("TFSMLayer", filepath="/tmp"),
        layer("StringLookup", vocabulary="/etc/passwd"),
        layer("TorchModuleWrapper", module="x"),
        {"class_name": "Lambda", "config": {"function": CODE}},
        {"class_name": ["Lambda"], "config": {}, "module": "keras.layers"},
        {"class_name": "Dense", "config": {"units": 2}, "module": ["keras.layers"]},
    ],
)
def test_nothing_that_a_stored_model_names_is_executed(stored, monkeypatch, item):
    folder, change = stored
    monkeypatch.chdir(folder)
    change(lambda content: content["config"]["layers"].insert(2, item))
    refused(folder, "model.json", r"describes no model \(it (asks for|has a layer) ")
    assert not (folder / "executed").exists()


def test_a_training_that_names_code_is_not_even_looked_at(stored):
    folder, change = stored
    change(lambda content: content.update(compile_config=layer("system", "os")))
    load_trained(folder)


def test_a_model_larger_than_its_weights_is_refused_without_its_memory(stored):
    folder, change = stored
    change(lambda content: content["config"]["layers"][-1]["config"].update(units=10**9))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    refused(folder, "model.json", r"it has [\d,]+ parameters, which model.weights.h5 cannot hold")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 500_000  # KiB


@pytest.mark.parametrize("nested", [False, True])
def test_a_model_of_enormous_maps_is_refused_without_their_memory(stored, nested):
    folder, _ = stored
    inner = [keras.layers.UpSampling2D(600), keras.layers.GlobalAveragePooling2D()]
    inner = [keras.Sequential(inner)] if nested else inner
    layers = [keras.Input((28, 28, 1)), *inner, keras.layers.Dense(3)]
    with keras.StatelessScope(initialize_variables=False):
        description = keras.Sequential(layers).to_json()
    (folder / "model.json").write_text(description)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    refused(folder, "model.json", r"a layer makes 282,240,000 values of one image")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 500_000  # KiB


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "is not whole JSON"),
        (b"{", "is not whole JSON"),
        (b"[" * 100_000, "is not whole JSON"),
        (b"\xff\xfe\x00", "is not whole JSON"),
        (b'{"a": ' + b"9" * 5000 + b"}", "is not whole JSON"),
        (b" " * (17 << 20), "is larger than 16,777,216 bytes"),
        (b"null", None),
        (b"[1]", None),
        (b'"text"', None),
        (b"{}", None),
    ],
)
@pytest.mark.parametrize("file", ["model.json", "contract.json"])
def test_broken_json(stored, file, content, reason):
    folder, _ = stored
    (folder / file).write_bytes(content)
    refused(folder, file, reason or ".")


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"extra": 1}, "extra: Unexpected keyword argument"),
        ({"backbone": DELETED}, "backbone: Field required"),
        ({"class_names": DELETED}, "class_names: Field required"),
        ({"class_names": "abc"}, "class_names: "),
        ({"class_names": [1, 2, 3]}, r"class_names\.0: "),
        ({"class_names": ["a"]}, "class_names: "),
        ({"image_size": [28]}, "image_size: must be "),
        ({"image_size": [28, 10**9]}, r"image_size\.1: must be 1,000,000 or less"),
        ({"channels": 2}, "channels: "),
        ({"channels": True}, "channels: "),
        ({"class_names": ["a", "a", "b"]}, "class_names: must be 2 or more names, each once"),
        ({"class_names": ["a\x1b[31m", "b", "c"]}, "class_names: must hold no line ends"),
        ({"backbone": {"network": "vgg16"}}, r"backbone\.weights: Field required"),
        ({"backbone": 3}, "backbone: "),
    ],
)
def test_contracts_that_are_none(stored, changes, reason):
    folder, _ = stored
    content = json.loads((folder / "contract.json").read_text())
    for key, value in changes.items():
        set_value(content, [key], value)
    (folder / "contract.json").write_text(json.dumps(content))
    refused(folder, "contract.json", reason)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"class_names": ["a", "b"]}, r"into \(3,\) where contract.json asks .* into 2 classes"),
        ({"image_size": [28, 29]}, r"turns \(28, 28, 1\) into .*asks for \(28, 29, 1\)"),
        ({"channels": 3}, r"asks for \(28, 28, 3\)"),
    ],
)
def test_a_contract_of_another_model(stored, changes, reason):
    folder, _ = stored
    content = json.loads((folder / "contract.json").read_text()) | changes
    (folder / "contract.json").write_text(json.dumps(content))
    refused(folder, "model.json", reason)


@pytest.mark.parametrize("file", ["model.json", "model.weights.h5"])
def test_a_file_of_a_model_that_is_missing(stored, file):
    folder, _ = stored
    (folder / file).unlink()
    with pytest.raises(FileNotFoundError, match=rf"{file}: .*; run dvc repro"):
        load_trained(folder)


def test_weights_of_another_model(stored):
    folder, _ = stored
    build_model("cnn1", (28, 28, 1), 4, {"dropout": 0.2}).save_weights(folder / "model.weights.h5")
    refused(folder, "model.weights.h5", "does not hold the weights of")
