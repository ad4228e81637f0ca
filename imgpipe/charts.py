"""Interactive charts of training and predictions, as Vega-Lite specifications.

Colours are named in them by their use alone; `make_theme` says what they are, on light and on dark
paper. Texts of the data (class names) are values in them, never expressions.
"""

from typing import Any

import altair as alt
import numpy as np
import pandas as pd

MOST_CLASSES_NUMBERED = 20  # with more, a cell of the confusion matrix has no room for its number
_MOST_POINTS = 60  # of a curve that are marked one by one
_MOST_TICKS = 20  # of epochs

Spec = dict[str, Any]


def chart_curves(history: pd.DataFrame, score: str, kept_epoch: int) -> Spec:
    """Chart a score over the epochs, on train and val, and mark one epoch.

    Args:
        history: columns epoch, `score` and val_`score`.
        score: "accuracy" or "loss".
        kept_epoch: the epoch whose weights the model has.
    """
    table = history[["epoch", score, f"val_{score}"]].set_axis(["epoch", "train", "val"], axis=1)
    few = len(table) <= _MOST_TICKS  # left to itself, Vega puts some between whole epochs
    ticks = {"values": table["epoch"].tolist()} if few else {}
    epochs = alt.Chart(_data(table)).encode(
        alt.X("epoch:Q")
        .axis(format="d", grid=False, **ticks)
        .scale(nice=False, zero=False, padding=12)
    )
    lines = (
        epochs.transform_fold(["train", "val"], ["subset", "value"])
        .mark_line(point={"size": 36} if len(table) <= _MOST_POINTS else False)
        .encode(
            alt.Y("value:Q").title(score).scale(zero=False),
            alt.Color("subset:N").scale(domain=["train", "val"]).title(None),
        )
    )
    kept = alt.Chart(_data(pd.DataFrame({"epoch": [kept_epoch]}))).encode(alt.X("epoch:Q"))
    rule = kept.mark_rule(strokeDash=[3, 3], color=alt.expr("muted"))
    before_middle = kept_epoch < history["epoch"].mean()
    label = kept.mark_text(
        text=f"epoch {kept_epoch} kept",
        align="left" if before_middle else "right",
        dx=5 if before_middle else -5,
        y=alt.expr("height - 8" if score == "accuracy" else "8"),  # where curves leave room
        color=alt.expr("muted"),
    )
    nearest = alt.selection_point(
        fields=["epoch"], nearest=True, on="pointerover", clear="pointerout", empty=False
    )
    reader = (
        epochs.mark_rule(color=alt.expr("muted"))
        .encode(
            opacity=alt.when(nearest).then(alt.value(0.8)).otherwise(alt.value(0)),
            tooltip=[alt.Tooltip("epoch:Q")]
            + [alt.Tooltip(f"{subset}:Q", format=".4f") for subset in ("train", "val")],
        )
        .add_params(nearest)
    )
    return _finish(lines + rule + label + reader, height=260, width="container")


