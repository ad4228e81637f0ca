"""A training step of 256 images: the article's way, PyTorch, and this project's train stage.

python -m benchmarks.training [--models NAME …] [--steps N] [--rounds N] [--torch PYTHON]
"""

import argparse
import sys
import tempfile
from pathlib import Path

from benchmarks.images import write_clothes
from benchmarks.race import Contender, Result, computes_in_bfloat16, find_torch, race
from benchmarks.tables import (
    NOT_INSTALLED,
    print_machine,
    print_table,
    word_figure,
    word_memory,
    word_ratio,
)
from imgpipe.stage import run_main

# In a round: about the same time for each, of which a checkpoint is a small part.
STEPS = {"cnn1": 188, "cnn3": 94, "cnn4": 48}
BATCH_SIZE = 256
EPOCH = 188  # steps for 48,000 images
ARTICLE, OURS, AUGMENTED = "the article's way", "imgpipe", "imgpipe, augmented"


def main(words: list[str] | None = None):
    """Measure each model."""
    arguments = parse_arguments(words)
    torch = find_torch(arguments.torch)
    print_machine(torch)
    added = []
    for model in arguments.models:
        steps = arguments.steps or STEPS[model]
        with tempfile.TemporaryDirectory() as folder:
            files = write_clothes(Path(folder), "train", steps * BATCH_SIZE)
            few = write_few_clothes(Path(folder), count_few(steps))
            contenders = list_contenders(model, files, few, steps, arguments.torch)
            present = [one for one in contenders if torch or one.module != "pytorch"]
            results = race(present, arguments.rounds, f"training of {model}")
        print_results(model, contenders, results)
        plain, augmented = results[OURS].seconds, results[AUGMENTED].seconds
        shown = [f"{word_figure(1000 * seconds)} ms" for seconds in (plain, augmented)]
        added.append([model, *shown, f"{100 * (augmented / plain - 1):.0f} %"])
    print_table("What augmentation adds to a step", ["", "plain", "augmented", "more"], added)


def parse_arguments(words: list[str] | None) -> argparse.Namespace:
    """Read the command line, or the words that stand for it."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.training", description=__doc__.splitlines()[0]
    )
    parser.add_argument("--models", nargs="+", default=list(STEPS), choices=STEPS, metavar="NAME")
    steps = ", ".join(f"{count} of {model}" for model, count in STEPS.items())
    parser.add_argument("--steps", type=int, metavar="N", help=f"in a round, 2 or more ({steps})")
    parser.add_argument("--rounds", type=int, default=5, metavar="N", help="(5)")
    parser.add_argument("--torch", metavar="PYTHON", help="an interpreter that has PyTorch")
    return parser.parse_args(words)


def count_few(steps: int) -> int:
    """Say how many steps those contenders do that take many times as long."""
    return max(2, steps // 8)


def write_few_clothes(folder: Path, steps: int) -> dict[str, str]:
    """Write the images of so many steps."""
    (folder / "few").mkdir()
    return write_clothes(folder / "few", "train", steps * BATCH_SIZE)


def list_contenders(
    model: str, files: dict[str, str], few: dict[str, str], steps: int, python: str | None
) -> list[Contender]:
    """List the ways to train a model.

    Args:
        model: name of one of the article's networks.
        files: images and labels, as write_clothes gives them.
        few: an eighth of them.
        steps: as many as `files` holds batches.
        python: the interpreter for PyTorch.
    """
    few_steps = count_few(steps)
    network, own = {"network": model, **files}, {"model": model, **files}
    compiled = {"network": model, "xla": True, **few}
    article = {**network, "xla": False}
    name = f"{ARTICLE}, compiled by XLA"
    torch_steps = {"float32": steps, "bfloat16": steps if computes_in_bfloat16() else few_steps}
    return [
        # Whose laps leave out their first step.
        Contender(ARTICLE, "plain_keras", "train", article, max(1, steps - 1)),
        Contender(name, "plain_keras", "train", compiled, few_steps - 1),
        Contender(OURS, "ours", "train", own, steps),
        Contender(AUGMENTED, "ours", "train", {**own, "augmented": True}, steps),
        *(
            Contender(
                f"PyTorch, {precision}",
                "pytorch",
                "train",
                {**network, "steps": count, "precision": precision},
                count,
                python or sys.executable,
            )
            for precision, count in torch_steps.items()
        ),
    ]


def print_results(model: str, contenders: list[Contender], results: dict[str, Result]) -> None:
    """Print a model's table."""
    rows = []
    for contender in contenders:
        result = results.get(contender.name)
        if result is None:
            rows.append([contender.name, NOT_INSTALLED])
            continue
        rows.append(
            [
                contender.name,
                f"{word_figure(1000 * result.seconds)} ms",
                f"{word_figure(EPOCH * result.seconds)} s",
                word_ratio(result.seconds / results[ARTICLE].seconds),
                word_memory(result.peak_memory),
            ]
        )
    columns = ["", "a step", "48,000 images", "of the article's", "peak memory"]
    print_table(f"{model}, batches of {BATCH_SIZE}", columns, rows)


if __name__ == "__main__":
    run_main(main)
