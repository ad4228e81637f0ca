"""TensorBoard's projector, as `stages.board projector` serves it, and what its page shows."""

import io
import os
import re
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from imgpipe.projector import (
    CONFIG,
    METADATA,
    SPRITES,
    describe_points,
    draw_sprites,
    encode_vectors,
    format_metadata,
)
from tiny import ROOT, make_images

IMAGES, LABELS = make_images(60, size=28, channels=3, classes=3)
CLASSES = ["T-shirt/top", "<img src=x onerror=console.error(1)>", '"{{bag}}"']
SPACES = {
    "model": np.random.default_rng(0).normal(size=(60, 16)) + LABELS[:, None] * 5,
    "pixels": IMAGES.reshape(60, -1) / 255,
}


def start_board(folder: Path, *arguments: str) -> subprocess.Popen:
    command = [sys.executable, "-m", "stages.board", "projector", *arguments]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    return subprocess.Popen(command, cwd=folder, env=os.environ | {"PYTHONPATH": ROOT}, **pipes)


@pytest.fixture(scope="module")
def board(tmp_path_factory):
    """The address of a board, what it has announced, and its folder."""
    project = tmp_path_factory.mktemp("board")
    folder = project / "data/tensorboard/projector"
    folder.mkdir(parents=True)
    names = np.array(CLASSES)[LABELS]
    facts = {"id": names, "actual": names, "predicted": CLASSES[0], "probability": "0.5"}
    sheet, size = draw_sprites(IMAGES, np.arange(60))
    sheet.save(folder / SPRITES)
    (folder / METADATA).write_text(format_metadata(pd.DataFrame(facts)))
    (folder / CONFIG).write_text(describe_points(SPACES, size))
    for name, vectors in SPACES.items():
        encode_vectors(vectors).tofile(folder / f"{name}.bytes")
    with start_board(project, "--port", "0") as process:
        line = process.stdout.readline()
        yield re.search(r"http://localhost:\d+/", line)[0], line, project
        process.send_signal(signal.SIGINT)
        assert process.wait(10) == 128 + signal.SIGINT
        assert process.stdout.read() == "interrupted\n"  # and nothing else


def test_the_server_reads_the_vectors_as_they_are(board):
    url, line, _ = board
    assert line == f"TensorBoard: {url}#projector (Ctrl-C ends it)\n"
    for name, vectors in SPACES.items():
        address = f"{url}data/plugin/projector/tensor?run=.&name={name}"
        with urllib.request.urlopen(address) as answer:
            served = np.frombuffer(answer.read(), "<f4").reshape(vectors.shape)
        np.testing.assert_allclose(served, vectors, rtol=1e-4, atol=1e-30)


def test_a_port_that_is_taken_is_told(board):
    url, _, project = board
    with start_board(project, "--port", url.split(":")[2].strip("/")) as process:
        assert re.fullmatch(r"error: .*already in use; choose .* --port\n", process.stdout.read())


def test_without_points_the_remedy_is_told(tmp_path):
    with start_board(tmp_path) as process:
        assert "error: data/tensorboard/projector: not found; " in process.stdout.read()


def test_the_page_shows_thumbnails_classes_and_facts(board, page, screenshot):
    page.set_viewport_size({"width": 1400, "height": 900})
    page.goto(f"{board[0]}#projector")
    projector = page.frame_locator("iframe").frame_locator("iframe")  # the plugin's, its page's
    projector.locator("#total-variance", has_text="%").wait_for()
    panel = projector.locator("vz-projector-data-panel")
    panel.locator("paper-dropdown-menu[label='Color by']").click()
    panel.locator("paper-item", has_text="actual").locator("visible=true").first.click()
    legend = panel.locator("vz-projector-legend")
    for name in CLASSES:
        legend.get_by_text(name, exact=True).wait_for()
    inspector = projector.locator("vz-projector-inspector-panel")
    inspector.locator("vz-projector-input input").fill("<img")
    inspector.locator(".matches-list .label").first.click()
    card = projector.locator("vz-projector-metadata-card")
    card.get_by_text("wrong").wait_for()
    screenshot("projector")
    box = projector.locator("#scatter").bounding_box()
    with Image.open(io.BytesIO(page.screenshot(clip=box))) as picture:
        pixels = np.asarray(picture.convert("RGB"), int)
    assert (pixels.max(axis=2) < 80).sum() > 500  # the thumbnails' dark parts
