"""What a user sees of a mistake: one line with the remedy, and no work done."""

import pytest

from imgpipe.files import sha256_of_file
from tiny import CHECKS, DELETED, stages_run


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model": "cnn9"}, "params.yaml: model=cnn9 is not in models; known: cnn1, cnn3, cnn4"),
        ({"dataset": "mnist"}, "params.yaml: dataset=mnist is not in datasets; known: fashion"),
        ({"models__cnn1__epoch": 3}, "params.yaml: unknown key models.cnn1.epoch; did you mean"),
        ({"models__cnn1__dropout": 1.2}, "params.yaml: models.cnn1.dropout=1.2 must lie in [0, 1)"),
        ({"models__cnn1__backbone": DELETED}, "params.yaml: missing key models.cnn1.backbone"),
        (
            {"datasets__fashion_mnist__split": DELETED},
            "params.yaml: missing key datasets.fashion_mnist.split",
        ),
        ({"seed": -1}, "params.yaml: seed=-1 must lie in"),
    ],
)
def test_bad_parameters_stop_before_any_work_and_leave_the_results(trained, changes, message):
    before = results(trained)
    trained.edit_params(**changes)
    result = trained.run("dvc", "repro", check=False)
    assert result.returncode != 0
    assert f"error: {message}" in result.stdout
    assert "Traceback" not in result.stdout
    assert set(stages_run(result.stdout)) <= set(CHECKS)
    assert results(trained) == before


def test_an_unknown_model_in_an_experiment(trained):
    before = results(trained)
    result = trained.run("dvc", "exp", "run", "-S", "model=cnn9", check=False)
    assert result.returncode != 0
    assert "model=cnn9 is not in models" in result.stdout
    assert results(trained) == before


def results(project):
    """Sum all results, but for what the checks write."""
    files = [p for name in ("data", "plots", "metrics") for p in (project.folder / name).rglob("*")]
    return {p: sha256_of_file(p) for p in files if p.is_file() and "checked" not in p.parts}


def test_no_source_answers(project, tmp_path):
    (tmp_path / "empty").mkdir()
    project.edit_params(
        datasets__fashion_mnist__source="/nowhere",
        datasets__fashion_mnist__public_sources=[{"folder": str(tmp_path / "empty")}],
    )
    result = project.run("dvc", "repro", check=False)
    assert result.returncode != 0
    assert "source /nowhere: no such folder" in result.stdout
    assert f"folder {tmp_path / 'empty'}: " in result.stdout
    assert "datasets.<name>.source=" in result.stdout
    assert "Traceback" not in result.stdout
    assert not (project.folder / "data/raw").exists()
    assert not list((project.folder / "data").glob(".*"))


def test_images_too_small_for_the_model(project):
    project.edit_params(model="cnn4", datasets__fashion_mnist__image_size=[8, 8])
    result = project.run("dvc", "repro", check=False)
    assert result.returncode != 0
    assert "models.cnn4 cannot take inputs of shape (8, 8, 1)" in result.stdout
    assert "Traceback" not in result.stdout


def test_a_stage_outside_the_project_folder_says_where_to_run(project, tmp_path):
    result = project.run(
        "sh",
        "-c",
        f"cd {tmp_path} && python -m stages.check x",
        check=False,
        PYTHONPATH=str(project.folder),
    )
    assert result.returncode == 1
    assert "run from the project's folder" in result.stdout
