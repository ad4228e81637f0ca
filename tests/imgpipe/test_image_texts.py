"""imgpipe.image_texts: texts of images, by row, and their order."""

import numpy as np
import pytest

from imgpipe.database import temporary_database
from imgpipe.image_texts import ImageTexts


@pytest.fixture
def texts():
    with temporary_database() as database:
        texts = ImageTexts(database)
        texts.add([("bb", "", "x/2.jpg"), ("", "is empty", "é/10.jpg")])
        texts.add([("aa", "", "x/10.jpg"), ("bb", "", "X/1.jpg")])
        yield texts


def test_rows_are_numbered_as_they_come(texts):
    assert len(texts) == 4
    assert list(texts.stream("id")) == [("x/2.jpg",), ("é/10.jpg",), ("x/10.jpg",), ("X/1.jpg",)]
    assert list(texts.stream("sha256", "error"))[:2] == [("bb", ""), ("", "is empty")]
    found = texts.read(np.array([3, 1]))
    assert list(found.index) == [3, 1]
    assert found.to_numpy().tolist() == [["X/1.jpg", "bb", ""], ["é/10.jpg", "", "is empty"]]
    assert list(texts.read([]).columns) == ["id", "sha256", "error"]


def test_numbers_are_in_the_order_of_the_texts_and_equal_where_these_are(texts):
    _, sums = np.unique(["bb", "", "aa", "bb"], return_inverse=True)
    _, ids = np.unique([name for (name,) in texts.stream("id")], return_inverse=True)
    np.testing.assert_array_equal(texts.number("sha256") - 1, sums)
    np.testing.assert_array_equal(texts.number("id") - 1, ids)
