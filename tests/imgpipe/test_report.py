"""imgpipe.report: one page that stands by itself, believes no text, and says what is so."""

import base64
import dataclasses
import hashlib
import itertools
import json
import re
from datetime import UTC, datetime
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from imgpipe import report
from imgpipe.contract import Contract
from imgpipe.params import load_params
from tiny import ROOT, encode_image, make_images

HOSTILE = ["<script>alert(1)</script>", 'Käse & "Brot"', "x" * 300]
PICTURES = ("samples", "activations", "class_activation", "curves", "embedding_model")


class Page(HTMLParser):
    """A page taken apart: its elements with their attributes, its texts, its scripts."""

    def __init__(self, html: str):
        super().__init__()
        self.elements, self.scripts, self.text = [], [], ""
        self.feed(html)

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))

    def handle_data(self, data):
        tag, attributes = self.elements[-1] if self.elements else ("", {})
        if tag == "script" and self.cdata_elem:
            self.scripts.append((attributes, data))
        elif not self.cdata_elem:
            self.text += data

    def all(self, *tags):
        return [attributes for tag, attributes in self.elements if tag in tags]


@pytest.fixture(autouse=True, scope="module")
def _short_script():
    """Vega itself takes seconds to be bundled, and is what it is."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(report, "load_vega_script", lambda: "const vega = 1;")
        yield


@pytest.fixture
def _no_charts(monkeypatch):
    """For what stands in the words; charts take most of the time."""
    for name in ("curves", "confusion", "class_scores", "reliability", "confidence"):
        monkeypatch.setattr(report.charts, f"chart_{name}", lambda *_, **__: {})


def make_predictions(class_names, count=12):
    """Make predictions of which each fifth is wrong."""
    names = np.array(class_names, dtype=object)
    labels = np.arange(count) % len(names)
    guesses = np.where(np.arange(count) % 5 == 4, (labels + 1) % len(names), labels)
    return pd.DataFrame(
        {
            "id": [f"test/{number}" for number in range(count)],
            "actual": names[labels],
            "predicted": names[guesses],
            "probability": np.linspace(0.5, 0.99, count),
            "actual_probability": np.linspace(0.4, 0.99, count),
        }
    )


def make_results(class_names=("cat", "dog", "bird"), **changes) -> report.Results:
    names = list(class_names)
    predictions = make_predictions(names)
    scores = {"class": names, "precision": 0.5, "recall": 0.75, "f1": 0.6, "support": 4}
    history = {"epoch": [1, 2], "accuracy": [0.5, 0.6], "loss": [2.0, 1.0]}
    history |= {"val_accuracy": [0.5, 0.55], "val_loss": [2.0, 1.5]}
    bins = {"confidence_low": [0.0, 0.5], "confidence_high": [0.5, 1.0], "images": [0, 12]}
    bins |= {"confidence": [np.nan, 0.7], "accuracy": [np.nan, 0.8]}
    png = encode_image(make_images(1)[0][0])
    machine = report.StageEnvironment("float32", "3.11", {"numpy": "2"}, "Linux", "CPU", [], 2)
    results = report.Results(
        params=load_params(ROOT / "params.yaml"),
        changed_params=[],
        contract=Contract("photos", "cnn1", names, [28, 28], 1, None),
        test=report.EvaluateMetrics(0.83, 0.7, 0.9, 0.8, 0.5, 0.1, 12, 1000, 2000),
        train=report.TrainMetrics(2, 2, 0.6, 1.0, 0.55, 1.5),
        split=report.SplitMetrics(
            30,
            10,
            12,
            0,
            0,
            0,
            {"within": 0, "across": 0, "conflicting": 0},
            {"val_like_train": 0, "test_like_train": 3, "test_like_val": 0},
        ),
        environments={"train": machine},
        revision="abc123",
        history=pd.DataFrame(history),
        class_scores=pd.DataFrame(scores),
        predictions=predictions,
        reliability=pd.DataFrame(bins),
        test_images=make_images(len(predictions))[0],
        pictures=dict.fromkeys(PICTURES, png),
    )
    return dataclasses.replace(results, **changes)


def render(results) -> Page:
    html = report.render_report(results, datetime(2020, 1, 2, 3, 4, tzinfo=UTC))
    page = Page(html)
    page.html = html
    return page


@pytest.fixture(scope="module")
def page(_short_script) -> Page:
    return render(make_results())


@pytest.fixture(scope="module")
def hostile_page(_short_script) -> Page:
    return render(make_results(HOSTILE))


def test_the_page_needs_no_other_file_and_may_load_none(page):
    for attributes in page.all("img", "script", "link", "iframe", "a", "source"):
        for name in ("src", "href"):
            assert attributes.get(name, "#").startswith(("#", "data:image/png;base64,"))
    (policy,) = (m["content"] for m in page.all("meta") if "http-equiv" in m)
    assert "default-src 'none'" in policy and "unsafe-eval" not in policy
    assert "unsafe-inline" not in policy.partition("script-src")[2]


def test_exactly_the_three_scripts_may_run(hostile_page):
    page = hostile_page
    sums = re.findall(r"'sha256-([^']+)'", page.html.partition("<title>")[0])
    run = [text for attributes, text in page.scripts if "type" not in attributes]
    expected = [base64.b64encode(hashlib.sha256(t.encode()).digest()).decode() for t in run]
    assert sums == expected and len(run) == 3


def test_texts_of_strangers_stay_texts(hostile_page):
    page = hostile_page
    assert len(page.all("script")) == 4  # three that run, and the charts' data
    assert "alert(1)" in page.text and HOSTILE[1] in page.text
    (data,) = (text for attributes, text in page.scripts if "type" in attributes)
    assert "<" not in data
    assert HOSTILE[0] in json.dumps(json.loads(data))


def test_it_can_be_read_without_seeing_it(page):
    levels = [int(tag[1]) for tag, _ in page.elements if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(after - before <= 1 for before, after in itertools.pairwise(levels))
    assert all(image["alt"] for image in page.all("img"))
    assert page.all("html")[0]["lang"] == "en"
    charts = [d for d in page.all("div") if d.get("role") == "img"]
    assert len(charts) == 7 and all(chart["aria-label"] for chart in charts)
    targets = {attributes.get("id") for _, attributes in page.elements}
    assert {a["href"].removeprefix("#") for a in page.all("a")} <= targets


@pytest.mark.usefixtures("_no_charts")
def test_it_says_what_was_run():
    page = render(make_results(changed_params=["models.cnn1"]))
    assert "<title>cnn1 on photos: test accuracy 0.8300</title>" in page.html
    for text in ("learning_rate", "abc123", "float32", "2020-01-02 at 03:04 UTC", "0.003"):
        assert text in page.text
    assert "params.yaml has changed" in page.text and "models.cnn1" in page.text
    assert "3 of the 12 test images look like a training image" in page.text


@pytest.mark.usefixtures("_no_charts")
def test_what_an_older_run_lacks_is_left_out():
    page = render(
        make_results(
            split=None,
            environments={},
            revision=None,
            reliability=None,
            test_images=None,
            pictures={},
        )
    )
    assert not page.all("img")
    assert "no reliability diagram" in page.text
    assert "Inside the model" not in page.text and "Sample sheet" not in page.text
    (data,) = (text for attributes, text in page.scripts if "type" in attributes)
    assert "reliability" not in json.loads(data)["charts"]


def test_every_chart_has_its_place(page):
    (data,) = (text for attributes, text in page.scripts if "type" in attributes)
    places = {d.get("id", "") for d in page.all("div")}
    assert {f"chart-{name}" for name in json.loads(data)["charts"]} <= places


@pytest.mark.usefixtures("_no_charts")
@pytest.mark.parametrize(
    ("low", "high", "words"),
    [
        (0.7, 0.8, "as sure as it is right"),
        (0.1, 0.2, "over-confident: its mean"),
        (0.9, 0.95, "under-confident: its mean"),
    ],
)
def test_confidence_is_judged_by_the_interval(low, high, words):
    results = make_results()  # of a mean confidence of 0.745
    test = dataclasses.replace(results.test, accuracy_low=low, accuracy_high=high)
    assert words in render(dataclasses.replace(results, test=test)).text


@pytest.mark.usefixtures("_no_charts")
def test_no_mistakes():
    results = make_results()
    right = results.predictions.assign(predicted=results.predictions["actual"])
    assert "No test image was taken" in render(dataclasses.replace(results, predictions=right)).text


def test_mistakes_are_the_surest_ones_with_their_own_pictures():
    images = make_images(12)[0]
    table = make_predictions(["a", "b", "c"])
    first, second = report.pick_mistakes(table, images)
    assert (first["id"], second["id"]) == ("test/9", "test/4")
    content = base64.b64decode(first["picture"].address.partition(",")[2])
    assert content == report.encode_png(images[9])


def test_pictures_of_mistakes_are_small(tmp_path):
    path = tmp_path / "a.png"
    path.write_bytes(report.encode_png(np.zeros((400, 200, 3), np.uint8)))
    assert Image.open(path).size == (80, 160)


def test_confusions_are_counted_and_ranked():
    table = pd.DataFrame({"actual": list("aaaabb"), "predicted": list("aabcaa")})
    cells = report.count_confusions(table, ["a", "b", "c"])
    found = {(row.actual, row.predicted): (row.images, row.share) for row in cells.itertuples()}
    assert found["a", "a"] == (2, 0.5) and found["b", "a"] == (2, 1.0) and found["b", "b"] == (0, 0)
    assert found["c", "c"][0] == 0 and np.isnan(found["c", "c"][1])
    assert ("c", "a") not in found
    assert report.make_matrix(cells, ["a", "b", "c"]) == [[2, 1, 1], [2, 0, 0], [0, 0, 0]]
    ranked = [(row["actual"], row["predicted"]) for row in report.rank_confusions(cells)]
    assert ranked == [("b", "a"), ("a", "b"), ("a", "c")]


def test_recall_has_wilsons_interval():
    scores = {"class": ["a", "b"], "recall": [0.8, 0.0], "support": [10, 0]}
    first, second = report.add_intervals(pd.DataFrame(scores))
    assert first["recall_low"] == pytest.approx(0.4902, abs=1e-4)  # by hand
    assert first["recall_high"] == pytest.approx(0.9433, abs=1e-4)
    assert second["recall_low"] is None


def test_parameters_that_changed_since_are_named():
    params = {"seed": 1, "models": {"cnn1": {"epochs": 3}}}
    recorded = [{"seed": 1}, {"models.cnn1": {"epochs": 2}, "datasets.a.split": 5}]
    assert report.find_changed_params(params, recorded) == ["models.cnn1", "datasets.a.split"]


def test_what_is_switched_off_and_where_weights_lie_is_not_told():
    params = load_params(ROOT / "params.yaml")
    options = report.list_model_options(params)
    assert options["schedule.decay"] == "cosine" and options["restore_best_weights"] == "true"
    assert not any(name.startswith("augmentation") for name in options)
    assert "weight_decay" not in options and "backbone" not in options
    folds = params.dataset.model_copy(
        update={"split": params.dataset.split.model_copy(update={"fold": 0})}
    )
    assert report.list_data_options(params._replace(dataset=folds))["split.fold"] == "0"
