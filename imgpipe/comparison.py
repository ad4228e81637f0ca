"""Comparing runs: what differs between them, by how much, and whether that is more than noise.

Two runs on the same test images are compared image by image, which speaks of two trained networks.
Several runs that differ in seed or fold alone are repeats of one recipe; two recipes are compared
by the spread between their repeats.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import binomtest, t, ttest_ind

from imgpipe.repeats import REPEATED, pick_settings
from imgpipe.wording import shorten

# Settings that choose the test images, and what to call them.
_MISMATCHES = {
    "dataset": "datasets",
    "fold": "folds",
    "split_seed": "seeds of the split",
    "split.test_fraction": "test fractions",
}


@dataclass(frozen=True, eq=False)
class Run:
    """What was run, and what came of it.

    Attributes:
        name: as the user calls it.
        commit: its hash, or None for what lies in the folder.
        params: all parameters by their dotted names.
        files: the code and the data that the results were computed with, path to sum.
        scores: what stands in metrics/, by name, the numbers of images (train, test) among them.
        predictions: one row a test image: id, sha256 (of the image), actual, predicted,
            probability (of the predicted class).
        stale: parameters and files that were changed after the results were computed.
    """

    name: str
    commit: str | None
    params: dict[str, Any]
    files: dict[str, str]
    scores: dict[str, float]
    predictions: pd.DataFrame
    stale: list[str]

    @cached_property
    def settings(self) -> dict[str, Any]:
        """The parameters that count, as pick_settings names them."""
        return pick_settings(self.params)

    @cached_property
    def recipe(self) -> str:
        """All that repeats of one experiment share; equal for repeats and for nothing else."""
        settings = {k: v for k, v in self.settings.items() if k not in REPEATED}
        return json.dumps([settings, self.files], sort_keys=True, default=str)

    @cached_property
    def repeat(self) -> tuple[str, ...]:
        """Which of its recipe's repeats this is."""
        return tuple(str(self.settings[name]) for name in REPEATED)


@dataclass(frozen=True)
class Pair:
    """Two runs, image by image. Differences are the second's accuracy less the first's.

    Attributes:
        first, second: the runs' names.
        settings, files: in which they differ.
        images: how many they were both tested on, or None (as all that follows) if not on the
            same.
        both_right, only_first_right, only_second_right, both_wrong: of these images.
        same_predictions: images for which both predict the same class.
        difference, low, high: with its 95 % bootstrap interval.
        p: of the exact McNemar test; p_holm: corrected for the number of pairs.
    """

    first: str
    second: str
    settings: list[str]
    files: list[str]
    images: int | None = None
    both_right: int | None = None
    only_first_right: int | None = None
    only_second_right: int | None = None
    both_wrong: int | None = None
    same_predictions: int | None = None
    difference: float | None = None
    low: float | None = None
    high: float | None = None
    p: float | None = None
    p_holm: float | None = None


@dataclass(frozen=True)
class RecipePair:
    """Two recipes by their repeats. Differences are the second's mean less the first's.

    Attributes:
        first, second: the recipes' labels.
        runs: how many repeats of the first and of the second, or how many pairs of repeats.
        method: welch, paired_t (repeats on the same folds), or None: they cannot be compared.
        difference, low, high: of the mean accuracies, with its 95 % interval.
        p, p_holm: of the test that the method names; corrected for the number of recipe pairs.
    """

    first: str
    second: str
    runs: list[int]
    method: str | None = None
    difference: float | None = None
    low: float | None = None
    high: float | None = None
    p: float | None = None
    p_holm: float | None = None


@dataclass(frozen=True)
class Recipe:
    """Repeats of one experiment: a label that tells it from the others, and its runs."""

    label: str
    runs: list[Run]


@dataclass(frozen=True)
class Comparison:
    """Runs, each compared with the first; and their recipes, each compared with the first."""

    runs: list[Run]
    pairs: list[Pair]
    recipes: list[Recipe]
    recipe_pairs: list[RecipePair]


def compare(runs: Sequence[Run]) -> Comparison:
    """Compare runs with the first of them, and their recipes with its recipe.

    Args:
        runs: two or more.
    """
    first, *others = runs
    recipes = group_recipes(runs)
    baseline, *rest = recipes
    rest = [recipe for recipe in rest if len(recipe.runs) > 1 and len(baseline.runs) > 1]
    return Comparison(
        list(runs),
        _correct([compare_images(first, other) for other in others]),
        recipes,
        _correct([compare_recipes(baseline, recipe) for recipe in rest]),
    )


