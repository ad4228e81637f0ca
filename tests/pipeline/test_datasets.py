"""Whole pipelines on images of one's own."""

import json
import shutil

import pandas as pd
import pytest

from tiny import STAGES, stages_run, write_image_tree, write_tar, write_zip


@pytest.fixture
def tree(tmp_path):
    """A folder of images in two classes, one of them named in another script."""
    return write_image_tree(tmp_path / "photos", {"cat": 24, "собака": 30})


@pytest.fixture
def own(project, tree):
    """A project that is set to that folder."""
    project.edit_params(
        dataset="my_images",
        datasets__my_images__source=str(tree),
        datasets__my_images__image_size=[28, 28],
    )
    return project


def manifest(project):
    return pd.read_csv(project.folder / "data/split/manifest.csv", keep_default_na=False)


def counts(project):
    return json.loads((project.folder / "metrics/split.json").read_text())


def test_a_folder_of_images(own, tree):
    assert own.repro() == STAGES
    assert manifest(own)["class"].value_counts().to_dict() == {"cat": 24, "собака": 30}
    assert counts(own) | {"exact_duplicates": 0, "near_duplicates": 0} == {
        "train": 34,
        "val": 9,
        "test": 11,
        "bad_images": 0,
        "groups": 0,
        "groups_across": 0,
        "exact_duplicates": 0,
        "near_duplicates": 0,
    }
    names = sorted(file.name for file in (own.folder / "data/raw").iterdir())
    assert names == ["images.csv", "images.tar"]
    image = next((tree / "собака").iterdir())
    said = own.run("python", "-m", "stages.predict", str(image)).stdout
    assert "собака" in said and "cat" in said

    assert own.repro() == []
    image.unlink()  # other content under the same path
    assert {"source", "fetch", "split"} <= set(own.repro("split"))
    assert manifest(own)["class"].value_counts()["собака"] == 29
    assert len(list(tree.rglob("*.png"))) == 53  # DVC removed nothing through the link


def test_the_same_images_in_an_archive_give_the_same_results(own, tree, tmp_path):
    own.run("dvc", "repro", "split")
    raw = (own.folder / "data/raw/images.tar").read_bytes()
    table = manifest(own)
    files = {f"photos/{f.relative_to(tree)}": f.read_bytes() for f in tree.rglob("*.png")}
    archives = [write_zip(tmp_path / "a.zip", files), write_tar(tmp_path / "a.tar.gz", files, "gz")]
    for archive in archives:
        own.edit_params(datasets__my_images__source=str(archive))
        ran = stages_run(own.run("dvc", "repro", "split").stdout)
        assert "fetch" in ran and "split" not in ran
        assert (own.folder / "data/raw/images.tar").read_bytes() == raw
        assert manifest(own).equals(table)


def test_a_relative_path_is_refused_with_the_reason(own):
    own.edit_params(datasets__my_images__source="photos")
    result = own.run("dvc", "repro", check=False)
    assert result.returncode != 0
    assert "where a relative path would mean another place" in result.stdout


def test_bad_images(own, tree):
    empty, text, truncated, *_ = bad = sorted((tree / "cat").iterdir())
    empty.write_bytes(b"")
    text.write_bytes(b"no image")
    truncated.write_bytes(truncated.read_bytes()[:200])
    names = [f"cat/{file.name}" for file in bad[:3]]
    result = own.run("dvc", "repro", "split", check=False)
    assert result.returncode != 0 and "Traceback" not in result.stdout
    assert f"error: {names[0]}: " in result.stdout
    assert "(and 2 other files); " in result.stdout
    assert "set on_bad_image: skip" in result.stdout

    own.edit_params(datasets__my_images__on_bad_image="skip")
    own.run("dvc", "repro", "preprocess")
    assert counts(own)["bad_images"] == 3
    left_out = pd.read_csv(own.folder / "data/split/left_out.csv")
    assert list(left_out["id"]) == names
    for name, reason in zip(names, left_out["left_out"], strict=True):
        assert reason.startswith(f"{name}: ")
    assert len(manifest(own)) == 51


def test_copies_are_counted_and_kept_together(own, tree):
    images = sorted((tree / "cat").iterdir())
    for number in range(5):
        shutil.copy(images[number], tree / f"cat/copy-{number}.png")
    own.run("dvc", "repro", "split")
    table = manifest(own)
    assert (table.groupby("sha256")["subset"].nunique() == 1).all()
    assert counts(own)["exact_duplicates"] == {"within": 5, "across": 0, "conflicting": 0}


