"""python -m stages.predict, on files of every kind."""

import json

import numpy as np
import pytest
from PIL import Image

from tiny import make_images


def write_kinds(folder, image):
    """Write one picture in many kinds of file; return their names."""
    grey = Image.fromarray(image)
    big = grey.resize((90, 60))
    kinds = {
        "grey.png": grey,
        "big.jpg": big,
        "rgb.png": grey.convert("RGB"),
        "rgba.png": grey.convert("RGBA"),
        "palette.gif": grey.convert("P"),
        "palette with spaces.png": grey.convert("P"),
        "sixteen.png": Image.fromarray(image.astype(np.uint16) * 257),
        "cmyk.tiff": grey.convert("CMYK"),
        "bits.bmp": grey.convert("1"),
    }
    for name, picture in kinds.items():
        picture.save(folder / name)
    return list(kinds)


def evaluated(project):
    """Read the probabilities of each class that `evaluate` gave the first test image."""
    row = np.load(project.folder / "data/evaluation/probabilities.npy")[0]
    contract = json.loads((project.folder / "data/model/contract.json").read_text())
    return dict(zip(contract["class_names"], map(float, row), strict=True))


def test_predicts_any_kind_of_file_as_evaluation_does(trained, tmp_path):
    images = np.load(trained.folder / "data/arrays/test_images.npy")
    names = write_kinds(tmp_path, images[0, ..., 0])
    files = [str(tmp_path / name) for name in names]
    lines = trained.run("python", "-m", "stages.predict", "--json", "--top", "10", *files).stdout
    results = [json.loads(line) for line in lines.splitlines()]
    assert [r["image"] for r in results] == files
    for result in results:
        assert sum(result["classes"].values()) == pytest.approx(1, abs=1e-4)
        assert list(result["classes"].values()) == sorted(result["classes"].values(), reverse=True)
    for name in ("grey.png", "rgb.png", "rgba.png", "sixteen.png"):  # the same pixels
        classes = results[names.index(name)]["classes"]
        assert classes == pytest.approx(evaluated(trained), abs=1e-5), name


def test_top_and_plain_output(trained, tmp_path):
    image = make_images(1)[0][0, ..., 0]
    Image.fromarray(image).save(tmp_path / "a.png")
    output = trained.run("python", "-m", "stages.predict", "--top", "2", str(tmp_path / "a.png"))
    (line,) = output.stdout.splitlines()
    assert line.startswith(f"{tmp_path}/a.png: ")
    assert line.count("%") == 2


def test_a_backbone_model_predicts_with_the_weights_it_was_trained_with(
    finished_backbone_project, tmp_path
):
    project = finished_backbone_project
    image = np.load(project.folder / "data/arrays/test_images.npy")[0, ..., 0]
    Image.fromarray(image).save(tmp_path / "a.png")
    output = project.run(
        "python", "-m", "stages.predict", "--json", "--top", "10", str(tmp_path / "a.png")
    ).stdout
    assert json.loads(output)["classes"] == pytest.approx(evaluated(project), abs=2e-3)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda path: None, "no such file"),
        (lambda path: path.write_bytes(b""), "cannot be decoded"),
        (lambda path: path.write_text("text"), "cannot be decoded"),
    ],
)
def test_bad_files_are_named(trained, tmp_path, make, message):
    path = tmp_path / "x.jpg"
    make(path)
    result = trained.run("python", "-m", "stages.predict", str(path), check=False)
    assert result.returncode == 1
    assert str(path) in result.stdout and message in result.stdout
    assert "Traceback" not in result.stdout


def test_says_what_is_missing_when_nothing_was_trained(project, tmp_path):
    result = project.run("python", "-m", "stages.predict", "x.png", check=False)
    assert result.returncode == 1
    assert "nothing was trained yet; run dvc repro" in result.stdout
