"""imgpipe.image_facts: what is known of images, by row, and the order of their texts."""

import numpy as np
import pytest

from imgpipe.database import temporary_database
from imgpipe.image_facts import ImageFacts

HASHES = np.array([2**64 - 1, 0, 2**63, 5], np.uint64)


@pytest.fixture
def facts():
    with temporary_database() as database:
        facts = ImageFacts(database)
        ids = iter(["x/2.jpg", "é/10.jpg", "x/10.jpg", "X/1.jpg"])
        facts.add(ids, ["bb", ""], ["", "is empty"], HASHES[:2])
        facts.add(ids, ["aa", "bb"], ["", ""], HASHES[2:])
        yield facts


def test_rows_are_numbered_as_they_come(facts):
    assert len(facts) == 4
    np.testing.assert_array_equal(facts.read_hashes(), HASHES)
    assert list(facts.stream("id")) == [("x/2.jpg",), ("é/10.jpg",), ("x/10.jpg",), ("X/1.jpg",)]
    assert list(facts.stream("sha256", "error"))[:2] == [("bb", ""), ("", "is empty")]
    found = facts.read(np.array([3, 1]))
    assert list(found.index) == [3, 1]
    assert found.to_numpy().tolist() == [["X/1.jpg", "bb", ""], ["é/10.jpg", "", "is empty"]]
    assert list(facts.read([]).columns) == ["id", "sha256", "error"]


def test_numbers_are_in_the_order_of_the_texts_and_equal_where_these_are(facts):
    _, sums = np.unique(["bb", "", "aa", "bb"], return_inverse=True)
    _, ids = np.unique([name for (name,) in facts.stream("id")], return_inverse=True)
    np.testing.assert_array_equal(facts.number("sha256") - 1, sums)
    np.testing.assert_array_equal(facts.number("id") - 1, ids)
