"""Whole pipelines with `dvc repro`."""

import hashlib
import json

import numpy as np
import pandas as pd
import pytest

from imgpipe.readers import raw_reader
from tiny import AUGMENTATION, ROOT, make_project, write_image_tree


def test_a_second_run_runs_nothing(trained):
    lock = (trained.folder / "dvc.lock").read_bytes()
    second = trained.run("dvc", "repro").stdout
    assert "Running stage" not in second
    assert "up to date" in second
    assert (trained.folder / "dvc.lock").read_bytes() == lock


def test_two_projects_give_the_same_bytes(tmp_path):
    """On two machines, as far as one can play two; from pixels, then with a backbone's features."""
    source = write_image_tree(tmp_path / "photos", {"left": 30, "right": 30})
    locks = []
    for folder, umask, environment in (
        ("a", "022", {"PYTHONHASHSEED": "1", "TZ": "UTC", "LC_ALL": "C.UTF-8"}),
        (
            "other folder",
            "077",
            {
                "PYTHONHASHSEED": "2",
                "TZ": "Asia/Tokyo",
                "LC_ALL": "C",
                "PYTHONPATH": str(ROOT / "tests/support/reversed_listings"),
            },
        ),
    ):
        project = make_project(tmp_path / folder / "project")
        project.edit_params(
            dataset="my_images",
            datasets__my_images__source=str(source),
            datasets__my_images__image_size=[32, 32],
            models__cnn1__augmented_epochs=1,
            models__vgg16_block4__augmented_epochs=1,
            models__vgg16_block4__augmentation=AUGMENTATION,
            models__vgg16_block4__features__augmented_copies=1,
        )
        locks.append([])
        for model, target in (("cnn1", ""), ("vgg16_block4", "evaluate")):  # figures once do
            project.edit_params(model=model)
            project.run("sh", "-c", f"umask {umask}; dvc repro {target}", **environment)
            locks[-1].append((project.folder / "dvc.lock").read_text())
    assert locks[0] == locks[1]
    assert locks[0][0] != locks[0][1]


def test_the_test_subset_has_no_way_into_training_which_says_nothing_but_its_epochs(trained):
    """No library's warnings among them, which would mean a mistake in how it is used."""
    weights = trained.folder / "data/model/model.weights.h5"
    before = weights.read_bytes()
    arrays = trained.folder / "data/arrays"
    for name in ("test_images.npy", "test_labels.npy"):
        (arrays / name).unlink()
    (trained.folder / "data/features/test.npy").unlink()
    said = trained.run("python", "-m", "stages.train").stdout.splitlines()
    assert weights.read_bytes() == before
    assert len(said) == 3
    assert all(line.startswith("epoch ") for line in said[:2]) and said[2].startswith("train: ")


def test_metrics_and_tables_agree(trained):
    test = json.loads((trained.folder / "metrics/test.json").read_text())
    train = json.loads((trained.folder / "metrics/train.json").read_text())
    predictions = pd.read_csv(trained.folder / "plots/predictions.csv")
    history = pd.read_csv(trained.folder / "plots/history.csv")
    per_class = pd.read_csv(trained.folder / "plots/per_class.csv")
    assert len(predictions) == test["images"] == per_class["support"].sum() == 60
    right = (predictions["actual"] == predictions["predicted"]).mean()
    assert right == pytest.approx(test["accuracy"])
    assert list(history["epoch"]) == [1, 2]
    assert train["val_accuracy"] == pytest.approx(history["val_accuracy"].max(), abs=1e-6)
    manifest = pd.read_csv(trained.folder / "data/split/manifest.csv")
    assert list(predictions["id"]) == list(manifest.loc[manifest["subset"] == "test", "id"])


