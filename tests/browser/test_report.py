"""The report in a browser: it opens from disk, draws everything, fits, and follows the theme."""

import itertools

import pytest

MARKS = """() => [...document.querySelectorAll(".live")].map((box) => [
    box.firstElementChild.id,
    box.querySelectorAll("[class*='mark-']:is(.role-mark) :is(path, text)").length,
])"""
BACKGROUND = "() => getComputedStyle(document.body).backgroundColor"
DRAWN = "html[data-charts={}]"


@pytest.fixture(scope="session")
def report(finished_project, tmp_path_factory):
    """The report of the finished project, as an address."""
    path = tmp_path_factory.mktemp("report") / "report.html"
    finished_project.run("python", "-m", "stages.report", "--out", str(path))
    return path.as_uri()


def test_every_chart_and_picture_is_there(page, report, screenshot):
    page.goto(report)
    page.wait_for_selector(DRAWN.format("light"))
    marks = dict(page.evaluate(MARKS))
    assert len(marks) == 7
    assert all(marks.values()), marks
    widths = page.evaluate("() => [...document.images].map((image) => image.naturalWidth)")
    assert len(widths) > 5 and all(widths)
    assert page.locator("img:visible").count() < len(widths)  # charts, not their still pictures
    screenshot("light")


def test_a_tooltip_tells_the_numbers(page, report):
    page.goto(report)
    page.wait_for_selector(DRAWN.format("light"))
    page.locator("#chart-confusion .mark-text text").first.hover(force=True)
    tooltip = page.locator("#vg-tooltip-element.visible")
    tooltip.wait_for()
    assert "actual" in tooltip.inner_text() and "predicted" in tooltip.inner_text()


def test_nothing_but_its_own_boxes_scrolls_sideways_on_a_phone(page, report, screenshot):
    page.set_viewport_size({"width": 360, "height": 740})
    page.goto(report)
    page.wait_for_selector(DRAWN.format("light"))
    assert page.evaluate("() => document.documentElement.scrollWidth") <= 360
    page.wait_for_selector(".wide[tabindex='0'][aria-label]")  # reached by keyboard too
    screenshot("phone")


def test_it_turns_dark_and_light_with_the_system(page, report, screenshot):
    page.goto(report)
    page.wait_for_selector(DRAWN.format("light"))
    before = page.evaluate(BACKGROUND)
    page.emulate_media(color_scheme="dark")
    page.wait_for_selector(DRAWN.format("dark"))
    assert page.evaluate(BACKGROUND) != before
    assert page.locator(".live svg").count() == 7  # the old ones are gone
    screenshot("dark")
    page.emulate_media(color_scheme="dark", media="print")  # dark charts: still pictures instead
    assert page.locator("#curves .still").is_visible()
    assert not page.locator("#chart-accuracy").is_visible()


def test_headings_are_in_order_and_pictures_have_texts(page, report):
    page.goto(report)
    levels = page.evaluate(
        "() => [...document.querySelectorAll('h1,h2,h3,h4')].map((h) => +h.tagName[1])"
    )
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(after - before <= 1 for before, after in itertools.pairwise(levels))
    assert page.locator("img:not([alt]), img[alt='']").count() == 0


def test_without_scripts_still_pictures_stand_in(browser, report):
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(report)
    assert page.locator("#curves .still img").is_visible()
    assert page.locator("noscript p").is_visible()
    assert not page.locator("#curves .live").first.is_visible()
    context.close()
