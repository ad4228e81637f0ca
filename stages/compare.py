"""compare: what differs between results, by how much, and whether that is more than noise.

python -m stages.compare A B … [--markdown | --json] [--sheet FILE]
A, B: experiments, branches, tags, commits, or workspace, the results in this folder. Each is
compared with the first. Of two alone, the images that one gets right and the other wrong are drawn
as plots/compare.png.
"""

import argparse
import json
import sys
from pathlib import Path

import numpy as np
import pandas as pd
from tabulate import tabulate

from imgpipe import verdicts
from imgpipe.arrays import open_array
from imgpipe.comparison import Comparison, Run, compare, match_images
from imgpipe.files import replacing
from imgpipe.revisions import Revision, open_repository, read_runs
from imgpipe.stage import run_main

TEST_IMAGES = "data/arrays/test_images.npy"
SHEET = Path("plots/compare.png")
MOST_COLUMNS = 4  # runs side by side; more stand below one another


def main():
    """Print the comparison; of two runs, draw the sheet."""
    arguments = parse_arguments()
    with open_repository() as repository:
        comparison = compare(read_runs(repository, arguments.names))
        first, second, *more = comparison.runs
        disagree = comparison.pairs[0].only_first_right or comparison.pairs[0].only_second_right
        sheet = arguments.sheet if disagree and not more else None
        if sheet:
            images = open_array(Revision(repository, first.name, first.commit).find(TEST_IMAGES))
            draw_sheet(images, first, second, sheet)
    if arguments.json:
        content = verdicts.describe_comparison(comparison) | {"sheet": sheet and str(sheet)}
        print(json.dumps(content, ensure_ascii=False, indent=2))
    else:
        print(lay_out(comparison, arguments.markdown))
    if sheet:
        print(f"compare: the images that only one gets right are in {sheet}", file=sys.stderr)


def draw_sheet(images: np.ndarray, first: Run, second: Run, path: Path) -> None:
    """Draw the images that one of two runs gets right and the other wrong."""
    import matplotlib  # takes a second

    from imgpipe.figures import draw_disagreements, save_figure

    matplotlib.rcdefaults()  # whatever the user's matplotlibrc says
    figure = draw_disagreements(images, match_images(first, second), (first.name, second.name))
    with replacing(path) as temporary:
        save_figure(figure, temporary)


def lay_out(comparison: Comparison, markdown: bool) -> str:
    """Set a comparison as text for a terminal, or as Markdown for a pull request."""
    pairs, recipe_pairs = comparison.pairs, comparison.recipe_pairs
    judged, recipes_judged = verdicts.judge_all(comparison)
    runs = verdicts.tabulate_runs(comparison.runs)
    parts = [
        ("### " if markdown else "") + verdicts.word_title(comparison.runs),
        set_table(runs if len(runs.columns) <= MOST_COLUMNS else runs.T, markdown),
        set_table(verdicts.tabulate_pairs(pairs, judged), markdown),
        set_verdicts([pair.second for pair in pairs], judged, markdown),
    ]
    if any(len(recipe.runs) > 1 for recipe in comparison.recipes):
        table = verdicts.tabulate_recipes(comparison.recipes, recipe_pairs, recipes_judged)
        parts.append(set_table(table, markdown))
    if recipe_pairs:
        parts.append(set_verdicts([pair.second for pair in recipe_pairs], recipes_judged, markdown))
    notes = verdicts.list_notes(comparison)
    if notes:
        parts.append("\n".join(f"- {note}" if markdown else note for note in notes))
    methods = verdicts.word_methods(comparison)
    if methods:
        parts.append(f"<sub>{methods}</sub>" if markdown else methods)
    return "\n\n".join(parts)


def set_table(table: pd.DataFrame, markdown: bool) -> str:
    """Set a table of words; its index and columns are names."""
    kind = "pipe" if markdown else "plain"
    if markdown:
        table = table.map(lambda word: word.replace("|", "\\|"))
    return tabulate(table, headers="keys", tablefmt=kind, disable_numparse=True)


def set_verdicts(names: list[str], judged: list[verdicts.Verdict], markdown: bool) -> str:
    """Set verdicts as a list; those that say the same stand together."""
    grouped = {}
    for name, verdict in zip(names, judged, strict=True):
        grouped.setdefault(verdict, []).append(name)
    lines = []
    for verdict, alike in grouped.items():
        headline = verdicts.HEADLINES[verdict.name]
        headline = f"**{headline}**" if markdown else headline
        mark = "- " if markdown else ""
        lines.append(f"{mark}{', '.join(alike)}: {headline}; {verdict.words}.")
    return "\n".join(lines)


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m stages.compare",
        description="What differs between results, and whether it is more than noise.",
    )
    parser.add_argument(
        "names",
        nargs="*",
        metavar="NAME",
        help="experiment, branch, tag or commit, or workspace; each is compared with the first",
    )
    formats = parser.add_mutually_exclusive_group()
    formats.add_argument("--markdown", action="store_true", help="for a pull request")
    formats.add_argument("--json", action="store_true", help="for programs")
    parser.add_argument(
        "--sheet",
        type=Path,
        default=SHEET,
        metavar="FILE",
        help=f"where the images go that one of two alone gets right ({SHEET})",
    )
    return parser.parse_args()


if __name__ == "__main__":
    run_main(main)
