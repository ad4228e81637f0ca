"""The local page of `python -m stages.predict --serve`: images go in, classes and maps come out."""

import base64
import io
import logging
import socket
import threading
from urllib.parse import urlsplit

import numpy as np
from flask import Flask, abort, render_template, request
from PIL import Image
from waitress import create_server
from waitress.server import BaseWSGIServer
from werkzeug.exceptions import HTTPException

from imgpipe.images import to_picture
from imgpipe.inspection import compute_class_activation
from imgpipe.prediction import load_images, rank_classes
from imgpipe.trained import TrainedModel

LARGEST_FILE = 50_000_000  # bytes
MOST_FILES = 20  # that the page takes at once; it sends them one by one
MOST_CONNECTIONS = 20  # each may hold a file, in a temporary one without a name
FILE_TYPE = "application/octet-stream"  # other sites' pages cannot send it unasked
SHOWN_SIDE = 224  # pixels that smaller pictures are enlarged to, at most
MAP_COLOR, MAP_OPACITY = (238, 119, 51), 0.85  # orange, seen by colour-blind readers (Tol, vibrant)
HEADERS = {
    # Nothing from elsewhere and nothing inline; data: are the pictures in the answers.
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "Cache-Control": "no-store",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


def create_app(
    trained: TrainedModel, *, top: int, hosts: list[str], examples: dict[str, np.ndarray]
) -> Flask:
    """Make the page's application.

    `/` is the page. `/predict` takes the bytes of one image file and answers in JSON what
    classify_image returns, or `{"error": …}` with the reason for refusing the file, whose name it
    never learns. One file is worked on at a time, for the memory that each takes.

    Args:
        trained: the model; it makes its first prediction here, which takes longer than others.
        top: classes shown.
        hosts: names and addresses under which the page may be asked for. A site whose name has
            been turned to this machine (DNS rebinding) comes under its own name.
        examples: class to one of its training images, uint8 (height, width, channels), to show.
    """
    contract = trained.contract
    app = Flask(__name__, static_folder="templates/predict", static_url_path="/static")
    # By itself Flask escapes where a template's name ends in .html.
    app.jinja_options = {"autoescape": True, "trim_blocks": True, "lstrip_blocks": True}
    app.config.update(TRUSTED_HOSTS=hosts, MAX_CONTENT_LENGTH=LARGEST_FILE)
    busy = threading.Lock()

    blank = np.zeros((1, *contract.image_size, contract.channels), np.uint8)
    trained.predict(blank)
    has_maps = compute_class_activation(trained, blank, np.zeros(1, np.int64)).size > 0

    @app.get("/")
    def show_page():
        return render_template(
            "predict.html.j2",
            contract=contract,
            examples={name: encode_picture(image) for name, image in examples.items()},
            has_maps=has_maps,
            largest_file=LARGEST_FILE,
            most_files=MOST_FILES,
            file_type=FILE_TYPE,
        )

    @app.post("/predict")
    def predict():
        if not is_own_page():
            abort(403, "pages of other sites are not answered")
        if request.mimetype != FILE_TYPE:
            abort(415, f"the content must be one image file, sent as {FILE_TYPE}")
        with busy:
            try:
                file = io.BytesIO(request.get_data())
                (image,) = load_images([(file, "this file")], contract)
                return classify_image(trained, image, top)
            except ValueError as error:  # not by status, which browsers report as a page's error
                return {"error": str(error)}

    @app.errorhandler(HTTPException)
    def explain(error):
        return {"error": error.description}, error.code

    @app.after_request
    def protect(response):
        response.headers.update(HEADERS)
        return response

    return app


def create_page_server(app: Flask, listening: socket.socket) -> BaseWSGIServer:
    """Make the server for an application; its `run` returns on Ctrl-C."""
    logging.getLogger("waitress").setLevel(logging.ERROR)  # it warns of requests that must wait
    return create_server(
        app,
        sockets=[listening],
        max_request_body_size=LARGEST_FILE + 1,
        connection_limit=MOST_CONNECTIONS,
        ident=None,
    )


def is_own_page() -> bool:
    """Tell whether a request is the page's own, or of a program that is no browser."""
    origin = request.headers.get("Origin")
    site = request.headers.get("Sec-Fetch-Site", "same-origin")
    return site == "same-origin" and (origin is None or urlsplit(origin).netloc == request.host)


def classify_image(trained: TrainedModel, image: np.ndarray, top: int) -> dict:
    """Classify one image and show why.

    Args:
        trained: the model.
        image: uint8 (height, width, channels), in the contract's size and channels.
        top: classes wanted.

    Returns:
        classes: list of the `top` best, (name, probability).
        seen: the image as a picture (data: address).
        map: where in it the best class was found, likewise; None for a model without convolutions.
        place: the same in words; None where nothing in the image speaks for the class.
    """
    images = image[np.newaxis]
    (row,) = trained.predict(images)
    ranking = rank_classes(row, trained.contract.class_names, top)
    (activation,) = compute_class_activation(trained, images, np.array([row.argmax()]))
    return {
        "classes": list(ranking.items()),
        "seen": encode_picture(image),
        "map": encode_picture(overlay_map(image, activation)) if activation.size else None,
        "place": name_place(activation) if activation.any() else None,
    }


def overlay_map(image: np.ndarray, activation: np.ndarray) -> np.ndarray:
    """Lay an activation map over the grey image, the stronger the more opaque.

    Args:
        image: uint8 (height, width, 1 or 3).
        activation: float32 (map height, map width) in [0, 1].

    Returns:
        uint8 (height, width, 3), enlarged as encode_picture does it.
    """
    grey = enlarge(to_picture(image).convert("L"))
    heat = Image.fromarray(activation).resize(grey.size, Image.Resampling.BICUBIC)
    opacity = MAP_OPACITY * np.asarray(heat).clip(0, 1)[..., np.newaxis]
    mixed = np.asarray(grey)[..., np.newaxis] * (1 - opacity) + np.array(MAP_COLOR) * opacity
    return mixed.round().astype(np.uint8)


def name_place(activation: np.ndarray) -> str:
    """Say in words where an activation map has its strongest place."""
    position = np.unravel_index(activation.argmax(), activation.shape)
    row, column = (
        int(3 * (place + 0.5) / length)
        for place, length in zip(position, activation.shape, strict=True)
    )
    words = f"{('upper', '', 'lower')[row]} {('left', '', 'right')[column]}".strip()
    words = {"": "centre", "upper": "upper middle", "lower": "lower middle"}.get(words, words)
    return f"the {words}"


def encode_picture(image: np.ndarray) -> str:
    """Turn a uint8 array (height, width, 1 or 3) into the data: address of a PNG."""
    file = io.BytesIO()
    enlarge(to_picture(image)).save(file, "PNG")
    return f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"


def enlarge(picture: Image.Image) -> Image.Image:
    """Repeat the pixels of a small picture, so that each can be seen."""
    times = max(1, SHOWN_SIDE // max(picture.size))
    return picture.resize((picture.width * times, picture.height * times), Image.Resampling.NEAREST)
