"""python -m stages.predict, on files of every kind."""

import importlib.util
import json
import os
import re
import signal
import socket
import sys
import time
from urllib.request import Request, urlopen

import numpy as np
import pytest
from PIL import Image

from imgpipe.prediction import rank_classes
from stages import predict
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


@pytest.fixture(scope="module")
def kinds(finished_project, tmp_path_factory):
    """Files of many kinds, and the classes that the command line gives each."""
    folder = tmp_path_factory.mktemp("kinds")
    images = np.load(finished_project.folder / "data/arrays/test_images.npy")
    files = [folder / name for name in write_kinds(folder, images[0, ..., 0])]
    command = ("python", "-m", "stages.predict", "--json", "--top", "10", *map(str, files))
    results = [json.loads(line) for line in finished_project.run(*command).stdout.splitlines()]
    assert [result["image"] for result in results] == list(map(str, files))
    return {file: result["classes"] for file, result in zip(files, results, strict=True)}


def test_predicts_any_kind_of_file_as_evaluation_does(finished_project, kinds):
    for classes in kinds.values():
        assert sum(classes.values()) == pytest.approx(1, abs=1e-4)
        assert list(classes.values()) == sorted(classes.values(), reverse=True)
    for file, classes in kinds.items():
        if file.name in ("grey.png", "rgb.png", "rgba.png", "sixteen.png"):  # the same pixels
            assert classes == pytest.approx(evaluated(finished_project), abs=1e-5), file


def test_the_page_gives_what_the_command_line_gives_and_ends_on_ctrl_c(
    finished_project, kinds, tmp_path
):
    pytest.importorskip("flask")
    large = tmp_path / "large.bmp"  # too large for the server's memory
    Image.new("L", (1000, 1000)).save(large)
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    command = ("python", "-m", "stages.predict", "--serve", "--port", "0", "--top", "10")
    with finished_project.start(*command, TMPDIR=str(scratch)) as process:
        try:
            assert "loading cnn1, trained on fashion_mnist" in process.stdout.readline()
            address = re.search(r"http://127\.0\.0\.1:\d+/", process.stdout.readline())[0]
            for file, classes in kinds.items():
                answer = dict(ask(address, file)["classes"])
                assert list(answer) == list(classes)
                # Of one image a batch, where the command line has all in one.
                assert answer == pytest.approx(classes, abs=2e-6), file
            assert "classes" in ask(address, large)
            start = time.monotonic()
            process.send_signal(signal.SIGINT)
            rest = process.communicate(timeout=30)[0]
        finally:
            process.kill()
    assert time.monotonic() - start < 4  # two seconds, on a machine that does nothing else
    assert rest == "interrupted\n"
    assert process.returncode == 128 + signal.SIGINT
    assert not list(scratch.iterdir())


def ask(address, file):
    """Send an image file as the page does."""
    headers = {"Content-Type": "application/octet-stream"}
    with urlopen(Request(f"{address}predict", file.read_bytes(), headers)) as response:
        return json.load(response)


def test_a_port_that_is_taken():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(OSError, match=f"127.0.0.1:{port}: .*in use.*--port"):
            predict.open_socket("127.0.0.1", port)


def test_says_what_to_install(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"flask: .*--require-hashes -r requirements-serve\.txt"):
        predict.check_packages()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("", "name at least one IMAGE"),
        ("--serve a.png", "--serve takes neither IMAGE"),
        ("--serve --json", "--serve takes neither IMAGE nor --json"),
        ("--serve --port 65536", "--port 65536 must lie in"),
        ("--top 0 a.png", "--top 0 must be 1 or greater"),
    ],
)
def test_words_that_do_not_go_together(monkeypatch, capsys, words, message):
    monkeypatch.setattr(sys, "argv", ["predict", *words.split()])
    with pytest.raises(SystemExit) as error:
        predict.parse_arguments()
    assert error.value.code == 2
    assert message in capsys.readouterr().err


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
        (lambda path: path.mkdir(), "is a folder; name the image files in it"),
        (os.mkfifo, "is a pipe or device; name an image file"),
    ],
)
def test_bad_files_are_named(trained, tmp_path, make, message):
    path = tmp_path / "x.jpg"
    make(path)
    result = trained.run("python", "-m", "stages.predict", str(path), check=False)
    assert result.returncode == 1
    assert str(path) in result.stdout and message in result.stdout
    assert "Traceback" not in result.stdout


def test_a_name_of_any_characters_is_shown_on_one_line_of_any_encoding(trained, tmp_path):
    names = ["two\nlines.png", "\x1b[31mred.png", "not \udcff utf-8.png", "é.png"]
    for name in names:
        make_picture().save(tmp_path / name)
    command = ["python", "-m", "stages.predict", "--top", "1"]
    for encoding in ("ascii", "utf-8"):
        paths = [str(tmp_path / name) for name in names]
        lines = trained.run(*command, *paths, PYTHONIOENCODING=encoding).stdout.splitlines()
        assert len(lines) == len(names) and all(line.isprintable() for line in lines)
        assert "two\\nlines.png" in lines[0]
        answers = trained.run(*command, "--json", *paths, PYTHONIOENCODING=encoding).stdout
        assert [json.loads(line)["image"] for line in answers.splitlines()] == paths
    result = trained.run(*command, str(tmp_path / "no\nfile.png"), check=False)
    assert result.returncode == 1
    assert "no\\nfile.png': no such file" in result.stdout


def make_picture():
    return Image.fromarray(make_images(1)[0][0, ..., 0])


def test_a_model_that_gives_no_numbers_is_told_of():
    with pytest.raises(ValueError, match=r"^data/model: gives probabilities that are no numbers"):
        rank_classes(np.array([0.5, np.nan], np.float32), ["a", "b"], 1)


def test_says_what_is_missing_when_nothing_was_trained(project, tmp_path):
    result = project.run("python", "-m", "stages.predict", "x.png", check=False)
    assert result.returncode == 1
    assert "nothing was trained yet; run dvc repro" in result.stdout
