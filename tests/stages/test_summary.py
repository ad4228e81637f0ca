"""python -m stages.summary."""

import json


def test_shows_the_scores_in_the_metrics(trained):
    output = trained.run("python", "-m", "stages.summary").stdout
    scores = json.loads((trained.folder / "metrics/test.json").read_text())
    assert f"{scores['accuracy']:.4f}" in output
    assert "cnn1 on fashion_mnist" in output
    assert "dvc plots show" in output
