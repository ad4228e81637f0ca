"""stages.projector: what it writes, and what it says when the results do not fit together."""

import numpy as np
import pandas as pd
import pytest

from imgpipe import projector
from stages.projector import COLUMNS, PENULTIMATE, PREDICTIONS, PROJECTOR, TEST_IMAGES, main
from tiny import make_images


@pytest.fixture
def results(tmp_path, monkeypatch):
    """Results of a model in the current folder."""
    monkeypatch.chdir(tmp_path)
    images, labels = make_images(12, size=4, channels=3, classes=3)
    for path in (TEST_IMAGES, PENULTIMATE, PREDICTIONS):
        path.parent.mkdir(parents=True, exist_ok=True)
    np.save(TEST_IMAGES, images)
    np.save(PENULTIMATE, np.arange(24, dtype=np.float16).reshape(12, 2))
    names = np.array(["1", "NA", "c"])[labels]
    columns = (range(12), names, names, 0.5)
    pd.DataFrame(dict(zip(COLUMNS, columns, strict=True))).to_csv(PREDICTIONS, index=False)
    return images


def read_vectors(name, count):
    return np.fromfile(PROJECTOR / f"{name}.bytes", "<f4").reshape(count, -1)


def test_the_rows_of_all_files_are_those_of_the_images(results, capsys):
    PROJECTOR.mkdir(parents=True)
    (PROJECTOR / "old").touch()
    main()
    assert "12 test images" in capsys.readouterr().out
    np.testing.assert_allclose(read_vectors("pixels", 12), results.reshape(12, 48) / 255, atol=1e-5)
    np.testing.assert_allclose(read_vectors("model", 12)[:, 1], range(1, 24, 2))
    _, *lines = (PROJECTOR / projector.METADATA).read_text().splitlines()
    assert [line.split("\t")[1] for line in lines[:3]] == ["1", "NA", "c"]
    assert sorted(path.name for path in PROJECTOR.iterdir()) == [
        "metadata.tsv",
        "model.bytes",
        "pixels.bytes",
        "projector_config.pbtxt",
        "sprites.png",
    ]


def test_of_long_vectors_fewer_are_shown(results, monkeypatch):
    monkeypatch.setattr(projector, "MOST_NUMBERS", 8)
    main()
    assert read_vectors("model", 4)[:, 1].tolist() == [1, 9, 15, 23]  # rows 0, 4, 7 and 11
    np.testing.assert_allclose(read_vectors("pixels", 4)[1], results[4].ravel() / 255)


def spoil(path, content):
    def do():
        path.unlink() if content is None else path.write_text(content)

    return do


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (spoil(PREDICTIONS, None), "predictions.csv: not found; dvc repro"),
        (spoil(PREDICTIONS, "id,actual\n1,a\n"), "predictions.csv: is not whole"),
        (spoil(PENULTIMATE, None), "penultimate.npy: not found; dvc repro"),
        (lambda: np.save(PENULTIMATE, np.zeros((11, 2))), r"penultimate.npy 11 for 12 test images"),
    ],
)
def test_results_that_do_not_fit_are_refused_and_the_old_files_stay(results, damage, message):
    main()
    before = (PROJECTOR / "model.bytes").read_bytes()
    damage()
    with pytest.raises((ValueError, OSError), match=message):
        main()
    assert (PROJECTOR / "model.bytes").read_bytes() == before
