"""The page of `python -m stages.predict --serve`, as people use it."""

import re

import numpy as np
import pytest

from tiny import encode_image

pytest.importorskip("flask")
expect = pytest.importorskip("playwright.sync_api").expect

MAKE_DROP = """(files) => {
  const transfer = new DataTransfer();
  for (const [name, bytes] of files) transfer.items.add(new File([new Uint8Array(bytes)], name));
  return transfer;
}"""


@pytest.fixture(scope="module")
def address(finished_project):
    """Where the page of the finished project is served."""
    command = ("python", "-m", "stages.predict", "--serve", "--port", "0")
    with finished_project.start(*command) as process:
        lines = [process.stdout.readline() for _ in range(2)]
        found = re.search(r"http://\S+/", lines[1])
        try:
            assert found, lines
            yield found[0]
        finally:
            process.kill()


@pytest.fixture
def image(finished_project):
    """A test image as a file."""
    return encode_image(np.load(finished_project.folder / "data/arrays/test_images.npy")[0])


def test_a_good_image_and_a_broken_one(page, address, image, screenshot):
    page.goto(address)
    expect(page.get_by_text("The model cnn1 has learnt from fashion_mnist")).to_be_visible()
    files = [("cut<b>.png", list(image[: len(image) // 2])), ("boot.png", list(image))]
    transfer = page.evaluate_handle(MAKE_DROP, files)
    page.dispatch_event(".drop", "drop", {"dataTransfer": transfer})
    expect(page.get_by_role("status")).to_have_text("1 classified, 1 refused")

    broken, good = page.get_by_role("article").all()
    expect(broken.get_by_role("heading")).to_have_text("cut<b>.png")
    expect(broken.get_by_text("cannot be decoded as an image")).to_be_visible()
    assert broken.get_by_role("img").count() == 0

    expect(good.get_by_role("heading")).to_have_text("boot.png")
    expect(good.get_by_role("listitem")).to_have_count(3)
    for row in good.get_by_role("listitem").all():
        expect(row).to_have_text(re.compile(r"\d+\.\d %"))
    expect(good.get_by_text("the other 7 classes together")).to_be_visible()
    expect(good.get_by_alt_text("boot.png. As the model sees it: grey, 28")).to_be_visible()
    map_picture = good.get_by_alt_text("boot.png as a map.")
    expect(map_picture).to_be_visible()
    assert map_picture.evaluate("image => image.decode().then(() => image.naturalWidth)") == 224
    screenshot("results")

    page.get_by_role("button", name="Clear results").click()
    expect(page.get_by_role("article")).to_have_count(0)


def test_by_keyboard_on_a_phone(page, address, image):
    page.set_viewport_size({"width": 360, "height": 700})
    # A listener takes a moment to listen: the one for the key alone may come too late.
    page.on("filechooser", lambda _: None)
    page.goto(address)
    page.keyboard.press("Tab")
    expect(page.get_by_label("Choose files")).to_be_focused()
    with page.expect_file_chooser() as chooser:
        page.keyboard.press("Enter")
    name = "a_long_name_" * 20 + ".png"
    many = [{"name": name, "mimeType": "image/png", "buffer": image}] * 21
    chooser.value.set_files(many)
    expect(page.get_by_role("status")).to_contain_text("the first 20 of 21 files")
    expect(page.get_by_role("status")).to_have_text("20 classified", timeout=30_000)
    assert page.evaluate("document.documentElement.scrollWidth") == 360


def test_no_answer_is_told(page, address, image, problems):
    page.goto(address)
    page.route("**/predict", lambda route: route.abort())
    file = {"name": "a.png", "mimeType": "image/png", "buffer": image}
    page.get_by_label("Choose files").set_input_files([file])
    expect(page.get_by_role("article")).to_contain_text("no answer; does")
    page.evaluate("0")
    assert all("ERR_FAILED" in line for line in problems)
    problems.clear()
