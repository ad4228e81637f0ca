"""The page that the tests in a browser get: cut off, watched, and able to show things."""

import pytest

DRAW_TEXT = """() => {
  const canvas = document.createElement("canvas");
  const context = canvas.getContext("2d", {willReadFrequently: true});
  context.font = "40px sans-serif";
  return ["i", "W", "é"].map((letter) => {
    context.clearRect(0, 0, 100, 100);
    context.fillText(letter, 10, 50);
    return context.getImageData(0, 0, 100, 100).data.reduce((sum, value) => sum + value, 0);
  });
}"""


def test_nothing_leaves_the_machine_and_an_attempt_is_a_failure(page, problems):
    page.goto("data:text/html,<p>")
    page.evaluate("""async () => {
        const image = new Image();
        image.src = "https://example.org/picture.png";
        await image.decode().catch(() => 0);
        await new Promise((done) => { new WebSocket("wss://example.org/").onclose = done; });
    }""")
    page.evaluate("0")
    assert any("picture.png" in line for line in problems)
    assert any("wss://example.org" in line for line in problems)
    problems.clear()


@pytest.mark.parametrize(
    "script",
    ["console.error('broken')", "throw Error('broken')", "Promise.reject(Error('broken'))"],
)
def test_errors_in_the_page_are_failures(page, problems, script):
    page.goto(f"data:text/html,<script>{script}</script>")
    page.evaluate("0")
    assert len(problems) == 1
    assert "broken" in problems[0]
    problems.clear()


@pytest.mark.browser(allow=["known message"])
def test_a_known_message_is_let_pass(page):
    page.goto("data:text/html,<script>console.error('a known message of a library')</script>")


def test_missing_files_are_failures(page, problems, tmp_path):
    path = tmp_path / "page.html"
    path.write_text("<img src=picture.png>")
    page.goto(path.as_uri())
    assert any("picture.png" in line for line in problems)
    problems.clear()


def test_text_and_webgl_are_drawn(page):
    page.goto("data:text/html,<p>")
    narrow, wide, accented = page.evaluate(DRAW_TEXT)
    assert 0 < narrow < wide
    assert accented not in (0, narrow, wide)
    assert page.evaluate("!!document.createElement('canvas').getContext('webgl')")
