"""Results of other states of the project: commits, branches, tags and experiments.

What git tracks is read from git, what DVC tracks from its cache; nothing is checked out.
dvc.lock tells with which parameters, code and data the results were computed, whatever has become
of params.yaml and the code since.
"""

import contextlib
import difflib
import hashlib
import io
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from imgpipe.comparison import Run
from imgpipe.repeats import SCORES
from imgpipe.wording import shorten, word_error

WORKSPACE = "workspace"  # what DVC calls that which lies in the folder
LOCK = "dvc.lock"
PARAMS = "params.yaml"
RAW = "data/raw"
MANIFEST = "data/split/manifest.csv"
PREDICTIONS = "plots/predictions.csv"
METRICS = ("metrics/split.json", "metrics/train.json", "metrics/test.json")
PREDICTED = ["id", "actual", "predicted", "probability"]
NEEDED = {"train", "test", "images", "accuracy_low", "accuracy_high", *SCORES}
_LONGEST_LIST = 300  # characters


@contextlib.contextmanager
def open_repository() -> Iterator[Any]:
    """Open the DVC repository in the current folder, a dvc.repo.Repo.

    Raises:
        FileNotFoundError: there is none, or git does not know it.
    """
    if not Path("dvc.yaml").is_file():
        raise FileNotFoundError("dvc.yaml: not found; run from the project's folder, which has it")
    from dvc.exceptions import DvcException  # takes a second
    from dvc.repo import Repo
    from dvc.scm import NoSCM

    try:
        repository = Repo()
    except DvcException as error:
        raise FileNotFoundError(f"{word_error(error)}; run dvc init") from None
    with repository:
        if isinstance(repository.scm, NoSCM):
            raise FileNotFoundError(".git: not found, so there are no commits; run git init")
        yield repository


def list_names(repository) -> list[str]:
    """List what results may be called: the folder's, branches, tags and experiments."""
    from dvc.repo.experiments.utils import exp_refs

    scm = repository.scm
    experiments = sorted({ref.name for ref in exp_refs(scm) if ref.name})
    return [WORKSPACE, *scm.list_branches(), *scm.list_tags(), *experiments]


def read_runs(repository, names: Sequence[str]) -> list[Run]:
    """Read the results of several states of the project.

    Args:
        repository: from open_repository.
        names: of experiments, branches, tags, commits (HEAD~1, 1dc0617), or WORKSPACE.

    Raises:
        ValueError: fewer than two names, one that is unknown, two of one commit; results that do
            not belong together.
        FileNotFoundError: there are no results, or they are no longer in DVC's cache.
    """
    if len(names) < 2:
        known = shorten(", ".join(list_names(repository)), _LONGEST_LIST)
        raise ValueError(f"name two results or more; known: {known}, and any commit")
    commits = {}
    for name in names:
        commit = find_commit(repository, name)
        if commit in commits:
            which = f"the commit {commit[:7]}" if commit else "the results in this folder"
            raise ValueError(
                f"{shorten(commits[commit])} and {shorten(name)} are both {which}; name two that "
                "differ"
            )
        commits[commit] = name
    return [Revision(repository, name, commit).read_run() for commit, name in commits.items()]


def find_commit(repository, name: str) -> str | None:
    """Find the commit that has a name; None for WORKSPACE.

    Raises:
        ValueError: there is none, or several experiments have that name.
    """
    from dvc.scm import RevError, resolve_rev

    if name == WORKSPACE:
        return None
    try:
        if name:
            return repository.scm.resolve_commit(resolve_rev(repository.scm, name)).hexsha
    except (RevError, ValueError, AttributeError) as error:  # the last two of HEAD:stages and such
        if "ambiguous" in str(error):
            raise ValueError(
                f"{shorten(name)}: several experiments or commits have this name; give a longer "
                "hash (dvc exp list --all-commits shows them)"
            ) from None
    known = list_names(repository)
    close = difflib.get_close_matches(name[:80], known, n=3)
    remedy = f"did you mean {' or '.join(close)}?" if close else f"known: {', '.join(known)}"
    raise ValueError(
        f"{shorten(name) or repr(name)}: no such experiment, branch, tag or commit; "
        f"{shorten(remedy, _LONGEST_LIST)}"
    )


