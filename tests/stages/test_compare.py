"""python -m stages.compare, on results made by hand in a small repository, and on real ones."""

import hashlib
import json
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import yaml
from PIL import Image

from imgpipe.figures import draw_disagreements
from imgpipe.revisions import list_names, open_repository
from stages import compare

COUNT = 40
CODE = "stages/train.py"


def md5(content: bytes) -> str:
    return hashlib.md5(content).hexdigest()


class Results:
    """A repository of results that nothing has computed: `record` makes one, of each kind."""

    def __init__(self, folder):
        self.folder = folder
        for path in (".dvc/config", CODE, "dvc.yaml"):
            self.write(path, b"")
        self.write(".gitignore", b"/data/\n/plots/\n")
        self.write(".dvc/.gitignore", b"/cache\n/tmp\n")
        self.git("init", "-q", "-b", "main")

    def git(self, *arguments):
        identity = ["-c", "user.name=Test", "-c", "user.email=test@example.org"]
        command = ["git", *identity, *arguments]
        return subprocess.run(
            command, cwd=self.folder, check=True, capture_output=True, text=True
        ).stdout.strip()

    def write(self, path, content: bytes):
        (self.folder / path).parent.mkdir(parents=True, exist_ok=True)
        (self.folder / path).write_bytes(content)

    def cached(self, path):
        """Give the place in the cache of an output of the results in the folder."""
        lock = yaml.safe_load((self.folder / "dvc.lock").read_text())
        outs = {
            out["path"]: out["md5"] for stage in lock["stages"].values() for out in stage["outs"]
        }
        return self.folder / f".dvc/cache/files/md5/{outs[path][:2]}/{outs[path][2:]}"

    def compute(self, wrong: slice, *, draw=0, **changes):
        """Put results into the folder: those images are wrong, and that draw is tested."""
        ids = [f"test/{i}" for i in range(COUNT)]
        params = {"dataset": "mine", "model": "cnn1", "seed": 1, "dropout": 0.2} | changes
        params = {
            "datasets.mine": {"split": {"folds": 3, "fold": draw, "seed": 13}},
            f"models.{params['model']}": {"dropout": params.pop("dropout"), "rate": 1e-05},
        } | params
        predictions = pd.DataFrame({"id": ids, "actual": "NA", "predicted": "NA"})
        predictions.iloc[wrong, 2] = "1"
        predictions = predictions.assign(probability=0.9, actual_probability=0.5)
        accuracy = float((predictions["predicted"] == "NA").mean())
        manifest = pd.DataFrame({"id": ids, "subset": "test"})
        manifest["sha256"] = [f"{draw}{i}" for i in ids]
        np.save(self.folder / "images.npy", np.zeros((COUNT, 4, 4, 1), np.uint8))
        scores = {"accuracy": accuracy, "accuracy_low": 0, "accuracy_high": 1, "macro_f1": accuracy}
        outputs = {
            "data/split/manifest.csv": manifest.to_csv(index=False).encode(),
            "data/arrays/test_images.npy": (self.folder / "images.npy").read_bytes(),
            "data/model": str(params).encode(),
            "plots/predictions.csv": predictions.to_csv(index=False).encode(),
            "metrics/split.json": json.dumps({"train": 200, "test": COUNT, "near": {}}).encode(),
            "metrics/train.json": json.dumps({"val_accuracy": 0.5}).encode(),
            "metrics/test.json": json.dumps(scores | {"images": COUNT}).encode(),
        }
        for path, content in outputs.items():
            cached = f".dvc/cache/files/md5/{md5(content)[:2]}/{md5(content)[2:]}"
            self.write(path if path.startswith("metrics") else cached, content)

        def entry(paths, inputs=()):
            deps = [{"path": p, "md5": md5(outputs.get(p, b""))} for p in inputs]
            return {"deps": deps, "outs": [{"path": p, "md5": md5(outputs[p])} for p in paths]}

        split, images, model, predicted, *metrics = outputs
        stages = {
            "split": entry([split, images, metrics[0]]),
            "train": entry([model, metrics[1]], [split, CODE])
            | {"params": {"params.yaml": params}},
            "evaluate": entry([predicted, metrics[2]], [split, images, model]),
        }
        self.write("dvc.lock", yaml.safe_dump({"stages": stages}).encode())
        blocks = {"datasets": {"mine": params["datasets.mine"]}}
        blocks["models"] = {params["model"]: params[f"models.{params['model']}"]}
        chosen = {key: params[key] for key in ("dataset", "model", "seed")}
        self.write("params.yaml", yaml.safe_dump(chosen | blocks).encode())

    def record(self, ref: str, wrong: slice, **changes):
        """Commit results, to be found under a git ref."""
        self.compute(wrong, **changes)
        self.git("add", "-A")
        self.git("commit", "-qm", "state")
        self.git("update-ref", ref, "HEAD")

    def run(self, *arguments):
        """Run the script in this process: its start costs more than its work."""
        with pytest.MonkeyPatch.context() as patch:
            patch.chdir(self.folder)
            patch.setattr(sys, "argv", ["compare", *arguments])
            compare.main()


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    """Runs in git alone: a branch, a tag, experiments; leave them as they are."""
    results = Results(tmp_path_factory.mktemp("recorded"))
    base = f"refs/exps/{'ab' * 20}"[:12] + "/" + "ab" * 19
    results.record("refs/heads/first", slice(0, 12))
    results.record("refs/tags/v2", slice(10, 14), seed=2)
    results.record(f"{base}/puggy-ruff", slice(0, 1), model="cnn4", dropout=[0.1, 0.2])
    results.record(f"{base}/other-fold", slice(0, 9), draw=1)
    return results


