"""stages.verify: the one stage that does not repeat itself is named."""

from stages.verify import find_differences


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
