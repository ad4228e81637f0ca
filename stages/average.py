"""average: mean ± standard deviation over folds and seeds.

python -m stages.average [--csv]
Reads the experiments of the last commit (`dvc exp show` lists them) and the results in this
folder. Those that differ in nothing but `seed` and the split's `fold` and `seed` make one row.
"""

import argparse
import contextlib
import io
import sys

from imgpipe.repeats import average_repeats, word_scores
from imgpipe.stage import run_main


def main():
    """Print a row for each experiment that was repeated."""
    parser = argparse.ArgumentParser(
        prog="python -m stages.average", description="Mean and spread over folds and seeds."
    )
    parser.add_argument("--csv", action="store_true", help="a table for machines")
    arguments = parser.parse_args()
    table = average_repeats(read_experiments())
    if table.empty:
        raise ValueError("no experiment has finished yet; run dvc repro or dvc exp run")
    if arguments.csv:
        table.to_csv(sys.stdout, index=False, lineterminator="\n")
    else:
        print(word_scores(table).to_string(index=False))


def read_experiments() -> list[dict]:
    """Ask DVC for the last commit's experiments, one mapping each."""
    import dvc.api  # takes a second

    with contextlib.redirect_stdout(io.StringIO()):  # it announces what it reads
        return dvc.api.exp_show()


if __name__ == "__main__":
    run_main(main)