@pytest.fixture
def results(tmp_path):
    """A repository of one's own, with one committed result."""
    results = Results(tmp_path)
    results.record("refs/heads/first", slice(0, 12))
    return results


def test_branches_tags_commits_and_experiments_are_compared(recorded, capsys):
    commit = recorded.git("rev-parse", "--short", "first")
    recorded.run(commit, "v2", "puggy-ruff", "HEAD", "--json")
    content = json.loads(capsys.readouterr().out)
    assert [run["name"] for run in content["runs"]] == [commit, "v2", "puggy-ruff", "HEAD"]
    assert content["runs"][0]["commit"] == recorded.git("rev-parse", "first")
    assert [run["settings"].get("dropout") for run in content["runs"]] == [
        0.2,
        0.2,
        [0.1, 0.2],
        0.2,
    ]
    same_recipe, other, fold = content["pairs"]
    assert same_recipe["settings"] == ["seed"] and same_recipe["difference"] == 0.2
    assert (same_recipe["only_first_right"], same_recipe["only_second_right"]) == (2, 10)
    assert other["settings"] == ["model", "dropout"] and other["verdict"] == "better_network"
    assert fold["verdict"] == "not_comparable" and fold["images"] is None
    assert not any(run["stale"] for run in content["runs"]) and content["sheet"] is None


def test_text_and_markdown_say_the_same(recorded, capsys):
    recorded.run("first", "v2", "puggy-ruff")
    text = capsys.readouterr().out
    recorded.run("first", "v2", "puggy-ruff", "--markdown")
    markdown = capsys.readouterr().out
    for part in ("+0.2000 (+0.0", "the seed alone", "0.8000 ± 0.1414", "Holm"):
        assert part in text and part in markdown
    assert text.startswith("v2, puggy-ruff against first (dataset mine, 40 test images)")
    assert "\nv2: noise between repeats; more than" in text and "|" not in text
    assert "\n- v2: **noise between repeats**; more than" in markdown


def test_the_sheet_of_two_is_drawn(recorded, capsys, tmp_path):
    sheet = tmp_path / "new" / "sheet.png"
    recorded.run("first", "v2", "--sheet", str(sheet))
    with Image.open(sheet) as picture:
        assert picture.format == "PNG"
    assert str(sheet) in capsys.readouterr().err


def test_the_sheet_shows_the_surest_first_in_the_block_of_the_one_that_is_right():
    table = pd.DataFrame(
        {
            "actual": ["bag", "bag", "coat", "coat"],
            "predicted_first": ["bag", "bag", "coat", "bag"],
            "probability_first": [0.9, 0.8, 0.9, 0.7],
            "predicted_second": ["coat", "coat", "coat", "coat"],
            "probability_second": [0.6, 0.7, 0.9, 0.5],
        }
    )
    images = np.arange(4, dtype=np.uint8).reshape(4, 1, 1, 1)
    figure = draw_disagreements(images, table, ("a", "b"), rows=1)
    first, second = figure.subfigs
    assert first.get_suptitle().startswith("Only a is right: 2\n")
    shown = [(axis.get_title(), axis.get_xlabel()) for axis in first.axes if axis.images]
    assert shown == [("bag 0.80", "coat 0.70"), ("bag 0.90", "coat 0.60")]
    assert first.axes[0].images[0].get_array().item() == 1
    (only,) = [axis for axis in second.axes if axis.images]
    assert (only.get_title(), only.get_xlabel()) == ("coat 0.50", "bag 0.70")


