"""Training the head of vgg19 on cached features: Keras with all in memory, and this project.

python -m benchmarks.head [--images N] [--rounds N]
"""

import argparse
import tempfile
from pathlib import Path

from benchmarks.images import write_features
from benchmarks.race import Contender, race
from benchmarks.tables import print_machine, print_table, word_figure, word_memory, word_ratio
from benchmarks.training import BATCH_SIZE
from imgpipe.stage import run_main

WIDTH = 8192  # of VGG19's features at 150×150
EPOCHS = 50
KERAS = "plain Keras, float32 in memory"


def main(words: list[str] | None = None):
    """Measure epochs."""
    arguments = parse_arguments(words)
    print_machine()
    with tempfile.TemporaryDirectory() as folder:
        files = write_features(Path(folder), arguments.images, WIDTH)
        plain = {"network": "head", "xla": False, **files}
        steps = max(2, -(-arguments.images // BATCH_SIZE))  # Keras's first one is not timed
        contenders = [
            Contender(KERAS, "plain_keras", "train", plain, 1 - 1 / steps),
            Contender("imgpipe, float16 on disk", "ours", "train", {"model": "vgg19", **files}),
        ]
        results = race(contenders, arguments.rounds, "head")
    rows = [
        [
            name,
            f"{word_figure(result.seconds)} s",
            f"{word_figure(EPOCHS * result.seconds)} s",
            word_ratio(result.seconds / results[KERAS].seconds),
            word_memory(result.peak_memory),
        ]
        for name, result in results.items()
    ]
    title = f"A head on {arguments.images:,} × {WIDTH:,} features"
    columns = ["", "an epoch", f"{EPOCHS} epochs", "of plain Keras", "peak memory"]
    print_table(title, columns, rows)


def parse_arguments(words: list[str] | None) -> argparse.Namespace:
    """Read the command line, or the words that stand for it."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.head", description=__doc__.splitlines()[0]
    )
    parser.add_argument("--images", type=int, default=48_000, metavar="N", help="(48,000)")
    parser.add_argument("--rounds", type=int, default=5, metavar="N", help="epochs timed (5)")
    return parser.parse_args(words)


if __name__ == "__main__":
    run_main(main)
