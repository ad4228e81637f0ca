"""DVC does not follow imports: what a stage imports must stand in its deps."""

import ast
import re
from pathlib import Path

import pytest
import yaml

from tiny import ROOT, STAGES

PIPELINE = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
MODELS = sorted(path.stem for path in (ROOT / "imgpipe/models").glob("*.py"))


def imported_files(file: Path) -> set[Path]:
    """List the first-party files that a file imports, at its top or inside functions."""
    found = set()
    for node in ast.walk(ast.parse(file.read_text())):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        candidates = (ROOT / f"{name.replace('.', '/')}.py" for name in names)
        found |= {path for path in candidates if path.is_file()}
    return found


def follow_imports(file: Path) -> set[str]:
    """List all first-party files that a file needs, itself included, relative to the root."""
    seen, open_files = set(), {file}
    while open_files:
        path = open_files.pop()
        seen.add(path)
        open_files |= imported_files(path) - seen
    return {str(path.relative_to(ROOT)) for path in seen}


def test_the_pipeline_has_the_stages_of_the_scripts():
    assert list(PIPELINE) == STAGES
    for name, stage in PIPELINE.items():
        assert stage["cmd"] == f"python -m stages.{name}"


@pytest.mark.parametrize("stage", STAGES)
def test_every_import_stands_in_deps_and_nothing_else(stage):
    deps = {dep for dep in PIPELINE[stage]["deps"] if dep.endswith(".py")}
    needed = follow_imports(ROOT / f"stages/{stage}.py")
    if stage == "train":  # imported by name
        for model in MODELS:
            assert follow_imports(ROOT / f"imgpipe/models/{model}.py") <= {
                dep.replace("${model}", model) for dep in deps
            }
        needed |= {"imgpipe/models/${model}.py", "imgpipe/heads.py"}
    assert deps == needed


def test_training_depends_on_no_test_data():
    assert not [dep for dep in PIPELINE["train"]["deps"] if re.search(r"test|manifest|raw", dep)]


def test_every_model_has_a_block_and_the_other_way_round():
    params = yaml.safe_load((ROOT / "params.yaml").read_text())
    assert sorted(params["models"]) == MODELS


@pytest.mark.parametrize("stage", ["check", "fetch", "split", "preprocess", "plot"])
def test_stages_that_do_not_compute_with_tensorflow_do_not_import_it(stage):
    for file in follow_imports(ROOT / f"stages/{stage}.py"):
        tree = ast.parse((ROOT / file).read_text())
        names = {
            name
            for node in ast.walk(tree)
            if isinstance(node, ast.Import | ast.ImportFrom)
            for name in [getattr(node, "module", None), *(alias.name for alias in node.names)]
        }
        assert not names & {"tensorflow", "keras"}, file
