"""Figures of data, training and predictions. Each function returns a matplotlib Figure."""

from pathlib import Path

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

TRAIN_COLOR, VAL_COLOR = "#4477aa", "#cc6677"  # told apart by colour-blind readers (Tol, bright)
MAX_CLASSES_SHOWN = 20
CHANNELS_SHOWN = 16


def save_figure(figure: Figure, path: Path) -> None:
    """Write a figure as PNG, without the writing program's version: same figure, same bytes."""
    figure.savefig(path, format="png", dpi=110, metadata={"Software": None})


def draw_samples(
    images: np.ndarray, labels: np.ndarray, class_names: list[str], per_class: int = 10
) -> Figure:
    """Draw a sheet with a row of images a class.

    Args:
        images: uint8 (n, height, width, 1 or 3), may be a memory map.
        labels: integers (n,).
        class_names: in label order; the first twenty are shown.
        per_class: images in a row.
    """
    names = class_names[:MAX_CLASSES_SHOWN]
    figure = Figure(figsize=(per_class * 0.8 + 1.6, len(names) * 0.8 + 0.4), layout="constrained")
    axes = figure.subplots(len(names), per_class, squeeze=False)
    for label, (name, row) in enumerate(zip(names, axes, strict=True)):
        numbers = np.flatnonzero(labels == label)[:per_class]
        for axis, number in zip(row, numbers, strict=False):
            _show_image(axis, images[number])
        for axis in row[len(numbers) :]:
            axis.axis("off")
        row[0].set_ylabel(name, rotation=0, ha="right", va="center", labelpad=8)
        row[0].axis("on")
        row[0].set(xticks=[], yticks=[])
    figure.suptitle("Training images")
    return figure


def draw_curves(history: pd.DataFrame, kept_epoch: int) -> Figure:
    """Draw accuracy and loss over the epochs, on train and val, and mark one epoch.

    Args:
        history: columns epoch, accuracy, loss, val_accuracy, val_loss.
        kept_epoch: the epoch whose weights the model has.
    """
    figure = Figure(figsize=(10, 4), layout="constrained")
    for axis, score in zip(figure.subplots(1, 2), ("accuracy", "loss"), strict=True):
        for column, color in ((score, TRAIN_COLOR), (f"val_{score}", VAL_COLOR)):
            label = "val" if column.startswith("val_") else "train"
            marker = "o" if len(history) < 20 else None
            axis.plot(history["epoch"], history[column], color=color, label=label, marker=marker)
        axis.axvline(kept_epoch, color="0.6", linestyle=":", label=f"weights of epoch {kept_epoch}")
        axis.set(xlabel="epoch", ylabel=score, title=score.capitalize())
        axis.xaxis.get_major_locator().set_params(integer=True)
        axis.grid(color="0.92")
        axis.legend()
    return figure


def draw_confusion(actual: pd.Series, predicted: pd.Series, class_names: list[str]) -> Figure:
    """Draw the confusion matrix: counts as numbers, the share of each actual class as shade."""
    table = pd.crosstab(
        pd.Categorical(actual, class_names), pd.Categorical(predicted, class_names), dropna=False
    )
    counts = table.to_numpy()
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    size = max(4, 0.7 * len(class_names) + 2)
    figure = Figure(figsize=(size + 1, size), layout="constrained")
    axis = figure.subplots()
    picture = axis.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    if len(class_names) <= MAX_CLASSES_SHOWN:
        for (row, column), count in np.ndenumerate(counts):
            color = "white" if shares[row, column] > 0.5 else "black" if count else "0.75"
            axis.text(column, row, f"{count}", ha="center", va="center", color=color, fontsize=9)
    ticks = range(len(class_names))
    axis.set_xticks(ticks, class_names, rotation=45, ha="right", rotation_mode="anchor")
    axis.set_yticks(ticks, class_names)
    axis.set(xlabel="predicted", ylabel="actual", title="Test images by actual and predicted class")
    figure.colorbar(picture, ax=axis, shrink=0.8, label="share of the actual class (recall)")
    return figure


