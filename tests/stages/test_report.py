"""python -m stages.report, on what the stages write and on files that are missing or broken."""

import re
import shutil
import sys

import pytest

from stages import report

READ = ("params.yaml", "dvc.lock", "metrics", "plots", "data/model", "data/evaluation")
IMAGES = "data/arrays/test_images.npy"


@pytest.fixture
def results(finished_project, tmp_path, monkeypatch):
    """A folder with the results of the finished project, to change at will; the current one."""
    for name in (*READ, IMAGES):
        source, target = finished_project.folder / name, tmp_path / name
        target.parent.mkdir(parents=True, exist_ok=True)
        (shutil.copytree if source.is_dir() else shutil.copyfile)(source, target)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_writes_a_page_of_all_there_is(results, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["report", "--out", "page.html"])
    report.main()
    assert capsys.readouterr().out.startswith("report: page.html, ")
    page = (results / "page.html").read_text("utf-8")
    assert "cnn1 on fashion_mnist: test accuracy" in page
    for section in ("samples", "inside", "embedding", "calibration", "mistakes"):
        assert f'<section id="{section}">' in page
    assert str(results) not in page
    assert "params.yaml has changed" not in page
    pictures = re.findall(r'"data:image/png;base64,([^"]+)"', page)
    assert len(pictures) == len(set(pictures)) >= len(report.PICTURES)  # none twice


def test_pictures_of_convolutions_are_left_out_where_there_are_none(results):
    report.np.savez(results / report.ACTIVATIONS)
    assert not {"activations", "class_activation"} & set(report.read_results().pictures)


def test_what_is_not_essential_may_be_missing(results):
    shutil.rmtree(results / "data/evaluation")
    for name in ("metrics/split.json", "metrics/environment.json", "plots/reliability.csv", IMAGES):
        (results / name).unlink()
    for path in results.glob("plots/*.png"):
        path.unlink()
    read = report.read_results()
    assert read.split is read.reliability is read.test_images is None
    assert read.environments == {} and read.pictures == {} and read.revision is None


def test_a_changed_parameter_is_noticed(results):
    path = results / "params.yaml"
    path.write_text(
        path.read_text().replace("seed: 13  # of the first", "seed: 14  # of the first")
    )
    assert report.read_results().changed_params == ["seed"]


def edit(old, new):
    return lambda path: path.write_text(path.read_text().replace(old, new))


@pytest.mark.parametrize(
    ("name", "damage", "message"),
    [
        ("data/model/contract.json", lambda path: path.unlink(), "nothing was trained yet"),
        ("metrics/test.json", lambda path: path.unlink(), "metrics/test.json: not found"),
        ("metrics/test.json", edit('"loss"', '"lost"'), "metrics/test.json: loss: "),
        ("metrics/train.json", lambda path: path.write_text("{"), "is not whole JSON"),
        ("metrics/environment.json", edit("python", "pithon"), "environment.json: train.python"),
        ("plots/history.csv", lambda path: path.unlink(), "plots/history.csv: not found"),
        ("plots/history.csv", edit("val_loss", "x"), "history.csv: must have rows of epoch,"),
        ("plots/per_class.csv", lambda path: path.write_bytes(b"\xff\x00"), "is not CSV"),
        ("plots/predictions.csv", edit(",0.", ",many"), "must be numbers in each row"),
        ("plots/predictions.csv", edit("Trouser", "Trousers"), "classes that the model does not"),
        (
            "plots/predictions.csv",
            lambda path: path.write_text("\n".join(path.read_text().splitlines()[:-1])),
            "59 rows for 60 test images",
        ),
        ("plots/samples.png", lambda path: path.write_bytes(b"PNG"), "is not a whole PNG"),
        (
            "params.yaml",
            edit("model: cnn1", "model: cnn3"),
            "asks for cnn3 on fashion_mnist, the results here are of cnn1",
        ),
    ],
)
def test_missing_and_broken_files_are_named_with_the_remedy(results, name, damage, message):
    path = results / name
    path.chmod(0o644)  # DVC's outputs are read-only
    damage(path)
    with pytest.raises((ValueError, OSError), match=message) as error:
        report.read_results()
    assert "run dvc repro" in str(error.value)
    assert "\n" not in str(error.value)
