"""Experiments that were repeated with other seeds and folds: their mean and spread."""

import pandas as pd

SCORES = ("accuracy", "macro_f1", "val_accuracy")
REPEATED = ("seed", "split_seed", "fold")  # settings in which repeats of one experiment differ


def average_repeats(experiments: list[dict]) -> pd.DataFrame:
    """Average the scores of experiments that differ in their seeds and folds alone.

    Args:
        experiments: one mapping an experiment, parameters by their dotted names (dataset, model,
            seed, datasets.<dataset>.…, models.<model>.…), scores, and its State in DVC's queue.
            Those that have not finished do not count, and of equal ones only the first does.

    Returns:
        One row for what was repeated: dataset, model, each parameter in which rows of one dataset
        and model differ, runs, seeds, split_seeds and folds (lists as text; "3 of 5" where folds
        are missing), and for each of SCORES its mean and its standard deviation between runs
        (`<score>_sd`, of the sample; NaN for a single run).
    """
    runs = pd.DataFrame(map(_describe, filter(_has_finished, experiments)))
    if runs.empty:
        return runs
    settings = [column for column in runs.columns if column not in (*REPEATED, *SCORES)]
    runs = runs.drop_duplicates([*settings, *REPEATED])
    rows = []
    for values, group in runs.groupby(settings, dropna=False, sort=False):
        row = dict(zip(settings, values, strict=True)) | {
            "runs": len(group),
            "seeds": _list(group["seed"]),
            "split_seeds": _list(group["split_seed"]),
            "folds": _word_folds(group),
        }
        for score in SCORES:
            row |= {score: group[score].mean(), f"{score}_sd": group[score].std(ddof=1)}
        rows.append(row)
    table = pd.DataFrame(rows)
    counts = table.groupby(["dataset", "model"])[settings[2:]].nunique(dropna=False)
    return table.drop(columns=[s for s in settings[2:] if counts[s].max() == 1])


def word_scores(table: pd.DataFrame) -> pd.DataFrame:
    """Replace means and deviations by columns of words."""
    worded = table.drop(columns=[f"{score}_sd" for score in SCORES])
    for score in SCORES:
        pairs = zip(table[score], table[f"{score}_sd"], strict=True)
        worded[score] = [f"{m:.4f}" + ("" if pd.isna(sd) else f" ± {sd:.4f}") for m, sd in pairs]
    return worded


def _has_finished(experiment: dict) -> bool:
    """Tell whether the scores are the experiment's own.

    While one is queued or running, or after it has failed, DVC shows the scores that lay in its
    folder when it began, which are those of the commit that it started from.
    """
    scores = [experiment.get(score) for score in SCORES]
    return experiment.get("State") in (None, "Success") and all(
        isinstance(score, int | float) for score in scores
    )


def pick_settings(params: dict) -> dict:
    """Pick what counts of an experiment's parameters.

    Args:
        params: by their dotted names, those of other datasets and models among them.

    Returns:
        dataset, model, the parameters of their two blocks without the blocks' names, and
        REPEATED ("" for what there is not).
    """
    dataset, model = params["dataset"], params["model"]
    settings = {"dataset": dataset, "model": model}
    for name, value in params.items():
        if name.startswith((f"datasets.{dataset}.", f"models.{model}.")):
            settings[name.split(".", 2)[2]] = value
    settings["seed"] = params["seed"]
    settings["split_seed"] = settings.pop("split.seed", "")
    settings["fold"] = settings.pop("split.fold", "")
    return settings


def _describe(experiment: dict) -> dict:
    """Put an experiment's settings, as words, and its scores into one row."""
    row = {name: _word(value) for name, value in pick_settings(experiment).items()}
    return row | {score: float(experiment[score]) for score in SCORES}


def _word(value) -> str:
    """Word a parameter; DVC gives whole numbers as floats."""
    return f"{value:g}" if isinstance(value, float) else str(value)


def _word_folds(group: pd.DataFrame) -> str:
    folds = group.loc[group["fold"].str.isdigit(), "fold"]
    if folds.empty:
        return ""
    wanted = int(group["split.folds"].iloc[0])
    found = folds.nunique()
    return _list(folds) if found == wanted else f"{_list(folds)} ({found} of {wanted})"


def _list(values: pd.Series) -> str:
    return ", ".join(sorted(values.unique(), key=lambda v: (len(v), v)))
