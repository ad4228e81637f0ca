"""imgpipe.charts: what is in the data is drawn, texts of strangers stay texts, all is legible."""

import json

import numpy as np
import pandas as pd
import pytest
import vl_convert

from imgpipe import charts
from imgpipe.vega import load_vega_script

HOSTILE = ["<b>'\"</b>", "datum.x; alert(1)", "__proto__"]


def make_history(**changes):
    columns = {
        "epoch": [1, 2, 3],
        "accuracy": [0.1, 0.2, 0.3],
        "loss": [3.0, 2.0, 1.0],
        "val_accuracy": [0.1, 0.3, 0.2],
        "val_loss": [3.0, 1.0, 2.0],
    }
    return pd.DataFrame(columns | changes)


def make_cells(class_names):
    """Make a row for each class with itself, and one mistake of the first class."""
    rows = [(name, name, 9, 0.9) for name in class_names]
    rows.append((class_names[0], class_names[1], 1, 0.1))
    return pd.DataFrame(rows, columns=["actual", "predicted", "images", "share"])


def make_bins():
    return pd.DataFrame(
        {
            "confidence_low": [0.0, 0.5],
            "confidence_high": [0.5, 1.0],
            "images": [0, 8],
            "confidence": [np.nan, 0.8],
            "accuracy": [np.nan, 0.7],
        }
    )


def make_scores(class_names):
    scores = {"class": class_names, "precision": 0.5, "recall": 0.5, "support": 3}
    return pd.DataFrame(scores | {"f1": np.linspace(0.2, 0.8, len(class_names))})


def draw(spec, dark=False):
    """Draw a specification as SVG, as a browser would."""
    fixed = {**spec, "width": 300} if spec.get("width") == "container" else spec
    return vl_convert.vegalite_to_svg(fixed, config=charts.make_theme(dark))


def values_in(spec):
    """List the rows of all data in a specification."""
    if isinstance(spec, list):
        return [row for part in spec for row in values_in(part)]
    if not isinstance(spec, dict):
        return []
    if "datasets" in spec:
        return [row for rows in spec["datasets"].values() for row in rows]
    return spec.get("values", []) + [row for part in spec.values() for row in values_in(part)]


def test_curves_name_both_subsets_and_the_kept_epoch():
    drawn = draw(charts.chart_curves(make_history(), "accuracy", 2))
    for text in ("train", "val", "epoch 2 kept"):
        assert f">{text}<" in drawn


def test_a_loss_that_is_no_number_is_left_out_of_the_curve():
    spec = charts.chart_curves(make_history(loss=[np.inf, np.nan, 1.0]), "loss", 3)
    assert [row["train"] for row in values_in(spec) if "train" in row] == [None, None, 1.0]
    json.dumps(spec, allow_nan=False)
    draw(spec)


@pytest.mark.parametrize("classes", [3, 100])
def test_confusion_draws_each_cell_that_is_not_empty(classes):
    names = [f"c{number}" for number in range(classes)]
    drawn = draw(charts.chart_confusion(make_cells(names), names, shares=False))
    cells = drawn.partition("mark-rect")[2]
    assert cells.count("<path") >= classes + 1
    numbered = classes <= charts.MOST_CLASSES_NUMBERED
    assert ("mark-text role-mark" in drawn) == numbered
    assert (">wrong<" in drawn) != numbered  # a legend where there are no numbers


def test_classes_stand_in_label_order_in_the_confusion_and_by_f1_in_the_bars():
    names = ["b", "c", "a"]
    confusion = json.dumps(charts.chart_confusion(make_cells(names), names, shares=True))
    assert '"domain": ["b", "c", "a"]' in confusion
    bars = json.dumps(charts.chart_class_scores(make_scores(names)))
    assert '"domain": ["a", "c", "b"]' in bars


def test_an_empty_bin_is_no_bar_of_height_0():
    spec = charts.chart_reliability(make_bins())
    assert [row["images"] for row in values_in(spec) if "images" in row] == [8]
    assert [row["images"] for row in values_in(charts.chart_confidence(make_bins()))] == [0, 8]


def test_class_names_stay_texts():
    """A name is a value in the data or in a scale's domain, nowhere an expression or a field."""
    for spec in (
        charts.chart_confusion(make_cells(HOSTILE), HOSTILE, shares=False),
        charts.chart_class_scores(make_scores(HOSTILE)),
    ):
        assert find_elsewhere(spec, set(HOSTILE)) == []
        drawn = draw(spec)
        assert "<b>" not in drawn and "&lt;b>" in drawn.replace("&gt;", ">")


def find_elsewhere(part, names):
    """List the places of names in a specification, but for data and domains."""
    if isinstance(part, dict):
        items = [(k, v) for k, v in part.items() if k not in ("datasets", "values", "domain")]
        return [place for _, value in items for place in find_elsewhere(value, names)]
    if isinstance(part, list):
        return [place for value in part for place in find_elsewhere(value, names)]
    return [part for name in names if isinstance(part, str) and name in part]


def luminance(color):
    """Return the relative luminance of an (r, g, b) from 0 to 255. Source: WCAG 2.2."""
    parts = np.asarray(color) / 255
    linear = np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4)
    return float(linear @ [0.2126, 0.7152, 0.0722])


def contrast(one, other):
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def rgb(color):
    return np.array([int(color[place : place + 2], 16) for place in (1, 3, 5)])


@pytest.mark.parametrize("dark", [False, True])
def test_everything_written_or_drawn_in_a_line_stands_out(dark):
    theme = charts.make_theme(dark)
    constants = {entry["name"]: entry["value"] for entry in theme["params"]}
    used = [constants["muted"], constants["second"], *theme["range"]["category"]]
    used += [theme["text"]["color"], theme["axis"]["labelColor"], theme["legend"]["titleColor"]]
    assert min(contrast(rgb(color), rgb(theme["background"])) for color in used) >= 4.5
    for scale in ("ramp", "heatmap"):
        first, last = (rgb(color) for color in theme["range"][scale])
        for shade in np.linspace(0, 1, 101):
            turned = shade > constants["cell_turn"]
            text = constants["cell_paper" if turned else "cell_ink"]
            assert contrast(first + (last - first) * shade, rgb(text)) >= 4.45


def test_the_script_cannot_end_its_element_and_names_nothing_else():
    script = load_vega_script()
    assert "</script" not in script and "<!--" not in script
    assert script.startswith("(() => {") and "window.vegaEmbed" in script
