"""What the documentation says of the code is so."""

import re

import pytest

from tiny import ROOT

RELIABILITY = (ROOT / "docs/reliability.md").read_text()


def named_tests():
    """List the tests that docs/reliability.md names; … stands for the section's own file."""
    for section in RELIABILITY.split("\n## "):
        own = re.search(r"Tests are in\s`(\S+)` unless", section)
        for file, test in re.findall(r"`(?:tests/)?([\w/]+\.py|…)(?:::(\w+))?`", section):
            if file.split("/")[-1].startswith("test_") or file == "…":
                yield own[1] if file == "…" else file, test


@pytest.mark.parametrize(("file", "test"), sorted(set(named_tests())))
def test_every_test_that_is_named_exists(file, test):
    source = (ROOT / "tests" / file).read_text()
    assert f"def test_{test}(" in source if test else "def test_" in source
