"""imgpipe.unfinished: only the very same work goes on."""

import pytest

from imgpipe import unfinished
from imgpipe.unfinished import open_work


@pytest.fixture
def arguments(tmp_path):
    (tmp_path / "input").write_bytes(b"input")
    return tmp_path / "work", {"seed": 1}, [tmp_path / "input"]


@pytest.fixture
def begun(arguments):
    work = open_work(*arguments)
    (work / "half").touch()
    return work


def test_the_same_work_is_found_again(arguments, begun):
    work = open_work(*arguments)
    assert work == begun and (work / "half").exists()


@pytest.mark.parametrize("change", ["parameters", "input", "environment", "code"])
def test_other_work_begins_anew_and_the_unwanted_goes(
    arguments, begun, change, monkeypatch, tmp_path
):
    folder, parameters, inputs = arguments
    if change == "parameters":
        parameters = {"seed": 2}
    elif change == "input":
        inputs[0].write_bytes(b"other")
    elif change == "environment":
        monkeypatch.setattr(unfinished, "describe_environment", lambda: {"processor": "other"})
    else:
        (tmp_path / "package").mkdir()
        (tmp_path / "package/new.py").touch()
        monkeypatch.setattr(unfinished, "__file__", str(tmp_path / "package/unfinished.py"))
    work = open_work(folder, parameters, inputs)
    assert not list(work.iterdir()) and not begun.exists()
