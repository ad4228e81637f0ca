"""What `dvc plots show` and `dvc plots diff` write can be looked at without a network."""

import sys

import pandas as pd
import yaml
from PIL import Image

CLASSES = 10


def test_plots_of_one_and_of_two_revisions(page, trained, screenshot):
    trained.run(sys.executable, "-m", "stages.plots_page")
    trained.run("dvc", "plots", "show")
    open_page(page, trained)
    screenshot("show")
    assert page.title() == "Plots of workspace"
    assert_complete(page, trained, revisions=1)

    change_workspace(trained.folder / "plots")
    trained.run("dvc", "plots", "diff", "HEAD", "workspace")
    open_page(page, trained)
    screenshot("diff")
    assert page.title() == "Plots of workspace, HEAD"
    assert_complete(page, trained, revisions=2)
    lines = (
        chart(page, "Accuracy by epoch")
        .locator(".mark-line path[d*=L]")
        .evaluate_all(
            "all => all.map((line) => line.getAttribute('stroke') + line.getAttribute('stroke-dasharray'))"
        )
    )
    assert len(set(lines)) == 4  # a colour for each revision, a dash for each column
    tops = page.locator(".pictures").first.locator("img").evaluate_all("all => all.map((i) => i.y)")
    assert len(tops) == 2
    assert tops[0] == tops[1]  # side by side

    page.emulate_media(color_scheme="dark")
    page.set_viewport_size({"width": 390, "height": 800})
    open_page(page, trained)
    screenshot("diff-dark-phone")
    assert page.evaluate("document.documentElement.scrollWidth") == 390
    label = page.locator(".role-axis-label text").first
    assert label.evaluate("(text) => getComputedStyle(text).fill") == "rgb(230, 232, 235)"


def open_page(page, project):
    """Open the page that DVC has written and wait until its charts are drawn."""
    page.goto((project.folder / "dvc_plots/index.html").as_uri())
    page.wait_for_function("""
        document.querySelector(".chart") &&
        [...document.querySelectorAll(".chart")].every((chart) => chart.querySelector("svg"))
    """)


def chart(page, title: str):
    """Find the section of a chart."""
    return page.locator("section", has=page.locator("h2", has_text=title))


def assert_complete(page, project, revisions: int):
    """Expect every chart with its marks, every image with its text, and a way to each."""
    plots = yaml.safe_load((project.folder / "dvc.yaml").read_text())["plots"]
    assert page.locator("h2").count() == len(plots)
    assert page.locator("nav a").all_inner_texts() == page.locator("h2").all_inner_texts()
    for title in ("Accuracy by epoch", "Loss by epoch"):
        assert chart(page, title).locator(".mark-line path[d*=L]").count() >= 2 * revisions
    assert chart(page, "Confusion").locator(".mark-rect path").count() >= CLASSES * revisions
    assert chart(page, "F1 by class").locator(".mark-rect path").count() == CLASSES * revisions
    images = page.locator("figure img")
    sizes = images.evaluate_all("all => all.map((image) => image.naturalWidth)")
    assert len(sizes) == revisions * sum(isinstance(plot, str) for plot in plots)
    assert all(sizes)
    assert len(set(images.evaluate_all("all => all.map((image) => image.alt)"))) == len(sizes)


def change_workspace(plots):
    """Put other results into the place of DVC's, which are read-only."""
    history, samples = plots / "history.csv", plots / "samples.png"
    table = pd.read_csv(history)
    for path in (history, samples):
        path.unlink()
    table.assign(accuracy=table.accuracy / 2).to_csv(history, index=False)
    Image.new("RGB", (640, 480), "teal").save(samples)
