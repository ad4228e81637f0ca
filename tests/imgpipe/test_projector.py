"""imgpipe.projector: thumbnails, facts and vectors as TensorBoard's projector takes them."""

import numpy as np
import pandas as pd
import pytest
from google.protobuf import text_format
from tensorboard.plugins.projector.projector_config_pb2 import ProjectorConfig

from imgpipe import projector
from imgpipe.projector import (
    MOST_NUMBERS,
    describe_points,
    draw_sprites,
    encode_vectors,
    format_metadata,
    limit_points,
)
from tiny import make_images


@pytest.mark.parametrize("channels", [1, 3])
def test_thumbnails_stand_in_rows_on_a_square_sheet(channels):
    images, _ = make_images(30, size=6, channels=channels)
    rows = np.arange(0, 30, 5)  # six: three a row, the last row empty
    sheet, size = draw_sprites(images, rows)
    assert (sheet.size, size) == ((18, 18), (6, 6))
    pixels = np.asarray(sheet).reshape(18, 18, channels)
    np.testing.assert_array_equal(pixels[6:12, 6:12], images[rows[4]])
    assert not pixels[12:].any()


@pytest.mark.parametrize(
    ("shape", "count", "size"),
    [((300, 200), 4, (43, 64)), ((64, 32), 9, (32, 64)), ((64, 32), 16, (25, 50))],
)
def test_large_images_are_shrunk_to_what_the_page_takes(monkeypatch, shape, count, size):
    monkeypatch.setattr(projector, "LARGEST_SHEET", 200)
    images = np.full((1, *shape, 1), 90, np.uint8)
    sheet, thumbnail = draw_sprites(images, np.zeros(count, np.int64))
    assert thumbnail == size
    assert max(sheet.size) <= 200
    assert np.unique(np.asarray(sheet)).tolist() == [90]


def test_facts_keep_to_their_lines_and_columns():
    table = pd.DataFrame(
        {
            "id": ["a\r\nb.png", 'c "d".png'],
            "actual": ["x\ty", "Ü\u2028ü"],
            "predicted": ["x\ty", "<b>"],
            "probability": ["0.5", "0.25"],
        },
        index=[4, 7],
    )
    assert format_metadata(table) == (
        "index\tactual\tpredicted\tresult\tprobability\tid\n"
        "0\tx y\tx y\tright\t0.5\ta b.png\n"
        '1\tÜ ü\t<b>\twrong\t0.25\tc "d".png\n'
    )


@pytest.mark.parametrize("first", [0.0, 0.5, -3.0, 100.0])
def test_vectors_are_taken_for_no_text_and_keep_their_numbers(first):
    vectors = np.array([[first, 0.25], [10.0, 1.0]], np.float16)
    encoded = encode_vectors(vectors)
    assert encoded.dtype == np.float32
    np.testing.assert_allclose(encoded, vectors.astype(float), rtol=1e-4, atol=1e-30)
    np.testing.assert_array_equal(encoded.ravel()[1:], vectors.ravel()[1:])
    assert vectors[0, 0] == first
    with pytest.raises(UnicodeDecodeError):
        encoded.tobytes().split(b"\n")[0].decode()


def test_the_configuration_names_both_sets_of_vectors():
    spaces = {"pixels": np.zeros((3, 8)), "model": np.zeros((3, 2))}
    config = text_format.Parse(describe_points(spaces, (9, 5)), ProjectorConfig())
    found = {e.tensor_path: list(e.tensor_shape) for e in config.embeddings}
    assert found == {"pixels.bytes": [3, 8], "model.bytes": [3, 2]}
    for embedding in config.embeddings:
        assert list(embedding.sprite.single_image_dim) == [9, 5]  # width, height


def test_the_browser_is_not_given_more_than_it_can_take():
    assert limit_points(3072) >= 10_000
    assert limit_points(86_528) * 86_528 <= MOST_NUMBERS
    assert limit_points(10**9) == 1