def test_archives_in_the_shape_of_rock_paper_scissors(project, tmp_path):
    parts = {"rps/rock": 16, "rps/paper": 16, "rps-test-set/rock": 4, "rps-test-set/paper": 4}
    tree = write_image_tree(tmp_path / "tree", parts)
    archives = []
    for part in ("rps", "rps-test-set"):
        files = {str(f.relative_to(tree)): f.read_bytes() for f in (tree / part).rglob("*.png")}
        archives.append(str(write_zip(tmp_path / f"{part}_png.zip", files)))
    project.edit_params(
        dataset="rock_paper_scissors", datasets__rock_paper_scissors__source=archives
    )
    project.run("dvc", "repro", "split")
    table = manifest(project)
    assert (table["subset"] == "test").sum() == 8
    held = table[table["subset"] != "test"]
    assert (held.groupby("group")["subset"].nunique() == 1).all()
    assert held["group"].nunique() == 8 and set(held["subset"]) == {"train", "val"}


def test_a_dataset_without_any_source_says_what_to_do(project):
    project.edit_params(dataset="sneakers")
    result = project.run("dvc", "repro", check=False)
    assert result.returncode != 0
    assert "params.yaml: datasets.sneakers.source=null" in result.stdout
    assert "{train,val,test}/<class>/<image>" in result.stdout


def test_a_missing_folder_is_told_before_any_work(own, tmp_path):
    own.edit_params(datasets__my_images__source=str(tmp_path / "nowhere"))
    result = own.run("dvc", "repro", check=False)
    assert "datasets.my_images.source: " in result.stdout
    assert "nowhere: no such file or folder" in result.stdout
    assert set(stages_run(result.stdout)) <= {"check_names", "check_values", "source"}


def test_a_cross_validation_in_the_queue(own, tmp_path):
    own.edit_params(
        datasets__my_images__split__method="kfold",
        datasets__my_images__split__folds=2,
        datasets__my_images__split__fold=0,
        datasets__my_images__group_pattern="(.+)-",
        models__cnn1__epochs=1,
    )
    own.commit()
    clone = own.clone(tmp_path / "clone")
    folds = "-S", "datasets.my_images.split.fold=0,1"
    clone.run("dvc", "exp", "run", "--queue", *folds, "evaluate")
    clone.run("dvc", "exp", "run", "--run-all")
    tested = []
    for ref in clone.run("git", "for-each-ref", "--format=%(refname)", "refs/exps").stdout.split():
        clone.run("git", "checkout", "-q", ref, "--", "dvc.lock")
        clone.run("dvc", "checkout", "data/split/manifest.csv")
        table = manifest(clone)
        tested += list(table.loc[table["subset"] == "test", "id"])
        assert (table.groupby("group")["subset"].nunique() == 1).all()
    assert len(tested) == len(set(tested)) == 54
    lines = clone.run("python", "-m", "stages.average", "--csv").stdout.splitlines()
    (row,) = pd.read_csv(pd.io.common.StringIO("\n".join(lines))).to_dict("records")
    assert (row["runs"], row["folds"], row["seeds"]) == (2, "0, 1", 13)
    assert 0 <= row["accuracy"] <= 1 and row["accuracy_sd"] >= 0
    assert "±" in clone.run("python", "-m", "stages.average").stdout


def test_sneakers_train_stop_early_and_predict_a_file_by_name(project, tmp_path):
    """The article's network and input size on a folder of the article's shape."""
    parts = {"train/adidas": 10, "train/nike": 10, "test/adidas": 3, "test/nike": 3}
    tree = write_image_tree(tmp_path / "shoes", parts, size=64)
    project.edit_params(
        dataset="sneakers",
        model="sneaker_cnn",
        datasets__sneakers__source=str(tree),
        models__sneaker_cnn__epochs=60,
        models__sneaker_cnn__batch_size=8,
        models__sneaker_cnn__learning_rate=0.001,
        models__sneaker_cnn__early_stopping={"patience": 2, "min_delta": 0.001},
    )
    project.repro()
    scores = json.loads((project.folder / "metrics/test.json").read_text())
    assert scores["parameters"] == 22_175_138 and scores["images"] == 6
    assert len(pd.read_csv(project.folder / "plots/history.csv")) < 60
    file = tree / "test/nike" / sorted(f.name for f in (tree / "test/nike").iterdir())[0]
    said = project.run("python", "-m", "stages.predict", str(file)).stdout
    assert str(file) in said and "nike" in said and "adidas" in said
