"""board: show trainings, or the test images as points, in TensorBoard, on this machine alone.

python -m stages.board runs|projector [--port PORT]
Reads what train (data/tensorboard/runs) or projector (data/tensorboard/projector) has written; a
training that still runs is followed.
"""

import argparse
import signal
import sys
from pathlib import Path
from types import ModuleType

from imgpipe.stage import run_main

BOARDS = Path("data/tensorboard")
WRITERS = {
    "runs": "dvc repro trains and writes it",
    "projector": "python -m stages.projector writes it",
}


def main():
    """Serve one of the two until Ctrl-C."""
    arguments = parse_arguments()
    folder = BOARDS / arguments.board
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder}: not found; {WRITERS[arguments.board]}")
    url = serve(folder, arguments.port)
    tab = "#projector" if arguments.board == "projector" else ""
    print(f"TensorBoard: {url}{tab} (Ctrl-C ends it)", flush=True)
    signal.pause()


def serve(folder: Path, port: int | None) -> str:
    """Start TensorBoard in a thread of its own and return its address.

    Raises:
        OSError: the port cannot be had.
    """
    # With TensorFlow it takes three times as long to start, and TensorFlow greets.
    sys.modules["tensorboard.compat.notf"] = ModuleType("tensorboard.compat.notf")
    from tensorboard.program import TensorBoard, TensorBoardServerException

    board = TensorBoard()
    # Ten free ports are looked for, from 6006 up, where none is asked for.
    board.configure(logdir=str(folder), host="localhost", port=port, load_fast="false")
    try:
        return board.launch()
    except TensorBoardServerException as error:
        raise OSError(f"{error.msg}; choose another one with --port") from None


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m stages.board", description="Show trainings or test images in TensorBoard."
    )
    parser.add_argument("board", choices=WRITERS, help="what to show")
    parser.add_argument("--port", type=int, help="where (the first free one from 6006 up)")
    return parser.parse_args()


if __name__ == "__main__":
    run_main(main)
