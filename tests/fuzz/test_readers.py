"""Every reader of files from strangers, on thousands of broken ones: fuzz.targets has the property."""

import functools
import re

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fuzz.targets import TARGETS, check
from tiny import ROOT

# How many files: what reads slowly gets fewer.
EXAMPLES = {"architecture": 60, "image": 400, "params": 60, "weights": 150}
# Numbers at the limits of a format's fields.
NUMBERS = [
    value.to_bytes(size, order)
    for size in (1, 2, 4, 8)
    for value in (0, 1, 1 << (8 * size - 1), (1 << 8 * size) - 1)
    for order in ("little", "big")
]


@functools.cache
def seeds(name: str) -> list[bytes]:
    return TARGETS[name].make_seeds()


@st.composite
def broken_files(draw, name: str) -> bytes:
    """Draw a whole file in which something was changed, cut, put in or taken from another."""
    content = draw(st.sampled_from(seeds(name)))
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(content)))
        end = min(len(content), start + draw(st.sampled_from([0, 1, 2, 4, 8, 64, 10**9])))
        other = draw(st.sampled_from(seeds(name)))
        piece = draw(
            st.one_of(
                st.just(b""),
                st.binary(max_size=16),
                st.sampled_from(NUMBERS),
                st.integers(0, len(other)).map(lambda at, other=other: other[at:]),
            )
        )
        content = content[:start] + piece + content[end:]
    return content


@pytest.mark.parametrize("name", TARGETS)
def test_any_file_is_read_or_refused_in_one_line(name, capfd):
    """Nothing is printed either: the libraries in C have no other way to complain."""

    @settings(
        max_examples=EXAMPLES.get(name, 300),
        derandomize=True,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(st.one_of(broken_files(name), broken_files(name), st.binary(max_size=600)))
    def try_one(content):
        check(TARGETS[name], content)

    for content in seeds(name):
        check(TARGETS[name], content)
    capfd.readouterr()
    try_one()
    assert capfd.readouterr() == ("", "")


def test_make_fuzz_knows_every_target():
    line = re.search(r"^TARGETS \?= (.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert line[1].split() == list(TARGETS)
