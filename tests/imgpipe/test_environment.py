"""imgpipe.environment: on what something was computed."""

import json
import platform
from importlib.metadata import version

from imgpipe.environment import describe_environment, record_environment


def test_it_tells_versions_and_the_processor():
    facts = describe_environment()
    assert facts["python"] == platform.python_version()
    assert facts["packages"]["tensorflow"] == version("tensorflow")
    assert facts["processor"] and facts["cores"] >= 1
    assert facts == describe_environment() == json.loads(json.dumps(facts))


def test_one_entry_a_stage(tmp_path):
    path = tmp_path / "environment.json"
    record_environment(path, "train", "float32")
    record_environment(path, "features", "bfloat16")
    entries = json.loads(path.read_text())
    assert {name: entry["precision"] for name, entry in entries.items()} == {
        "features": "bfloat16",
        "train": "float32",
    }
    record_environment(path, "features", None)  # the model has no backbone
    assert list(json.loads(path.read_text())) == ["train"]


def test_a_damaged_record_is_written_anew(tmp_path):
    (tmp_path / "environment.json").write_text("{half")
    record_environment(tmp_path / "environment.json", "train", "float32")
    assert list(json.loads((tmp_path / "environment.json").read_text())) == ["train"]