def chart_confusion(cells: pd.DataFrame, class_names: list[str], shares: bool) -> Spec:
    """Chart the confusion matrix; right and wrong cells each have a colour and scale.

    Args:
        cells: columns actual, predicted, images, share (of the actual class); without those in
            which there is nothing.
        class_names: in label order.
        shares: shade and label by share instead of images.
    """
    column, form = ("share", ".3~p") if shares else ("images", ",d")
    right = cells["actual"] == cells["predicted"]
    largest = cells[column].groupby(right).transform("max")
    table = cells.assign(shade=cells[column] / np.maximum(largest, 1e-9))
    numbered = len(class_names) <= MOST_CLASSES_NUMBERED
    step = (
        _clip(420 / len(class_names), 32, 72) if numbered else _clip(900 / len(class_names), 2, 16)
    )
    labels = {
        "labelFontSize": 12 if numbered else _clip(step - 1, 7, 11),
        "labelLimit": 130,
        "labelOverlap": not numbered,
        "ticks": False,
        "domain": False,
    }
    shared = alt.Chart().encode(
        alt.X("predicted:N")
        .scale(domain=class_names)
        .axis(labelAngle=-45 if numbered else -90, **labels),
        alt.Y("actual:N").scale(domain=class_names).axis(**labels),
        tooltip=[
            alt.Tooltip("actual:N"),
            alt.Tooltip("predicted:N"),
            alt.Tooltip("images:Q", format=",d"),
            alt.Tooltip("share:Q", format=".1%", title="of the actual class"),
        ],
    )
    layers = []
    for kind, colors, sign in (("right", "ramp", "==="), ("wrong", "heatmap", "!==")):
        top = table.loc[right if kind == "right" else ~right, column].max()
        legend = alt.Legend(title=kind, format=form, orient="top", gradientLength=160)
        layers.append(
            shared.transform_filter(f"datum.actual {sign} datum.predicted")
            .mark_rect()
            .encode(
                alt.Color(f"{column}:Q")
                .scale(domain=[0, 1 if pd.isna(top) or not top else float(top)], range=colors)
                .legend(None if numbered else legend)
            )
        )
    if numbered:
        layers.append(
            shared.mark_text(
                fontSize=11 if shares else 12,
                color=alt.expr("datum.shade > cell_turn ? cell_paper : cell_ink"),
            ).encode(alt.Text(f"{column}:Q", format=form))
        )
    chart = alt.layer(*layers, data=_data(table)).resolve_scale(color="independent")
    return _finish(chart, width=alt.Step(step), height=alt.Step(step))


def chart_class_scores(scores: pd.DataFrame) -> Spec:
    """Chart precision, recall and F1 of each class as bars, the best F1 on top.

    Args:
        scores: columns class, precision, recall, f1, support.
    """
    kinds = ["precision", "recall", "F1"]
    table = scores.rename(columns={"f1": "F1"})
    names = table.sort_values("F1", ascending=False, kind="stable")["class"].tolist()
    step = 34 if len(names) <= MOST_CLASSES_NUMBERED else 18
    tooltip = [alt.Tooltip("class:N")]
    tooltip += [alt.Tooltip(f"{kind}:Q", format=".4f") for kind in kinds]
    tooltip += [alt.Tooltip("support:Q", format=",d", title="test images")]
    bars = (
        alt.Chart(_data(table))
        .transform_fold(kinds, ["kind", "value"])
        .mark_bar()
        .encode(
            alt.X("value:Q").title(None).scale(domain=[0, 1]).axis(orient="top", tickCount=5),
            alt.Y("class:N")
            .title(None)
            .scale(domain=names, paddingInner=0.3)
            .axis(labelLimit=130, ticks=False, domain=False),
            alt.YOffset("kind:N").scale(domain=kinds),
            alt.Color("kind:N").scale(domain=kinds).title(None),
            tooltip=tooltip,
        )
    )
    return _finish(bars, width="container", height=step * len(names))


def chart_reliability(bins: pd.DataFrame) -> Spec:
    """Chart the accuracy of the images of each range of confidence, beside the ideal.

    Args:
        bins: columns confidence_low, confidence_high, images, confidence, accuracy; the last two
            are NaN in empty bins.
    """
    filled = alt.Chart(_data(bins[bins["images"] > 0])).encode(tooltip=_bin_tooltip())
    share = {"format": ".0%", "tickCount": 5}
    accuracy = filled.mark_bar(binSpacing=1, opacity=0.6).encode(
        alt.X("confidence_low:Q").scale(domain=[0, 1]).axis(**share).title("confidence"),
        alt.X2("confidence_high:Q"),
        alt.Y("accuracy:Q").scale(domain=[0, 1]).axis(**share).title("accuracy"),
        alt.Y2Datum(0),
    )
    means = filled.mark_point(filled=True, size=44, opacity=1, color=alt.expr("second")).encode(
        alt.X("confidence:Q"), alt.Y("accuracy:Q")
    )
    corners = pd.DataFrame({"confidence": [0, 1], "accuracy": [0, 1]})
    ideal = (
        alt.Chart(_data(corners))
        .mark_line(strokeDash=[5, 4], strokeWidth=1.5, color=alt.expr("muted"))
        .encode(alt.X("confidence:Q"), alt.Y("accuracy:Q"))
    )
    return _finish(accuracy + ideal + means, width="container", height=320)


