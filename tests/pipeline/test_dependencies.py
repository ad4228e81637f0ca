"""DVC does not follow imports: what a stage imports must stand in its deps."""

import ast
import re
from pathlib import Path

import pytest
import yaml

from tiny import CHECKS, FIGURES, ROOT, STAGES


def read_pipeline() -> dict[str, dict]:
    """Read the stages of dvc.yaml; those of a `foreach` under their full names."""
    stages = {}
    for name, stage in yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"].items():
        for key in stage.get("foreach", [None]):
            full_name = f"{name}@{key}" if key else name
            stages[full_name] = stage.get("do", stage)
    return stages


PIPELINE = read_pipeline()
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
    assert list(PIPELINE) == [*STAGES, *FIGURES]
    for name, stage in PIPELINE.items():
        script = f"stages.check data/checked/{name[6:]}" if name in CHECKS else f"stages.{name}"
        if name.startswith("embed@"):
            script = "stages.embed ${key}"
        assert stage["cmd"] == f"python -m {script}"


@pytest.mark.parametrize("stage", [*STAGES, *FIGURES])
def test_every_import_stands_in_deps_and_nothing_else(stage):
    deps = {dep for dep in PIPELINE[stage]["deps"] if dep.endswith(".py")}
    script = "check" if stage in CHECKS else stage.partition("@")[0]
    needed = follow_imports(ROOT / f"stages/{script}.py")
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


@pytest.mark.parametrize(
    "stage", ["fetch", "split", "preprocess", "features", "plot", "embed pixels"]
)
def test_stages_that_compute_nothing_with_tensorflow_do_not_import_it(trained, stage):
    """The stage runs in full, parameters checked, on the default model: cnn1 has no backbone."""
    stage, *arguments = stage.split()
    script = (
        f"import sys; sys.argv[1:] = {arguments}; from stages import {stage}; {stage}.main();"
        "print('imported:', sorted({'tensorflow', 'keras'} & set(sys.modules)))"
    )
    assert "imported: []" in trained.run("python", "-c", script, PYTHONPATH=".").stdout


def test_checking_a_model_does_not_import_tensorflow(trained):
    text = (trained.folder / "params.yaml").read_text()
    for model in MODELS:
        chosen = re.sub(r"(?m)^model: .*", f"model: {model}", text)
        (trained.folder / f"{model}.yaml").write_text(chosen)
    script = (
        "import sys; from pathlib import Path; from imgpipe.params import load_params\n"
        "for model in sys.argv[1:]:\n"
        "    checked = load_params(Path(f'{model}.yaml')).model_name\n"
        "    print(checked, sorted({'tensorflow', 'keras'} & set(sys.modules)))"
    )
    said = trained.run("python", "-c", script, *MODELS, PYTHONPATH=".").stdout
    assert said.splitlines() == [f"{model} []" for model in MODELS]
