"""stages.verify: the one stage that does not repeat itself is named."""

import subprocess

from stages.verify import copy_project, find_differences


def test_what_differs_is_told_and_nothing_else(trained):
    """An uncommitted change makes one figure depend on the time zone, which verify sets anew."""
    script = trained.folder / "stages/plot.py"
    lines = '    import os\n    (PLOTS / "samples.png").write_text(os.environ.get("TZ", ""))\n'
    text = script.read_text()
    script.write_text(text.replace('    print(f"plot:', f'{lines}    print(f"plot:'))
    early = trained.run("python", "-m", "stages.verify", check=False)
    assert early.returncode == 1
    assert "does not record the present parameters, code and results (plot changed)" in early.stdout
    trained.repro("plot")
    result = trained.run("python", "-m", "stages.verify", check=False)
    assert result.returncode == 1
    told = result.stdout.partition("gave other bytes than stand in dvc.lock:\n")[2]
    assert told.splitlines() == [
        "  plot: plots/samples.png",
        "Look at plot first: what follows it may only follow from it",
    ]


def test_missing_and_new_outputs_differ():
    recorded = {"a": {"x": "1", "y": "2"}}
    assert find_differences(recorded, recorded) == {}
    assert find_differences(recorded, {"a": {"x": "1", "y": "3"}}) == {"a": ["y"]}
    assert find_differences(recorded, {"a": {"z": "1"}, "b": {"w": "1"}}) == {
        "a": ["x", "y", "z"],
        "b": ["w"],
    }
    assert find_differences({"a": {"x": "1"}, "b": {"y": "1"}}, {"a": {"x": "1"}}) == {"b": ["y"]}


def test_the_copy_has_what_is_changed_staged_or_not(tmp_path, monkeypatch):
    project = tmp_path / "project"
    project.mkdir()
    monkeypatch.chdir(project)
    git = ["git", "-c", "user.name=a", "-c", "user.email=a@example.org"]
    for name in ("kept", "changed", "staged", "deleted", "removed"):
        (project / name).write_text("old")
    for command in (["init", "-q"], ["add", "."], ["commit", "-qm", "first"]):
        subprocess.run([*git, *command], check=True)
    for name in ("changed", "staged", "staged and new", "new"):
        (project / name).write_text("new")
    (project / "deleted").unlink()
    subprocess.run([*git, "rm", "-q", "removed"], check=True)
    subprocess.run([*git, "add", "staged", "staged and new"], check=True)
    copy_project(tmp_path / "copy")
    found = {
        file.name: file.read_text() for file in (tmp_path / "copy").iterdir() if file.is_file()
    }
    new = dict.fromkeys(("changed", "staged", "staged and new", "new"), "new")
    assert found == {"kept": "old", **new}