def chart_confidence(bins: pd.DataFrame) -> Spec:
    """Chart how many images were predicted with which confidence.

    Args:
        bins: as for chart_reliability.
    """
    bars = (
        alt.Chart(_data(bins))
        .mark_bar(binSpacing=1)
        .encode(
            alt.X("confidence_low:Q")
            .scale(domain=[0, 1])
            .axis(format=".0%", tickCount=5)
            .title("confidence"),
            alt.X2("confidence_high:Q"),
            alt.Y("images:Q").title("test images").axis(format=",d", tickCount=5),
            alt.Y2Datum(0),
            tooltip=_bin_tooltip(),
        )
    )
    return _finish(bars, width="container", height=320)


def make_theme(dark: bool) -> dict[str, Any]:
    """Make the Vega configuration that gives charts their colours and type.

    The colours of lines and texts have a contrast of 4.5 to 1 or more with the page, those of the
    confusion matrix with the number in each cell.
    """
    if dark:
        ink, muted, faint, page = "#e6e8eb", "#a7afb8", "#343b43", "#14171b"
        first, second, third = "#7fb2ee", "#f0a067", "#d5d9de"
        right, wrong = ["#1c2f48", "#8fc0f7"], ["#43291a", "#f5a878"]
        cell_ink, cell_paper, cell_turn = "#ffffff", "#000000", 0.5
    else:
        ink, muted, faint, page = "#1c2126", "#59626b", "#e3e6e9", "#ffffff"
        first, second, third = "#2f6db5", "#b85518", "#3f474f"
        right, wrong = ["#dce9f7", "#17498b"], ["#fbe6d8", "#88300a"]
        cell_ink, cell_paper, cell_turn = "#000000", "#ffffff", 0.71
    constants = {
        "muted": muted,
        "second": second,
        "cell_ink": cell_ink,
        "cell_paper": cell_paper,
        "cell_turn": cell_turn,
    }
    return {
        "aria": False,  # each chart has a label and a table beside it
        "background": page,
        "font": "system-ui, sans-serif",
        "params": [{"name": name, "value": value} for name, value in constants.items()],
        "range": {"category": [first, second, third], "ramp": right, "heatmap": wrong},
        "bar": {"color": first},
        "view": {"stroke": faint},
        "text": {"color": ink, "fontSize": 12},
        "axis": {
            "labelColor": ink,
            "titleColor": muted,
            "gridColor": faint,
            "domainColor": muted,
            "tickColor": muted,
            "labelFontSize": 12,
            "titleFontSize": 12,
            "titleFontWeight": "normal",
        },
        "legend": {
            "orient": "top",
            "labelColor": ink,
            "titleColor": muted,
            "labelFontSize": 12,
            "titleFontSize": 12,
            "titleFontWeight": "normal",
        },
    }


def _bin_tooltip() -> list[alt.Tooltip]:
    return [
        alt.Tooltip("confidence_low:Q", format=".1%", title="confidence from"),
        alt.Tooltip("confidence_high:Q", format=".1%", title="to"),
        alt.Tooltip("images:Q", format=",d", title="test images"),
        alt.Tooltip("confidence:Q", format=".4f", title="mean confidence"),
        alt.Tooltip("accuracy:Q", format=".4f"),
    ]


def _data(table: pd.DataFrame) -> alt.InlineData:
    """Put a table into a chart row by row, what is not a finite number as null."""
    finite = table.astype(object).where(~table.isin([np.inf, -np.inf]) & table.notna(), None)
    return alt.InlineData(values=finite.to_dict("records"))


def _finish(chart: alt.Chart | alt.LayerChart, **size) -> Spec:
    return chart.properties(**size).to_dict()


def _clip(value: float, low: int, high: int) -> int:
    return int(min(max(value, low), high))
