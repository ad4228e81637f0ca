"""imgpipe.serving: what the page answers, refuses, and keeps away from."""

import base64
import io
import struct
import threading
import zlib

import numpy as np
import pytest
from PIL import Image

from imgpipe.contract import Contract
from imgpipe.prediction import choose_examples
from tiny import encode_image, make_images

pytest.importorskip("flask")

import keras

from imgpipe import serving
from imgpipe.trained import TrainedModel
from imgpipe.training import build_model

NAMES = ["7", "<b>bold</b>", "3"]  # as numbers, which JavaScript would put in order
IMAGES = make_images(3, classes=3)[0]
BINARY = "application/octet-stream"
CONTRACT = Contract(
    dataset="d", model="m", class_names=NAMES, image_size=[28, 28], channels=1, backbone=None
)


def make_client(model, top=3):
    app = serving.create_app(
        TrainedModel(CONTRACT, model, None),
        top=top,
        hosts=["localhost"],
        examples=choose_examples(IMAGES, np.arange(3), CONTRACT),
    )
    return app.test_client()


@pytest.fixture(scope="module")
def model():
    return build_model("cnn1", (28, 28, 1), 3, {"dropout": 0.2})


@pytest.fixture(scope="module")
def client(model):
    return make_client(model)


def send(client, content, **headers):
    return client.post("/predict", data=content, content_type=BINARY, headers=headers)


def read_picture(address):
    kind, _, content = address.partition(",")
    assert kind == "data:image/png;base64"
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(content))))


def test_an_image_gets_what_the_model_says_of_it(client, model):
    answer = send(client, encode_image(IMAGES[0])).json
    (row,) = model.predict(IMAGES[:1], verbose=0)
    assert dict(answer["classes"]) == pytest.approx(dict(zip(NAMES, row, strict=True)), abs=1e-6)
    shares = [probability for _, probability in answer["classes"]]
    assert shares == sorted(shares, reverse=True)
    seen = read_picture(answer["seen"])
    np.testing.assert_array_equal(seen[::8, ::8], IMAGES[0, ..., 0])  # enlarged eight times
    assert read_picture(answer["map"]).shape == (224, 224, 3)


def test_only_the_best_classes(model):
    answer = send(make_client(model, top=2), encode_image(IMAGES[0])).json
    assert len(answer["classes"]) == 2


def test_a_model_without_convolutions_has_no_maps():
    dense = keras.Sequential(
        [
            keras.Input((28, 28, 1), dtype="uint8"),
            keras.layers.Rescaling(1 / 255),
            keras.layers.Flatten(),
            keras.layers.Dense(3, activation="softmax"),
        ]
    )
    client = make_client(dense)
    answer = send(client, encode_image(IMAGES[0])).json
    assert len(answer["classes"]) == 3
    assert answer["map"] is None and answer["place"] is None
    assert "no convolutions" in client.get("/").text


def make_bomb():
    """Make a PNG whose header promises ten thousand million pixels."""
    size = struct.pack(">IIBBBBB", 100_000, 100_000, 8, 0, 0, 0, 0)
    parts = [b"\x89PNG\r\n\x1a\n"]
    for kind, content in ((b"IHDR", size), (b"IDAT", zlib.compress(bytes(1000)))):
        checksum = struct.pack(">I", zlib.crc32(kind + content))
        parts += [struct.pack(">I", len(content)), kind, content, checksum]
    return b"".join(parts)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "not an image file"),
        (b"text", "not an image file"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "not an image file"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 1 1\n", "not an image file"),
        (encode_image(np.zeros((300, 300, 3), np.uint8), "JPEG")[:-200], "truncated"),
        (make_bomb(), "more than 64,000,000 pixels"),
    ],
    ids=["empty", "text", "svg", "eps", "truncated", "bomb"],
)
def test_what_is_no_image_is_refused_and_others_go_on(client, content, reason):
    response = send(client, content)
    assert response.status_code == 200  # browsers would report others as errors of the page
    error = response.json["error"]
    assert error.startswith("this file: cannot be decoded") and reason in error
    assert "\n" not in error
    assert "classes" in send(client, encode_image(IMAGES[0])).json