def draw_mistakes(images: np.ndarray, predictions: pd.DataFrame, count: int = 10) -> Figure:
    """Draw the most confident wrong predictions, each above what it was taken for.

    Args:
        images: uint8 (n, height, width, 1 or 3), may be a memory map.
        predictions: in the images' order: actual, predicted, probability.
        count: mistakes shown.
    """
    table = predictions.reset_index(drop=True)
    wrong = table[table["actual"] != table["predicted"]]
    wrong = wrong.sort_values("probability", ascending=False, kind="stable").head(count)
    right = table[table["actual"] == table["predicted"]]
    right = right.sort_values("probability", ascending=False, kind="stable")
    figure = Figure(figsize=(max(6, 1.35 * len(wrong)), 4.1), layout="constrained")
    if wrong.empty:
        figure.text(0.5, 0.5, "No test image was predicted wrong.", ha="center")
        return figure
    figure.suptitle("The most confident mistakes, and a correct image of the predicted class")
    axes = figure.subplots(2, len(wrong), squeeze=False)
    used = set()
    for (number, row), (above, below) in zip(wrong.iterrows(), axes.T, strict=True):
        _show_image(above, images[number])
        above.set_title(
            f"{row['actual']}\ntaken for\n{row['predicted']} {row['probability']:.2f}",
            fontsize=8,
            color=VAL_COLOR,
        )
        like = [n for n in right.index[right["predicted"] == row["predicted"]] if n not in used]
        if not like:
            below.axis("off")
            continue
        used.add(like[0])
        _show_image(below, images[like[0]])
        below.set_title(
            f"{row['predicted']} {right.loc[like[0], 'probability']:.2f}",
            fontsize=8,
            color=TRAIN_COLOR,
        )
    return figure


def draw_class_scores(scores: pd.DataFrame) -> Figure:
    """Draw precision, recall and F1 of each class as bars.

    Args:
        scores: columns class, precision, recall, f1, support.
    """
    figure = Figure(figsize=(8, max(3, 0.5 * len(scores) + 1.2)), layout="constrained")
    axis = figure.subplots()
    places = np.arange(len(scores))
    colors = {"precision": "#88ccee", "recall": "#ddcc77", "f1": "#332288"}
    for shift, (column, color) in zip((-0.27, 0, 0.27), colors.items(), strict=True):
        bars = axis.barh(places + shift, scores[column], 0.25, color=color, label=column)
        if column == "f1":
            axis.bar_label(bars, fmt="%.3f", padding=3, fontsize=8)
    labels = [f"{name} ({n})" for name, n in zip(scores["class"], scores["support"], strict=True)]
    axis.set_yticks(places, labels)
    axis.invert_yaxis()
    axis.set(xlim=(0, 1.08), title="Scores by class (number of test images)")
    axis.grid(axis="x", color="0.92")
    axis.set_axisbelow(True)
    axis.legend(loc="upper center", bbox_to_anchor=(0.5, -0.06), ncols=3, frameon=False)
    return figure


def draw_activations(image: np.ndarray, maps: dict[str, np.ndarray], title: str) -> Figure:
    """Draw an image and what the first channels of each convolution layer make of it.

    Args:
        image: uint8 (height, width, 1 or 3).
        maps: layer name to float32 (map height, map width, map channels).
        title: above the figure.
    """
    figure = Figure(
        figsize=(CHANNELS_SHOWN * 0.7 + 1.5, (len(maps) + 1.6) * 0.75), layout="constrained"
    )
    figure.suptitle(title)
    axes = figure.subplots(len(maps) + 1, CHANNELS_SHOWN, squeeze=False)
    for axis in axes.flat:
        axis.axis("off")
    _show_image(axes[0, 0], image)
    for row, (name, layer_maps) in zip(axes[1:], maps.items(), strict=True):
        height, width, channels = layer_maps.shape
        for axis, channel in zip(row, range(channels), strict=False):
            axis.imshow(layer_maps[..., channel], cmap="viridis")
        row[0].text(
            -0.15,
            0.5,
            f"{name}\n{height}×{width}×{channels}",
            transform=row[0].transAxes,
            ha="right",
            va="center",
            fontsize=8,
        )
    return figure


