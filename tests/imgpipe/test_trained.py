"""imgpipe.trained and imgpipe.contract: what is saved comes back, byte for byte."""

import hashlib

import numpy as np
import pytest

from imgpipe.backbones import build_backbone
from imgpipe.contract import BACKBONE_WEIGHTS, Contract, load_contract, save_trained
from imgpipe.trained import load_trained
from imgpipe.training import build_model
from tiny import make_settings

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