def test_a_file_that_is_too_large(client, monkeypatch):
    monkeypatch.setitem(client.application.config, "MAX_CONTENT_LENGTH", 1000)
    response = send(client, bytes(1001))
    assert response.status_code == 413 and "error" in response.json


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),  # no browser
        ({"Origin": "http://localhost", "Sec-Fetch-Site": "same-origin"}, 200),
        ({"Origin": "https://example.org"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": "http://localhost:3000", "Sec-Fetch-Site": "same-site"}, 403),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Host": "example.org"}, 400),
        ({"Host": "example.org", "Origin": "http://example.org"}, 400),
        ({"Host": "localhost.example.org"}, 400),
    ],
)
def test_other_sites_get_nothing(client, headers, status):
    response = send(client, encode_image(IMAGES[0]), **headers)
    assert response.status_code == status
    assert ("classes" in response.json) == (status == 200)
    assert not [name for name, _ in response.headers if name.startswith("Access-Control")]


def test_what_forms_of_other_sites_can_send_is_refused(client):
    for kind in ("text/plain", "multipart/form-data", "application/x-www-form-urlencoded"):
        response = client.post("/predict", data=encode_image(IMAGES[0]), content_type=kind)
        assert response.status_code == 415


@pytest.mark.parametrize("path", ["/", "/static/page.js", "/static/page.css", "/nothing"])
def test_every_answer_is_locked_up(client, path):
    headers = client.get(path).headers
    policy = headers["Content-Security-Policy"]
    assert policy.startswith("default-src 'none'; ") and "frame-ancestors 'none'" in policy
    assert "unsafe" not in policy and "http" not in policy
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Cache-Control"] == "no-store"


def test_the_page_escapes_names_and_needs_no_network(client):
    page = client.get("/").text
    assert "<b>bold" not in page and "&lt;b&gt;bold" in page
    assert page.count("data:image/png") == 3  # a training image of each class
    assert "http:" not in page and "https:" not in page and "style=" not in page
    for name in ("page.js", "page.css", "icon.svg"):
        assert f"/static/{name}" in page
        assert client.get(f"/static/{name}").status_code == 200


def test_one_image_at_a_time(model, monkeypatch):
    client = make_client(model)
    inside, most = [], []

    def classify(*_):
        inside.append(1)
        most.append(len(inside))
        threading.Event().wait(0.02)
        inside.pop()
        return {}

    monkeypatch.setattr(serving, "classify_image", classify)
    content = encode_image(IMAGES[0])
    app = client.application
    threads = [threading.Thread(target=send, args=(app.test_client(), content)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1] * 4


def test_the_map_colours_the_strongest_place_alone():
    activation = np.zeros((4, 4), np.float32)
    activation[0, 3] = 1
    picture = serving.overlay_map(np.full((28, 28, 3), 100, np.uint8), activation)
    assert picture[0, -1, 0] > 200 and picture[0, -1, 2] < 80
    assert (picture[112:, :112] == 100).all()


@pytest.mark.parametrize(
    ("row", "column", "words"),
    [
        (0, 0, "the upper left"),
        (3, 3, "the centre"),
        (0, 3, "the upper middle"),
        (3, 6, "the right"),
        (6, 3, "the lower middle"),
    ],
)
def test_the_strongest_place_in_words(row, column, words):
    activation = np.zeros((7, 7), np.float32)
    activation[row, column] = 0.5
    assert serving.name_place(activation) == words


def test_examples_are_the_models_own_or_none():
    labels = np.array([2, 0, 1, 0])
    images = make_images(4)[0]
    chosen = choose_examples(images, labels, CONTRACT)
    assert list(chosen) == NAMES
    for name, row in zip(NAMES, [1, 2, 0], strict=True):
        np.testing.assert_array_equal(chosen[name], images[row])
    assert choose_examples(images[:, :20], labels, CONTRACT) == {}  # of another size
    assert choose_examples(images, np.array([0, 1, 1, 0]), CONTRACT) == {}  # of other classes