def draw_reliability(table: pd.DataFrame) -> Figure:
    """Draw how often predictions are right against how sure the model was of them.

    Args:
        table: as evaluation.tabulate_reliability makes it.
    """
    figure = Figure(figsize=(5.6, 5.6), layout="constrained")
    axis, below = figure.subplots(2, 1, height_ratios=[4, 1], sharex=True)
    filled = table[table["images"] > 0]
    width = table["confidence_high"].iloc[0]
    axis.plot([0, 1], [0, 1], color="0.6", linestyle=":", label="as sure as right")
    axis.bar(
        filled["confidence_low"],
        filled["accuracy"],
        width,
        align="edge",
        color="#88ccee",
        edgecolor="white",
    )
    axis.plot(filled["confidence"], filled["accuracy"], color=TRAIN_COLOR, marker="o", markersize=4)
    axis.set(ylim=(0, 1), ylabel="share that is right", title="Reliability on the test images")
    axis.legend(loc="upper left", frameon=False)
    below.bar(table["confidence_low"], table["images"], width, align="edge", color="0.7")
    below.set(xlim=(0, 1), xlabel="confidence (probability of the predicted class)")
    below.set(ylabel="images", yscale="log" if table["images"].max() > 100 else "linear")
    return figure


def draw_class_activation(
    images: np.ndarray, predictions: pd.DataFrame, maps: dict[str, np.ndarray]
) -> Figure:
    """Draw where the model saw a class in each of some images: the right ones, then the wrong.

    Args:
        images: uint8 (n, height, width, 1 or 3).
        predictions: of these images: actual, predicted, probability.
        maps: predicted and actual, float (n, map height, map width) from 0 to 1.
    """
    table = predictions.reset_index(drop=True)
    is_right = table["actual"] == table["predicted"]
    right, wrong = table[is_right], table[~is_right]
    columns = max(len(right), len(wrong))
    rows = (2 if len(right) else 0) + (3 if len(wrong) else 0)
    figure = Figure(figsize=(max(6, 1.5 * columns + 1.2), 1.55 * rows + 0.8), layout="constrained")
    figure.suptitle("Where the model sees the class (Grad-CAM; brighter is more)")
    if not maps["predicted"].size:
        figure.text(0.5, 0.4, "This model has no convolutions.", ha="center")
        return figure
    axes = iter(figure.subplots(rows, columns, squeeze=False))
    for part, shown in ((right, ["predicted"]), (wrong, ["predicted", "actual"])):
        if part.empty:
            continue
        lines = [next(axes) for _ in range(1 + len(shown))]
        for axis in np.ravel(lines):
            axis.axis("off")
        for column, (number, row) in enumerate(part.iterrows()):
            _show_image(lines[0][column], images[number])
            is_wrong = row["actual"] != row["predicted"]
            lines[0][column].set_title(
                f"{row['actual']}\n"
                + (f"taken for {row['predicted']} " if is_wrong else "")
                + f"{row['probability']:.2f}",
                fontsize=8,
                color=VAL_COLOR if is_wrong else TRAIN_COLOR,
            )
            for axes_line, name in zip(lines[1:], shown, strict=True):
                _show_heat(axes_line[column], images[number], maps[name][number])
                axes_line[column].set_title(row[name], fontsize=8)
    return figure