def test_the_folder_is_compared_and_what_is_stale_told(results, capsys):
    results.compute(slice(0, 11))
    results.write(CODE, b"pass\n")
    params = (results.folder / "params.yaml").read_text().replace("seed: 1\n", "seed: 9\n")
    results.write("params.yaml", params.encode())
    results.run("first", "workspace", "--json")
    content = json.loads(capsys.readouterr().out)
    assert content["runs"][1]["stale"] == ["seed", CODE] and content["runs"][0]["stale"] == []
    assert content["pairs"][0]["only_second_right"] == 1
    assert content["pairs"][0]["settings"] == []  # both were computed with seed 1


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ([], "name two results or more; known: workspace, first, main, v2, other-fold, puggy-ruff"),
        (["first"], "name two results or more"),
        (["first", "pugy-ruff"], "pugy-ruff: no such .*; did you mean puggy-ruff?"),
        (["first", "zzz"], "zzz: no such experiment, branch, tag or commit; known: workspace, "),
        (["first", ""], "'': no such experiment"),
        (["first", "HEAD^{tree}"], "no such"),
        (["main", "HEAD"], "main and HEAD are both the commit [0-9a-f]{7}; name two that differ"),
        (["workspace"] * 2, "are both the results in this folder"),
    ],
)
def test_names_that_cannot_be_compared(recorded, names, message):
    with pytest.raises(ValueError, match=message):
        recorded.run(*names)


def test_outputs_that_the_cache_has_lost(results):
    results.compute(slice(0, 3), seed=2)
    results.cached("plots/predictions.csv").unlink()
    message = "workspace: plots/predictions.csv is not in DVC's cache; run dvc repro"
    with pytest.raises(FileNotFoundError, match=message):
        results.run("first", "workspace")
    results.record("refs/heads/second", slice(0, 3), seed=3)
    results.cached("plots/predictions.csv").write_bytes(b"id,act")
    with pytest.raises(ValueError, match=r"is damaged; remove it, then run dvc exp apply second"):
        results.run("first", "second")


def test_results_that_do_not_belong_together(results):
    results.compute(slice(0, 3), seed=2)
    results.write("metrics/test.json", b"{}")
    with pytest.raises(ValueError, match=r"metrics/test.json is not of the same run .*dvc repro"):
        results.run("first", "workspace")
    lock = yaml.safe_load((results.folder / "dvc.lock").read_text())
    lock["stages"]["train"]["outs"][0]["md5"] = "0" * 32  # trained anew, not yet evaluated
    results.write("dvc.lock", yaml.safe_dump(lock).encode())
    with pytest.raises(ValueError, match="data/model is not of the same run"):
        results.run("first", "workspace")
    results.write("dvc.lock", b"stages: [")
    with pytest.raises(ValueError, match=r"dvc.lock is not whole YAML .*stages.recover"):
        results.run("first", "workspace")
    (results.folder / "dvc.lock").unlink()
    with pytest.raises(FileNotFoundError, match=r"workspace: has no dvc.lock; run dvc repro"):
        results.run("first", "workspace")


def test_elsewhere_than_in_a_project(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FileNotFoundError, match="run from the project's"), open_repository():
        pass
    (tmp_path / "dvc.yaml").touch()
    with pytest.raises(FileNotFoundError, match="dvc init"), open_repository():
        pass


def test_names_are_listed(recorded, monkeypatch):
    monkeypatch.chdir(recorded.folder)
    with open_repository() as repository:
        names = ["workspace", "first", "main", "v2", "other-fold", "puggy-ruff"]
        assert list_names(repository) == names


def test_what_dvc_has_run_is_read(finished_project, capsys, monkeypatch):
    monkeypatch.chdir(finished_project.folder)
    monkeypatch.setattr(sys, "argv", ["compare", "HEAD", "workspace", "--json"])
    compare.main()
    content = json.loads(capsys.readouterr().out)
    scores = json.loads((finished_project.folder / "metrics/test.json").read_text())
    assert content["runs"][0]["scores"]["accuracy"] == scores["accuracy"]
    (pair,) = content["pairs"]
    assert (pair["verdict"], pair["images"]) == ("same", scores["images"])
    assert pair["settings"] == pair["files"] == content["runs"][1]["stale"] == []