def compare_images(first: Run, second: Run) -> Pair:
    """Compare two runs on each test image.

    Source: McNemar 1947, Psychometrika 12, p. 153; exact as a binomial test of the images that
    one gets right and the other wrong.
    """
    settings, files = list_differences(first, second)
    pair = Pair(first.name, second.name, settings, files)
    if word_mismatch(first, second):
        return pair
    table = match_images(first, second)
    right = table["predicted_first"] == table["actual"]
    right_too = table["predicted_second"] == table["actual"]
    only_first, only_second = int((right & ~right_too).sum()), int((~right & right_too).sum())
    discordant = only_first + only_second
    low, high = bootstrap_difference(only_first, only_second, len(table))
    return replace(
        pair,
        images=len(table),
        both_right=int((right & right_too).sum()),
        only_first_right=only_first,
        only_second_right=only_second,
        both_wrong=int((~right & ~right_too).sum()),
        same_predictions=int((table["predicted_first"] == table["predicted_second"]).sum()),
        difference=(only_second - only_first) / len(table),
        low=low,
        high=high,
        p=float(binomtest(only_second, discordant).pvalue) if discordant else 1.0,
    )


def match_images(first: Run, second: Run) -> pd.DataFrame:
    """Put the predictions of two runs on the same test images side by side.

    Returns:
        One row an image, in the first's order: id, actual, and predicted and probability of
        each, as predicted_first, probability_first, predicted_second, probability_second.
    """
    columns = ["id", "predicted", "probability"]
    return first.predictions[["id", "actual", "predicted", "probability"]].merge(
        second.predictions[columns], on="id", suffixes=("_first", "_second"), validate="1:1"
    )


def word_mismatch(first: Run, second: Run) -> str:
    """Tell why two runs cannot be compared image by image; "" if they can be.

    The same image is one of the same name and content: two datasets may both have a test/00000,
    and folds or draws of the split test other images under the names that they always have.
    """
    images, others = (run.predictions.set_index("id") for run in (first, second))
    if not images["sha256"].sort_index().equals(others["sha256"].sort_index()):
        for name, what in _MISMATCHES.items():
            value, other = (run.settings.get(name) for run in (first, second))
            if value != other:
                return f"they were not tested on the same images ({what} {value} and {other})"
        return "they were not tested on the same images"
    if not images["actual"].sort_index().equals(others["actual"].sort_index()):
        return "their test images are the same, but not the true classes (class_names)"
    return ""


def list_differences(first: Run, second: Run) -> tuple[list[str], list[str]]:
    """List the settings and the files in which two runs differ.

    Of two datasets, the blocks' settings are not listed, nor the files that make up two models:
    that they differ goes without saying.
    """
    settings = _list_unequal(first.settings, second.settings)
    files = sorted(_list_unequal(first.files, second.files))
    if "dataset" in settings:
        blocks = tuple(f"datasets.{run.settings['dataset']}." for run in (first, second))
        names = {name for run in (first, second) for name in run.params if name.startswith(blocks)}
        own = {name.split(".", 2)[2] for name in names}
        settings = [name for name in settings if name not in own]
        files = [path for path in files if not path.startswith("data/")]
    if "model" in settings:
        files = [path for path in files if not path.startswith("imgpipe/models/")]
    return settings, files


def _list_unequal(first: dict, second: dict) -> list:
    return [key for key in {**first, **second} if first.get(key) != second.get(key)]


def bootstrap_difference(
    only_first: int, only_second: int, images: int, resamples: int = 9_999, seed: int = 0
) -> tuple[float, float]:
    """Bootstrap the paired difference of two accuracies.

    Drawn anew with replacement, an image brings -1 (only the first is right), 1 (only the second)
    or 0. How many of each a resample has is a multinomial draw, so that drawing these three
    numbers is the same bootstrap, without a resample's images: milliseconds instead of seconds.

    Args:
        only_first: images that only the first gets right.
        only_second: images that only the second gets right.
        images: all of them.
        resamples: how often they are drawn.
        seed: of the draws.

    Returns:
        The 95 % percentile interval of the second's accuracy less the first's.

    Source: Efron, Tibshirani 1993, "An Introduction to the Bootstrap", chapter 13.
    """
    shares = np.array([only_first, only_second, images - only_first - only_second]) / images
    drawn = np.random.default_rng(seed).multinomial(images, shares, resamples)
    low, high = np.quantile((drawn[:, 1] - drawn[:, 0]) / images, [0.025, 0.975])
    return float(low), float(high)


