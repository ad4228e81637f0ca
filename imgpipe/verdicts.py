"""What a comparison says in words, and what it does not; its tables."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any, NamedTuple

import pandas as pd

from imgpipe.addresses import hide_secrets
from imgpipe.comparison import (
    Comparison,
    Pair,
    Recipe,
    RecipePair,
    Run,
    list_differences,
    word_mismatch,
)
from imgpipe.repeats import REPEATED, SCORES, average_repeats, word_scores
from imgpipe.wording import shorten

ALPHA = 0.05
HEADLINES = {
    "same": "the same predictions",
    "within_noise": "within noise",
    "chance": "noise between repeats",
    "better_network": "the better network",
    "worse_network": "the worse network",
    "better_recipe": "the better recipe",
    "worse_recipe": "the worse recipe",
    "borderline": "borderline",
    "not_comparable": "not comparable",
}
_FILES_SHOWN = 3
_SCORE_TITLES = {"macro_f1": "macro F1", "val_accuracy": "val accuracy"}
_REPEATED_WORDS = {"seed": "seed", "split_seed": "seed of the split", "fold": "fold"}


class Verdict(NamedTuple):
    """What a comparison comes to.

    Attributes:
        name: one of HEADLINES. `chance`: two runs of one recipe differ by more than the choice of
            the test images explains. `borderline`: interval and test disagree.
        words: what it means and what it does not.
    """

    name: str
    words: str


def judge_pair(pair: Pair, first: Run, second: Run, recipes_compared: bool = False) -> Verdict:
    """Tell whether two runs differ by more than noise.

    Args:
        pair: the comparison of the two.
        first: the run that the other is measured by.
        second: the other one.
        recipes_compared: whether their recipes, repeated, are compared elsewhere.

    Returns:
        A verdict on the second. Of one recipe, no run is called better than another.
    """
    if pair.p_holm is None:
        words = f"{word_mismatch(first, second)}, so each score above speaks of its own images"
        return Verdict("not_comparable", words)
    repeats = first.recipe == second.recipe
    if pair.same_predictions == pair.images:
        return Verdict("same", _word_same(pair, repeats))
    significant = pair.p_holm < ALPHA
    if repeats:
        cause = _word_repeats(pair.settings)
        if significant:
            words = (
                f"more than the noise of the test images, but {cause}, and neither is the better "
                "recipe"
            )
            return Verdict("chance", words)
        return Verdict("within_noise", cause)
    if significant != (pair.low > 0 or pair.high < 0):
        words = "the interval and the test disagree; more test images would tell"
        return Verdict("borderline", words)
    if not significant:
        words = (
            "on these images the two networks cannot be told apart, which does not make them "
            f"equal: {_word_range(pair)} would fit"
        )
        return Verdict("within_noise", words)
    words = "by more than the noise of the test images; " + (
        "what the recipes are worth, their means below say"
        if recipes_compared
        else "how much the recipe does and how much the seed, only more seeds of both can tell"
    )
    return Verdict("better_network" if pair.difference > 0 else "worse_network", words)


def _word_same(pair: Pair, repeats: bool) -> str:
    if repeats and not pair.settings:
        return "parameters, code and data are the same too: one result under two names"
    differing = ", ".join(map(shorten, [*pair.settings, *pair.files][:_FILES_SHOWN]))
    return f"what differs ({differing}) has changed none of them"


def _word_repeats(settings: list[str]) -> str:
    if not settings:
        return (
            "parameters, code and data are the same, so it is the machine or the packages "
            "(metrics/environment.json)"
        )
    names = " and the ".join(_REPEATED_WORDS[name] for name in settings)
    return f"the two differ in the {names} alone, so this is what chance does"


def _word_range(pair: Pair | RecipePair) -> str:
    return f"anything from {word_signed(pair.low)} to {word_signed(pair.high)}"


def judge_recipes(pair: RecipePair) -> Verdict:
    """Tell whether two recipes differ by more than their repeats do, as a verdict on the second."""
    if pair.method is None:
        words = (
            "the runs were tested neither on the same images nor on the same two folds or more; "
            "give both recipes the same folds"
        )
        return Verdict("not_comparable", words)
    if pair.p_holm is None:
        words = "the scores do not vary from run to run, so there is no measure of chance"
        return Verdict("not_comparable", words)
    source, scope = (
        ("seeds", "on these test images")
        if pair.method == "welch"
        else ("folds", "on this dataset")
    )
    if pair.p_holm >= ALPHA:
        words = (
            f"so much can come from {source} alone, which does not make the recipes equal: "
            f"{_word_range(pair)} would fit; more {source} narrow it"
        )
        return Verdict("within_noise", words)
    name = "better_recipe" if pair.difference > 0 else "worse_recipe"
    return Verdict(name, f"{scope}, by more than the noise of the {source}")


def judge_all(comparison: Comparison) -> tuple[list[Verdict], list[Verdict]]:
    """Judge each pair of runs, and each pair of recipes."""
    first, *others = comparison.runs
    compared = {
        run.recipe
        for recipe in comparison.recipes
        if comparison.recipe_pairs and len(recipe.runs) > 1
        for run in recipe.runs
    }
    pairs = [
        judge_pair(pair, first, other, {first.recipe, other.recipe} <= compared)
        for pair, other in zip(comparison.pairs, others, strict=True)
    ]
    return pairs, [judge_recipes(pair) for pair in comparison.recipe_pairs]


def list_notes(comparison: Comparison) -> list[str]:
    """List what a reader must know to trust the numbers."""
    notes = []
    files = sorted({path for pair in comparison.pairs for path in pair.files})
    if files:
        notes.append(f"The code or the data differ too: {_word_files(files)}.")
    for run in comparison.runs:
        if run.stale:
            notes.append(
                f"{run.name}: {_word_files(run.stale)} changed after these results were computed; "
                "dvc repro brings them up to date."
            )
    if any(run.settings.get("group_pattern") for run in comparison.runs):
        notes.append(
            "Test images of one group (group_pattern) are alike: intervals over images are too "
            "narrow and their p too small."
        )
    return notes


def word_methods(comparison: Comparison) -> str:
    """Say in one line how intervals and p-values were computed."""
    words = []
    if any(pair.p is not None for pair in comparison.pairs):
        words.append(
            "difference: accuracy less the first's, with its 95 % bootstrap interval over the test "
            "images; p: exact McNemar test"
        )
    methods = {pair.method for pair in comparison.recipe_pairs}
    if "welch" in methods:
        words.append("recipes: mean ± standard deviation between runs, Welch's t")
    if "paired_t" in methods:
        words.append(
            "recipes: mean ± standard deviation between runs, t of the differences fold by fold, "
            "corrected for shared training images (Nadeau, Bengio)"
        )
    tests = max(
        sum(pair.p is not None for pair in pairs)
        for pairs in (comparison.pairs, comparison.recipe_pairs)
    )
    if tests > 1:
        words.append("all p are corrected for the number of comparisons (Holm)")
    return f"{'. '.join(word[0].upper() + word[1:] for word in words)}." if words else ""


def _word_files(names: list[str]) -> str:
    shown = ", ".join(shorten(name) for name in names[:_FILES_SHOWN])
    more = len(names) - _FILES_SHOWN
    return f"{shown} and {more} more" if more > 0 else shown


def word_title(runs: Sequence[Run]) -> str:
    """Say what is compared, and what all runs have in common."""
    first, *others = (shorten(run.name) for run in runs)
    common = [
        f"{name} {runs[0].settings[name]}"
        for name in ("dataset", "model", "seed")
        if len({run.settings[name] for run in runs}) == 1
    ]
    if len({run.scores["images"] for run in runs}) == 1:
        common.append(f"{runs[0].scores['images']:,} test images")
    return f"{', '.join(others)} against {first} ({', '.join(common)})"


def tabulate_runs(runs: Sequence[Run]) -> pd.DataFrame:
    """Make a table of the settings that differ and of the scores, in words.

    Returns:
        One column a run, one row a setting or score.
    """
    differing = {name for run in runs[1:] for name in list_differences(runs[0], run)[0]}
    known = dict.fromkeys(["dataset", "model", *REPEATED, *(n for r in runs for n in r.settings)])
    names = [name for name in known if name in differing]
    columns = {}
    for run in runs:
        settings = {n: word_setting(run.settings[n]) if n in run.settings else "–" for n in names}
        columns[run.name] = settings | _word_scores(run.scores)
    table = pd.DataFrame(columns)
    return table.drop(index="test images") if table.loc["test images"].nunique() == 1 else table


def _word_scores(scores: dict[str, float]) -> dict[str, str]:
    def word(name: str, kind: str = ".4f") -> str:
        return f"{scores[name]:{kind}}" if name in scores else "–"

    return {
        "test images": word("images", ","),
        "accuracy (95 %)": f"{word('accuracy')} ({word('accuracy_low')}–{word('accuracy_high')})",
        _SCORE_TITLES["macro_f1"]: word("macro_f1"),
        "loss": word("loss"),
        "calibration error": word("calibration_error"),
        _SCORE_TITLES["val_accuracy"]: word("val_accuracy"),
        "parameters": word("parameters", ","),
    }


def tabulate_pairs(pairs: Sequence[Pair], verdicts: Sequence[Verdict]) -> pd.DataFrame:
    """Make a table of comparisons image by image, in words: one row for each second run."""
    rows = {}
    for pair, verdict in zip(pairs, verdicts, strict=True):
        counts = pair.only_second_right, pair.only_first_right
        it_alone, first_alone = ("–" if count is None else f"{count:,}" for count in counts)
        rows[pair.second] = {
            "difference (95 %)": word_difference(pair),
            "only it right": it_alone,
            f"only {pair.first} right": first_alone,
            "p": word_p(pair.p_holm),
            "verdict": HEADLINES[verdict.name],
        }
    return pd.DataFrame.from_dict(rows, orient="index")


def tabulate_recipes(
    recipes: Sequence[Recipe], pairs: Sequence[RecipePair], verdicts: Sequence[Verdict]
) -> pd.DataFrame:
    """Make a table of recipes, in words: means and standard deviations, and the comparisons."""
    table = pd.concat([word_scores(_average(recipe)) for recipe in recipes])
    table = table[["runs", "seeds", "split_seeds", "folds", *SCORES]].astype(str)
    same = [name for name in ("split_seeds", "folds") if len(set(table[name])) == 1]
    same = [name for name in same if "," not in table[name].iloc[0]]
    table = table.set_axis([recipe.label for recipe in recipes]).drop(columns=same)
    rows = {
        pair.second: {
            "difference (95 %)": word_difference(pair),
            "p": word_p(pair.p_holm),
            "verdict": HEADLINES[verdict.name],
        }
        for pair, verdict in zip(pairs, verdicts, strict=True)
    }
    table = table.join(pd.DataFrame.from_dict(rows, orient="index")).fillna("–")
    return table.rename(columns={"split_seeds": "seeds of the split"} | _SCORE_TITLES)


def word_setting(value: Any) -> str:
    """Word a parameter on one line, as params.yaml has it."""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return shorten(hide_secrets(text), 40)


def word_difference(pair: Pair | RecipePair) -> str:
    """Word a difference with its interval."""
    if pair.difference is None:
        return "–"
    interval = "" if pair.low is None else f" ({word_signed(pair.low)} to {word_signed(pair.high)})"
    return word_signed(pair.difference) + interval


def word_signed(number: float) -> str:
    """Word a number with its sign, 0 without."""
    text = f"{number:+.4f}"
    return "0.0000" if float(text) == 0 else text.replace("-", "−")


def word_p(p: float | None) -> str:
    """Word a p-value with two digits, which is more than it is worth."""
    return "–" if p is None else "< 0.001" if p < 0.001 else f"{p:.2g}"


def describe_comparison(comparison: Comparison) -> dict[str, Any]:
    """Describe a comparison for programs: plain values, None for what there is not.

    Returns:
        runs: name, commit, recipe (its place in recipes), settings (those in which any two
            differ), scores, stale.
        pairs: the fields of Pair, verdict, words.
        recipes: label, runs (names), and for each of SCORES its mean and deviation (`_sd`).
        recipe_pairs: the fields of RecipePair, verdict, words.
    """
    places = {recipe.runs[0].recipe: i for i, recipe in enumerate(comparison.recipes)}
    differing = {name for pair in comparison.pairs for name in pair.settings}
    verdicts, recipe_verdicts = judge_all(comparison)
    recipes = []
    for recipe in comparison.recipes:
        (row,) = _average(recipe)[[*SCORES, *(f"{score}_sd" for score in SCORES)]].to_dict(
            "records"
        )
        scores = {name: None if pd.isna(value) else value for name, value in row.items()}
        recipes.append({"label": recipe.label, "runs": [run.name for run in recipe.runs]} | scores)
    return {
        "runs": [
            {
                "name": run.name,
                "commit": run.commit,
                "recipe": places[run.recipe],
                "settings": {name: run.settings.get(name) for name in sorted(differing)},
                "scores": run.scores,
                "stale": run.stale,
            }
            for run in comparison.runs
        ],
        "pairs": [
            asdict(pair) | {"verdict": verdict.name, "words": verdict.words}
            for pair, verdict in zip(comparison.pairs, verdicts, strict=True)
        ],
        "recipes": recipes,
        "recipe_pairs": [
            asdict(pair) | {"verdict": verdict.name, "words": verdict.words}
            for pair, verdict in zip(comparison.recipe_pairs, recipe_verdicts, strict=True)
        ],
    }


def _average(recipe: Recipe) -> pd.DataFrame:
    return average_repeats([run.params | run.scores for run in recipe.runs])
