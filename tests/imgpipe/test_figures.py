"""imgpipe.figures: they show what they are given, for one class or fifty."""

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from imgpipe import figures
from tiny import make_images


def texts(figure):
    return [text.get_text() for text in figure.findobj(lambda x: hasattr(x, "get_text"))]


def predictions(actual, predicted, probability):
    return pd.DataFrame({"actual": actual, "predicted": predicted, "probability": probability})


@pytest.mark.parametrize("channels", [1, 3])
def test_samples_stand_in_the_row_of_their_class(channels):
    images, labels = make_images(25, channels=channels)
    figure = figures.draw_samples(images, labels, [f"class {i}" for i in range(10)], per_class=3)
    rows = np.array(figure.axes).reshape(10, 3)
    assert rows[4, 0].get_ylabel() == "class 4"
    shown = np.asarray(rows[4, 1].images[0].get_array())
    np.testing.assert_array_equal(shown.reshape(images[14].shape), images[14])
    assert not rows[9, 2].images  # class 9 has two images


def test_confusion_counts():
    figure = figures.draw_confusion(
        pd.Series(["a", "a", "b"]), pd.Series(["a", "b", "b"]), ["a", "b", "c"]
    )
    numbers = [t.get_text() for t in figure.axes[0].texts]
    assert numbers == ["1", "1", "0", "0", "1", "0", "0", "0", "0"]
    np.testing.assert_allclose(figure.axes[0].images[0].get_array()[0], [0.5, 0.5, 0])


def test_mistakes_are_sorted_by_confidence_beside_the_predicted_class():
    images, _ = make_images(4)
    table = predictions(["a", "b", "a", "b"], ["b", "b", "b", "a"], [0.7, 0.9, 0.8, 0.6])
    figure = figures.draw_mistakes(images, table, count=2)
    above, below = np.array(figure.axes).reshape(2, 2)
    assert above[0].get_title() == "a\ntaken for\nb 0.80"
    assert above[1].get_title() == "a\ntaken for\nb 0.70"
    assert below[0].get_title() == "b 0.90"
    np.testing.assert_array_equal(above[0].images[0].get_array(), images[2, ..., 0])


def test_no_mistakes():
    figure = figures.draw_mistakes(make_images(1)[0], predictions(["a"], ["a"], [1.0]))
    assert "No test image was predicted wrong." in texts(figure)


def test_curves_mark_the_epoch_whose_weights_are_kept():
    history = pd.DataFrame(
        {
            "epoch": [1, 2, 3],
            "accuracy": [0.1, 0.2, 0.3],
            "loss": [3, 2, 1],
            "val_accuracy": [0.1, 0.3, 0.2],
            "val_loss": [3, 1, 2],
        }
    )
    assert "weights of epoch 2" in texts(figures.draw_curves(history, 2))


def test_activations_show_every_layer():
    maps = {"first": np.zeros((5, 5, 3), np.float32), "second": np.ones((2, 2, 40), np.float32)}
    figure = figures.draw_activations(make_images(1)[0][0], maps, "title")
    assert {"first\n5×5×3", "second\n2×2×40", "title"} <= set(texts(figure))


@pytest.mark.parametrize("classes", [2, 50])
def test_files_are_png_and_the_same_each_time(tmp_path, classes):
    names = [f"class {i}" for i in range(classes)]
    actual = pd.Series(names)
    scores = pd.DataFrame(
        {"class": names, "precision": 1.0, "recall": 0.5, "f1": 0.7, "support": 1}
    )
    images, labels = make_images(4, classes=2)
    for draw in (
        lambda: figures.draw_confusion(actual, actual, names),
        lambda: figures.draw_class_scores(scores),
        lambda: figures.draw_samples(images, labels, names[:2]),
    ):
        for name in ("a.png", "b.png"):
            figures.save_figure(draw(), tmp_path / name)
        assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
        assert Image.open(tmp_path / "a.png").format == "PNG"


def test_reliability_is_drawn_for_the_ranges_that_have_images():
    table = pd.DataFrame(
        {
            "confidence_low": [0, 0.5],
            "confidence_high": [0.5, 1],
            "images": [0, 4],
            "confidence": [np.nan, 0.9],
            "accuracy": [np.nan, 0.75],
        }
    )
    above, below = figures.draw_reliability(table).axes
    (bar,) = above.patches
    assert (bar.get_x(), bar.get_height()) == (0.5, 0.75)
    assert [bar.get_height() for bar in below.patches] == [0, 4]


def test_class_activation_shows_mistakes_for_both_classes():
    images, _ = make_images(3)
    table = predictions(["a", "b", "a"], ["a", "a", "b"], [1, 0.9, 0.8])
    maps = {"predicted": np.ones((3, 4, 4)), "actual": np.zeros((3, 4, 4))}
    figure = figures.draw_class_activation(images, table, maps)
    titles = [axis.get_title() for axis in figure.axes if axis.images]
    wrong = ["b\ntaken for a 0.90", "a\ntaken for b 0.80"]
    assert titles == ["a\n1.00", "a", *wrong, "a", "b", "b", "a"]
    without = {name: np.zeros((3, 0, 0)) for name in maps}
    assert "no convolutions" in " ".join(
        texts(figures.draw_class_activation(images, table, without))
    )


@pytest.mark.parametrize("count", [2, 15, 30])
def test_an_embedding_has_a_colour_a_class(count):
    names = [f"class {number}" for number in range(count)]
    table = pd.DataFrame(
        np.random.default_rng(0).normal(size=(60, 4)),
        columns=["pca_1", "pca_2", "tsne_1", "tsne_2"],
    )
    table["class"] = [names[number % count] for number in range(60)]
    figure = figures.draw_embedding(table, names, "raw pixels")
    for axis, columns in zip(figure.axes, (["pca_1", "pca_2"], ["tsne_1", "tsne_2"]), strict=True):
        assert len({tuple(points.get_facecolor()[0]) for points in axis.collections}) == count
        expected = table.loc[table["class"] == "class 1", columns]
        np.testing.assert_array_equal(axis.collections[1].get_offsets(), expected)