def adjust_holm(p_values: Sequence[float]) -> list[float]:
    """Correct p-values for their number.

    Source: Holm 1979, Scandinavian Journal of Statistics 6, p. 65.
    """
    values = np.asarray(p_values, float)
    order = np.argsort(values, kind="stable")
    adjusted = np.empty_like(values)
    factors = np.arange(len(values), 0, -1)
    adjusted[order] = np.minimum(1, np.maximum.accumulate(values[order] * factors))
    return adjusted.tolist()


def group_recipes(runs: Sequence[Run]) -> list[Recipe]:
    """Group runs that differ in seed and fold alone; the same repeat counts once.

    Returns:
        One recipe a group, in the order of their first runs; its label is the model, with the
        runs' names where other recipes have that model too.
    """
    groups = {}
    for run in runs:
        groups.setdefault(run.recipe, {}).setdefault(run.repeat, run)
    members = [list(group.values()) for group in groups.values()]
    models = [group[0].settings["model"] for group in members]
    return [
        Recipe(
            model
            if models.count(model) == 1
            else f"{model} ({shorten(', '.join(run.name for run in group))})",
            group,
        )
        for model, group in zip(models, members, strict=True)
    ]


def compare_recipes(first: Recipe, second: Recipe) -> RecipePair:
    """Compare the mean accuracies of two recipes that were repeated.

    Repeats on the same test images are independent draws of each recipe's chance: Welch's t. On
    folds, both recipes meet the same easy and hard images, so that the differences fold by fold
    count; and folds share most of their training images, so that these vary too little.

    Source: Nadeau, Bengio 2003, "Inference for the Generalization Error", Machine Learning 52,
    p. 239, section 3: the variance of a mean over folds is (1/folds + test/train) s².
    """
    pair = RecipePair(first.label, second.label, [len(first.runs), len(second.runs)])
    runs = [*first.runs, *second.runs]
    if not any(word_mismatch(runs[0], run) for run in runs[1:]):
        scores, others = ([run.scores["accuracy"] for run in r.runs] for r in (first, second))
        pair = replace(pair, method="welch", difference=float(np.mean(others) - np.mean(scores)))
        if len({*scores}) == len({*others}) == 1:
            return pair
        test = ttest_ind(others, scores, equal_var=False)
        interval = test.confidence_interval(0.95)
        return replace(
            pair, low=float(interval.low), high=float(interval.high), p=float(test.pvalue)
        )
    folds, other_folds = (_average_folds(recipe) for recipe in (first, second))
    if set(folds) != set(other_folds) or len(folds) < 2:
        return pair
    if any(word_mismatch(folds[fold][1], other_folds[fold][1]) for fold in folds):
        return pair
    differences = np.array([other_folds[fold][0] - folds[fold][0] for fold in folds])
    mean, count = float(differences.mean()), len(differences)
    pair = replace(pair, runs=[count], method="paired_t", difference=mean)
    ratio = np.mean([run.scores["test"] / run.scores["train"] for run in runs])
    error = float(np.sqrt((1 / count + ratio) * differences.var(ddof=1)))
    if error == 0:
        return pair
    half = float(t.ppf(0.975, count - 1)) * error
    p = float(2 * t.sf(abs(mean) / error, count - 1))
    return replace(pair, low=mean - half, high=mean + half, p=p)


def _average_folds(recipe: Recipe) -> dict[tuple, tuple[float, Run]]:
    """Give for each (seed of the split, fold) the mean accuracy over seeds, and one of the runs."""
    folds = {}
    for run in recipe.runs:
        folds.setdefault(run.repeat[1:], []).append(run)
    return {
        fold: (float(np.mean([run.scores["accuracy"] for run in runs])), runs[0])
        for fold, runs in folds.items()
    }


def _correct(pairs: list) -> list:
    """Give pairs that were tested their p_holm."""
    tested = [pair.p for pair in pairs if pair.p is not None]
    adjusted = iter(adjust_holm(tested))
    return [p if p.p is None else replace(p, p_holm=next(adjusted)) for p in pairs]
