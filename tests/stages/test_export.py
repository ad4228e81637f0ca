"""python -m stages.export: what it refuses, and that nothing unproved gets a name."""

import json
import sys

import numpy as np
import pytest

from imgpipe.contract import Contract
from stages.export import (
    choose_folder,
    main,
    open_images,
    parse_arguments,
    require_packages,
    require_replaceable,
)


@pytest.fixture
def export(finished_project, tmp_path, monkeypatch):
    """Run the stage in a finished project, into tmp_path/out."""
    monkeypatch.chdir(finished_project.folder)
    out = tmp_path / "out"

    def run():
        monkeypatch.setattr(sys, "argv", ["export", "--format", "saved_model", "--out", str(out)])
        main()

    return run, out


def test_only_what_agrees_gets_its_name(export, monkeypatch, capsys):
    run, out = export
    with monkeypatch.context() as patch, pytest.raises(ValueError, match=r"where -1 is allowed"):
        patch.setattr("imgpipe.export.TOLERANCE", -1)
        run()
    assert list(out.parent.iterdir()) == []
    capsys.readouterr()
    run()
    line = capsys.readouterr().out
    assert line.startswith(f"export: {out}, ") and line.count("\n") == 1
    assert "of 60 test images all in the trained model's class" in line
    description = json.loads((out / "export.json").read_text())
    assert description["input"]["shape"] == ["n", 28, 28, 1]
    assert description["comparison"]["images"] == 60
    require_replaceable(out)  # so a second run replaces the first


def test_unknown_formats(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["export", "--format", "onx"])
    with pytest.raises(SystemExit):
        parse_arguments()
    assert "choose from 'onnx', 'tflite', 'saved_model'" in capsys.readouterr().err


def test_missing_packages_are_named_with_the_command_that_installs_them(monkeypatch):
    monkeypatch.setattr("stages.export.find_spec", lambda name: None)
    with pytest.raises(
        ValueError, match=r"needs tf2onnx, onnx, onnxruntime; run .*export.txt --require-hashes"
    ):
        require_packages("onnx")
    require_packages("tflite")
    require_packages("saved_model")


def test_folders_that_are_no_export_are_left_alone(tmp_path):
    (tmp_path / "new").mkdir()
    require_replaceable(tmp_path / "new")
    require_replaceable(tmp_path / "none")
    (tmp_path / "new/README.md").touch()
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    for path in (tmp_path, tmp_path / "new", tmp_path / "new/README.md", tmp_path / "link"):
        with pytest.raises(ValueError, match="exists and is no earlier export"):
            require_replaceable(path)
    (tmp_path / "new/export.json").touch()
    require_replaceable(tmp_path / "new")
    (tmp_path / "new/mine.txt").touch()
    with pytest.raises(ValueError, match="exists and is no earlier export"):
        require_replaceable(tmp_path / "new")


def make_contract(dataset="d", image_size=(28, 28)):
    return Contract(dataset, "m", ["a", "b"], list(image_size), 1, None)


def test_a_name_from_a_stranger_leads_nowhere_else():
    assert str(choose_folder(make_contract(), "onnx")) == "data/export/d-m/onnx"
    for name in ("../x", "a/b", "..", "", "/etc"):
        with pytest.raises(ValueError, match="makes no folder's name; give one with --out"):
            choose_folder(make_contract(name), "onnx")


def test_images_of_another_dataset(finished_project, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"test_images.npy: not found; dvc repro makes it"):
        open_images(make_contract())
    monkeypatch.chdir(finished_project.folder)
    assert open_images(make_contract()).dtype == np.uint8
    with pytest.raises(ValueError, match=r"holds uint8 \(60, 28, 28, 1\) where .* \(32, 32, 1\)"):
        open_images(make_contract(image_size=(32, 32)))