class Revision:
    """One state of the project, and the results that its dvc.lock records.

    Args:
        repository: from open_repository.
        name: as the user calls it.
        commit: its hash, or None for what lies in the folder.

    Raises:
        FileNotFoundError: it has no dvc.lock.
        ValueError: its dvc.lock is damaged.
    """

    def __init__(self, repository, name: str, commit: str | None):
        self.repository, self.name, self.commit = repository, name, commit
        self._stages = self._read_yaml(LOCK).get("stages") or {}
        self._outputs = {
            out["path"]: (stage, out.get("md5"))
            for stage, entry in self._stages.items()
            for out in entry.get("outs", [])
        }

    def read_run(self) -> Run:
        """Read what was run, and what came of it.

        Raises:
            FileNotFoundError: there are no results, or they are no longer in DVC's cache.
            ValueError: they do not belong together, as after an interruption.
        """
        params, files = self._trace(PREDICTIONS)
        scores = {}
        for path in METRICS:
            content = self._read(path)
            if _md5(content) != self._sum_of(path):
                raise self._mixed(path)
            scores |= {k: v for k, v in json.loads(content).items() if not isinstance(v, dict)}
        predictions = self._read_table(PREDICTIONS, PREDICTED).astype({"probability": float})
        manifest = self._read_table(MANIFEST, ["id", "subset", "sha256"])
        test = manifest.loc[manifest["subset"] == "test", ["id", "sha256"]]
        if missing := NEEDED - set(scores):
            raise self._other_version(f"metrics/ without {', '.join(sorted(missing))}")
        return Run(
            name=self.name,
            commit=self.commit,
            params=params,
            files=files,
            scores=scores,
            predictions=predictions.merge(test, on="id", validate="1:1"),
            stale=self._list_stale(params, files),
        )

    def find(self, path: str) -> Path:
        """Find the file that holds an output: in DVC's cache, or in the folder.

        Raises:
            FileNotFoundError: it is in neither, or there has been none.
        """
        md5 = self._sum_of(path)
        cached = Path(self.repository.cache.local.oid_to_path(md5))
        if cached.is_file():
            return cached
        if self.commit is None and Path(path).is_file() and _md5(Path(path).read_bytes()) == md5:
            return Path(path)
        raise FileNotFoundError(f"{self.name}: {path} is not in DVC's cache; {self._remedy}")

    @property
    def _remedy(self) -> str:
        if self.commit is None:
            return "run dvc repro"
        name = shorten(self.name)
        return f"run dvc exp apply {name} (or git checkout {name}), then dvc repro"

    def _mixed(self, what: str) -> ValueError:
        return ValueError(f"{self.name}: {what} is not of the same run as the rest; {self._remedy}")

    def _other_version(self, what: str) -> ValueError:
        return ValueError(
            f"{self.name}: {what}, so it is of another version of this project; name a later one"
        )

    def _read(self, path: str) -> bytes:
        """Read a file that git tracks."""
        try:
            if self.commit is None:
                return Path(path).read_bytes()
            scm = self.repository.scm
            folder = Path.cwd().relative_to(Path(scm.root_dir).resolve())
            return scm.get_fs(self.commit).cat_file((folder / path).as_posix())
        except FileNotFoundError:
            raise FileNotFoundError(f"{self.name}: has no {path}; {self._remedy}") from None

    def _read_yaml(self, path: str) -> dict:
        try:
            content = YAML(typ="safe").load(self._read(path))
        except YAMLError as error:
            raise ValueError(
                f"{self.name}: {path} is not whole YAML ({word_error(error)}); mend it (python -m "
                f"stages.recover for {LOCK}), then {self._remedy}"
            ) from None
        return content if isinstance(content, dict) else {}

    def _read_table(self, path: str, columns: list[str]) -> pd.DataFrame:
        """Read a table that DVC tracks; class names may look like numbers or missing values."""
        file = self.find(path)
        content = file.read_bytes()
        if _md5(content) != self._sum_of(path):
            raise ValueError(f"{file}: is damaged; remove it, then {self._remedy}")
        table = pd.read_csv(io.BytesIO(content), dtype=str, keep_default_na=False)
        if missing := set(columns) - set(table.columns):
            raise self._other_version(f"{path} without {', '.join(sorted(missing))}")
        return table[columns]

    def _sum_of(self, path: str) -> str:
        if path not in self._outputs:
            raise FileNotFoundError(f"{self.name}: has no {path}; {self._remedy}")
        return self._outputs[path][1]

    def _trace(self, path: str) -> tuple[dict[str, Any], dict[str, str]]:
        """Collect what an output was computed with, going back from stage to stage.

        Returns:
            Parameters by their dotted names, and path to sum of the code and the data.

        Raises:
            ValueError: a stage has not run again since one before it has.
        """
        self._sum_of(path)
        params, files, waiting, seen = {}, {}, [self._outputs[path][0]], set()
        while waiting:
            stage = self._stages[waiting.pop()]
            for dep in stage.get("deps", []):
                maker, md5 = self._outputs.get(dep["path"], (None, dep.get("md5")))
                if md5 != dep.get("md5"):
                    raise self._mixed(dep["path"])
                if maker is None or dep["path"] == RAW:
                    files[dep["path"]] = md5
                if maker is not None and maker not in seen:
                    seen.add(maker)
                    waiting.append(maker)
            for name, value in _flatten(stage.get("params", {}).get(PARAMS, {})).items():
                if params.setdefault(name, value) != value:
                    raise self._mixed(f"{PARAMS}: {name}")
        if not {"dataset", "model", "seed"} <= set(params):
            raise self._other_version(f"{LOCK} without dataset, model or seed")
        return params, files

    def _list_stale(self, params: dict[str, Any], files: dict[str, str]) -> list[str]:
        """List parameters and code that are no longer those of the results."""
        now = _flatten(self._read_yaml(PARAMS))
        stale = [name for name, value in params.items() if now.get(name) != value]
        for path, md5 in files.items():
            if path.endswith(".py"):
                try:
                    changed = _md5(self._read(path)) != md5
                except FileNotFoundError:  # renamed or removed
                    changed = True
                stale += [path] * changed
        return stale


def _flatten(mapping: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Give nested parameters their dotted names."""
    flat = {}
    for key, value in mapping.items():
        if isinstance(value, dict) and value:
            flat |= _flatten(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def _md5(content: bytes) -> str:
    return hashlib.md5(content, usedforsecurity=False).hexdigest()
