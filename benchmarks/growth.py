"""How time and memory of the stages grow with the number of images.

python -m benchmarks.growth [--most N] [--most-features N] [--rounds N]

Runs in temporary copies of this folder, on JPEG files of 64×64 that it makes.
"""

import argparse
import statistics
import tempfile
from pathlib import Path

from benchmarks.images import write_photo_archive
from benchmarks.projects import Run, copy_project, edit_params, run_stage, use_photos
from benchmarks.tables import print_machine, print_table, word_figure, word_memory, word_ratio
from imgpipe.stage import progress_bar, run_main

SIZE = 64  # pixels
STAGES = ("fetch", "split", "preprocess")
FEATURES = "features"
# A backbone whose arithmetic does not hide what grows: one block of VGG16, with random weights.
MODEL = "vgg16_block4"
BACKBONE = {"weights": None, "layer": "block1_pool", "image_size": [32, 32]}


def main(words: list[str] | None = None):
    """Measure tenfold growth of the stages without a backbone, then of the one with it."""
    arguments = parse_arguments(words)
    print_machine()
    counts = dict.fromkeys(STAGES, arguments.most)
    if arguments.most_features:
        counts[FEATURES] = arguments.most_features
    wanted = {stage: (most // 10, most) for stage, most in counts.items()}
    with tempfile.TemporaryDirectory(prefix="imgpipe-growth-") as folder:
        runs = measure(Path(folder), wanted, arguments.rounds)
    rows = [[stage, *word_growth(runs, stage, *wanted[stage])] for stage in wanted]
    columns = ["", "images", "seconds", "time", "peak memory", "memory"]
    print_table(f"Ten times as many images, medians of {arguments.rounds}", columns, rows)


def parse_arguments(words: list[str] | None) -> argparse.Namespace:
    """Read the command line, or the words that stand for it."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.growth", description=__doc__.splitlines()[0]
    )
    parser.add_argument("--most", type=int, default=50_000, metavar="N", help="images (50,000)")
    parser.add_argument(
        "--most-features",
        type=int,
        default=50_000,
        metavar="N",
        help="images for the stage with a backbone (50,000); 0 for none",
    )
    parser.add_argument("--rounds", type=int, default=3, metavar="N", help="(3)")
    return parser.parse_args(words)


def measure(
    folder: Path, wanted: dict[str, tuple[int, int]], rounds: int
) -> dict[tuple[str, int], list[Run]]:
    """Run the stages on generated images, the smaller and the larger numbers in turn.

    Args:
        folder: where copies of the project go.
        wanted: stage to the two numbers of images for which it is measured.
        rounds: how often.

    Returns:
        Stage and number of images to what its runs took.
    """
    counts = sorted({count for pair in wanted.values() for count in pair})
    projects = {count: make_project(folder / str(count), count) for count in counts}
    runs = {}
    with progress_bar(total=rounds * len(counts), desc="growth", unit=" runs") as bar:
        for _ in range(rounds):
            for count, project in projects.items():
                for stage in (*STAGES, FEATURES):
                    # The features need what the others make, whether these are measured or not.
                    if stage in STAGES or count in wanted.get(stage, ()):
                        runs.setdefault((stage, count), []).append(run_stage(project, stage))
                bar.update()
    return runs


def make_project(folder: Path, count: int) -> Path:
    """Make a copy of the project whose dataset is so many generated images."""
    folder.mkdir()
    project, photos = folder / "project", folder / "photos.tar"
    copy_project(project)
    write_photo_archive(photos, count, SIZE)
    use_photos(project, photos, SIZE)
    backbone = {f"models.{MODEL}.backbone.{key}": value for key, value in BACKBONE.items()}
    edit_params(project, {"model": MODEL, **backbone})
    return project


def word_growth(runs: dict, stage: str, few: int, many: int) -> list[str]:
    """Word what a stage takes for both numbers of images, and how they compare."""
    seconds, memory = (
        [statistics.median(run[number] for run in runs[stage, count]) for count in (few, many)]
        for number in (0, 1)
    )
    return [
        f"{few:,} → {many:,}",
        " → ".join(map(word_figure, seconds)),
        word_ratio(seconds[1] / seconds[0]),
        " → ".join(map(word_memory, memory)),
        word_ratio(memory[1] / memory[0]),
    ]


if __name__ == "__main__":
    run_main(main)