def draw_embedding(table: pd.DataFrame, class_names: list[str], space: str) -> Figure:
    """Draw images as points that stand together where the images are alike.

    Args:
        table: class (its name), pca_1, pca_2, tsne_1, tsne_2.
        class_names: in label order.
        space: what the images were compared by, in words.
    """
    figure = Figure(figsize=(10, 5.8), layout="constrained")
    figure.suptitle(f"Test images by {space}")
    size = float(np.clip(20_000 / len(table), 2, 30))
    for axis, method in zip(figure.subplots(1, 2), ("PCA", "t-SNE"), strict=True):
        columns = [f"{method.replace('-', '').lower()}_{number}" for number in (1, 2)]
        for name, color in zip(class_names, choose_colors(len(class_names)), strict=True):
            points = table.loc[table["class"] == name, columns].to_numpy()
            axis.scatter(*points.T, s=size, color=color, label=name, alpha=0.6, linewidths=0)
        axis.set(xticks=[], yticks=[], title=method)
        axis.set_aspect("equal", adjustable="datalim")
    if len(class_names) <= MAX_CLASSES_SHOWN:
        legend = figure.legend(
            *axis.get_legend_handles_labels(), loc="outside lower center", ncols=5, frameon=False
        )
        for handle in legend.legend_handles:
            handle.set(alpha=1, sizes=[40])
    return figure


def choose_colors(count: int) -> list:
    """Choose a colour for each of `count` classes, as far apart as they can be."""
    if count <= 20:
        palette = matplotlib.colormaps["tab10" if count <= 10 else "tab20"]
        return [palette(number) for number in range(count)]
    palette = matplotlib.colormaps["hsv"]
    return [palette(number / count) for number in range(count)]


def _show_heat(axis, image: np.ndarray, heat: np.ndarray) -> None:
    """Show an image in grey under a map of the same place, whatever the map's size."""
    height, width = image.shape[:2]
    axis.imshow(image.mean(axis=-1), cmap="gray", vmin=0, vmax=255)
    axis.imshow(
        heat,
        cmap="inferno",
        vmin=0,
        vmax=1,
        alpha=0.65,
        extent=(-0.5, width - 0.5, height - 0.5, -0.5),
        interpolation="bilinear",
    )


def draw_disagreements(
    images: np.ndarray, table: pd.DataFrame, names: tuple[str, str], rows: int = 2
) -> Figure:
    """Draw the images that one of two runs gets right and the other wrong, a block for each.

    Those come first where both are sure: they tell most of how the two differ.

    Args:
        images: uint8 (n, height, width, 1 or 3), may be a memory map.
        table: in the images' order: actual, predicted_first, probability_first, predicted_second,
            probability_second.
        names: of the first and the second run.
        rows: of eight images, in each block.
    """
    columns = 8
    table = table.reset_index(drop=True)
    sureness = table[["probability_first", "probability_second"]].min(axis=1)
    table = table.loc[sureness.sort_values(ascending=False, kind="stable").index]
    hits = {side: table[f"predicted_{side}"] == table["actual"] for side in ("first", "second")}
    figure = Figure(figsize=(columns * 1.45, rows * 3.8 + 1), layout="constrained")
    blocks = figure.subfigures(2, 1, hspace=0.04)
    for block, (right, wrong), (name, other) in zip(
        blocks, (("first", "second"), ("second", "first")), (names, names[::-1]), strict=True
    ):
        chosen = table[hits[right] & ~hits[wrong]]
        block.suptitle(
            f"Only {name} is right: {len(chosen):,}\n"
            f"above each image its class and {name}'s probability, below it what {other} predicts",
            fontsize=10,
        )
        axes = block.subplots(rows, columns, squeeze=False)
        for axis in axes.flat[len(chosen) :]:
            axis.axis("off")
        for axis, (number, row) in zip(axes.flat, chosen.iterrows(), strict=False):
            _show_image(axis, images[number])
            above = f"{row['actual']} {row[f'probability_{right}']:.2f}"
            below = f"{row[f'predicted_{wrong}']} {row[f'probability_{wrong}']:.2f}"
            axis.set_title(above, fontsize=8, color=TRAIN_COLOR)
            axis.set_xlabel(below, fontsize=8, color=VAL_COLOR)
    return figure


def _show_image(axis, image: np.ndarray) -> None:
    if image.shape[-1] == 1:
        axis.imshow(image[..., 0], cmap="gray", vmin=0, vmax=255)
    else:
        axis.imshow(image)
    axis.set(xticks=[], yticks=[])