def test_a_backbone_keeps_its_weights_with_the_model(trained, tmp_path):
    """Features come from the named file only; a changed file is refused, prediction unaffected."""
    trained.edit_params(model="vgg16_block4")
    weights = tmp_path / "own.weights.h5"
    script = (
        "import keras; keras.utils.set_random_seed(5);"
        "keras.applications.VGG16(weights=None, include_top=False, input_shape=(32, 32, 3))"
        f".save_weights('{weights}')"
    )
    trained.run("python", "-c", script)
    block = "models__vgg16_block4__backbone"
    trained.edit_params(**{f"{block}__weights": str(weights)})
    missing = trained.run("dvc", "repro", check=False)
    assert missing.returncode != 0
    sum_named = missing.stdout.partition("(now ")[2][:64]
    trained.edit_params(**{f"{block}__weights_sha256": sum_named})
    assert trained.repro() == [
        "check_names",
        "check_values",
        "features",
        "train",
        "evaluate",
    ]
    assert np.load(trained.folder / "data/features/test.npy").std() > 0

    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    assert trained.repro() == []  # the parameters still mean the file that was used
    trained.edit_params(**{f"{block}__pooling": "max"})
    changed = trained.run("dvc", "repro", check=False)
    assert changed.returncode != 0
    assert "has the SHA-256 sum" in changed.stdout and "Traceback" not in changed.stdout


def test_the_precision_that_auto_chose_stands_in_the_metrics(finished_backbone_project):
    folder = finished_backbone_project.folder
    chosen = json.loads((folder / "metrics/test.json").read_text())["feature_precision"]
    assert chosen in ("float32", "bfloat16")
    record = json.loads((folder / "metrics/environment.json").read_text())
    assert {stage: entry["precision"] for stage, entry in record.items()} == {
        "features": chosen,
        "train": "float32",
    }


def test_augmented_copies_follow_the_plain_features_whatever_the_seed(trained):
    def compute(**changes):
        trained.edit_params(model="vgg16", **changes)
        trained.run("python", "-m", "stages.features")
        folder = trained.folder / "data/features"
        return {subset: np.load(folder / f"{subset}.npy") for subset in ("train", "val", "test")}

    plain = compute()
    block = {"models__vgg16__augmented_epochs": 1, "models__vgg16__features__augmented_copies": 2}
    features = compute(seed=14, **block)
    count = len(plain["train"])
    assert features["train"].shape == (3 * count, 512)
    np.testing.assert_array_equal(features["train"][:count], plain["train"])
    for subset in ("val", "test"):
        np.testing.assert_array_equal(features[subset], plain[subset])
    blocks = features["train"].reshape(3, count, 512)
    for first, second in ((0, 1), (0, 2), (1, 2)):
        changed = (blocks[first] != blocks[second]).any(axis=1)
        assert changed.mean() > 0.95
    for subset, array in compute(seed=15).items():
        np.testing.assert_array_equal(array, features[subset])


def test_a_head_is_trained_on_plain_features_and_then_on_copies(finished_backbone_project):
    history = pd.read_csv(finished_backbone_project.folder / "plots/history.csv")
    assert list(history["epoch"]) == [1, 2, 3, 4]


def test_arrays_hold_the_raw_images_in_the_manifests_order(trained):
    folder = trained.folder
    manifest = pd.read_csv(folder / "data/split/manifest.csv")
    read = raw_reader(folder / "data/raw")
    for subset in ("train", "val", "test"):
        rows = manifest[manifest["subset"] == subset]
        images = np.load(folder / f"data/arrays/{subset}_images.npy")
        labels = np.load(folder / f"data/arrays/{subset}_labels.npy")
        np.testing.assert_array_equal(images, list(read(rows["row"].to_numpy())))
        np.testing.assert_array_equal(labels, rows["label"])
        assert images.dtype == np.uint8 and labels.dtype == np.int64
        sums = [hashlib.sha256(image.tobytes()).hexdigest() for image in images]
        assert sums == list(rows["sha256"])


def test_results_name_no_place_on_the_machine(trained):
    found = trained.run(
        "grep", "-rIl", str(trained.folder.parent), "data", "plots", "metrics", check=False
    )
    assert found.stdout == ""
