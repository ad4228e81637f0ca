"""The benchmarks start, measure the networks that they say, and fail with one line."""

import json
from importlib import import_module

import numpy as np
import pytest

from benchmarks import accuracy
from benchmarks.contenders.ours import load_params_of, train
from benchmarks.growth import make_project
from benchmarks.images import write_clothes
from benchmarks.networks import count_multiply_adds
from benchmarks.projects import run, run_stage
from benchmarks.race import Contender, find_torch, race
from tiny import ROOT


@pytest.mark.parametrize("name", ["features", "training", "head", "around", "growth"])
def test_each_tells_its_options(name, capsys):
    with pytest.raises(SystemExit) as ended:
        import_module(f"benchmarks.{name}").main(["--help"])
    assert ended.value.code == 0
    assert "--rounds" in capsys.readouterr().out


def test_accuracy_is_that_of_both_ways(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(accuracy, "ARRAYS", tmp_path)
    monkeypatch.setattr(accuracy, "TEST_IMAGES", 20)
    labels = np.arange(200) % 10
    for subset in ("train", "val", "test"):
        np.save(tmp_path / f"{subset}_images.npy", np.full((200, 28, 28, 1), 25, "uint8"))
        np.save(tmp_path / f"{subset}_labels.npy", labels)
    accuracy.main(["--model", "cnn1", "--epochs", "1", "--seeds", "1", "--images", "20"])
    table = capsys.readouterr().out.splitlines()
    accuracies = [line.split("|")[2].strip() for line in table if line[0:1] == "|" and "0." in line]
    assert accuracies == ["0.1000"] * 4  # layers of both kinds, then features of both kinds


def multiply(name: str, size: int, items: int = 1) -> Contender:
    return Contender(name, "matrices", "multiply", {"size": size}, items)


def test_contenders_are_measured_for_one_item():
    # So many that no other process's work beside one of them can hide it.
    results = race([multiply("one", 700), multiply("many", 700, items=10**4)], 5, "matrices")
    assert list(results) == ["one", "many"]
    assert 10**3 < results["one"].seconds / results["many"].seconds < 10**5
    assert all(result.peak_memory > 3 * 4 * 700**2 for result in results.values())


def test_a_contender_that_fails_is_named_with_the_reason():
    with pytest.raises(ValueError, match=r"^broken: its process ended \(ValueError: neg.*\); mend"):
        race([multiply("broken", -1)], 1, "matrices")


def test_an_interpreter_without_pytorch_is_refused(tmp_path):
    with pytest.raises(ValueError, match="cannot be run"):
        find_torch(str(tmp_path / "python"))
    with pytest.raises(ValueError, match="cannot import torch"):
        find_torch("/bin/false")


def test_multiply_adds_are_those_of_the_published_network():
    assert count_multiply_adds(224) == 15_346_630_656  # without the three dense layers


@pytest.mark.parametrize("name", ["cnn1", "cnn3", "cnn4"])
def test_the_articles_networks_are_those_of_the_project(name, monkeypatch):
    from keras.layers import Rescaling

    from benchmarks.contenders.plain_keras import build_network
    from imgpipe.training import build_model

    def describe(model):
        layers = [layer for layer in model.layers if not isinstance(layer, Rescaling)]
        shapes = [(type(layer), layer.count_params(), layer.output.shape) for layer in layers]
        return shapes, [layer.rate for layer in layers if hasattr(layer, "rate")]

    monkeypatch.chdir(ROOT)
    shape = (28, 28, 1)
    ours = build_model(name, shape, 10, load_params_of(name).options)
    assert describe(build_network(name, shape)) == describe(ours)


def test_training_laps_once_an_epoch(tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    files, laps = write_clothes(tmp_path, "train", 512), []

    def lap():
        laps.append(None)
        if len(laps) == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train.__wrapped__(lap, model="cnn1", augmented=True, **files)


def test_a_failing_command_is_told_with_its_last_line(tmp_path):
    assert run(tmp_path, "true").peak_memory > 0
    with pytest.raises(ValueError, match=r"-c .*: failed \(no photos\)"):
        run(tmp_path, "sh", "-c", "echo no photos; exit 3")


def test_a_copy_takes_generated_photos_through_the_first_stages(tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    project = make_project(tmp_path / "copy", 200)
    for stage in ("fetch", "split"):
        run_stage(project, stage)
    counts = json.loads((project / "metrics/split.json").read_text())
    assert (counts["train"], counts["bad_images"], counts["exact_duplicates"]["within"]) == (
        128,
        0,
        0,
    )
