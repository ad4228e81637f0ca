"""What every script shares: how it starts, fails, is interrupted, and shows progress."""

import contextlib
import gc
import os
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from tqdm import tqdm

from imgpipe.files import holding, is_disk_full

WORK = Path("data/unfinished")  # what the stages have not finished, a folder each
GOES_ON = "dvc repro goes on from what is finished"
_NEEDLESS = ("matplotlib.pyplot", "pandas", "sklearn")
_CLEANING_SECONDS = 1  # between Ctrl-C and the end of the process, at most


def run_stage(main: Callable[[], None]) -> None:
    """Run a stage's `main` as run_main does, unless the same stage runs here already.

    DVC keeps two `dvc repro` apart, but not a stage that has outlived its killed DVC, nor one
    that was started by hand.
    """
    run_main(main, stage=Path(sys.argv[0]).stem)


def run_main(main: Callable[[], None], stage: str | None = None) -> None:
    """Run a script's `main`; turn a user's error into one line and exit status 1.

    `ValueError` and `OSError` carry messages written for the person at the keyboard, so they are
    shown without a traceback. With IMGPIPE_TRACEBACK=1 in the environment they are not caught.
    Ctrl-C and a request to terminate end the script within two seconds, with one line.

    Scripts import what imports TensorFlow inside `main`, under importing_keras, once the
    parameters and inputs were checked: a mistake is told in half a second instead of four.

    Args:
        main: what the script does.
        stage: the stage that it is; two of one name do not run in one folder at once.
    """
    os.environ["KERAS_BACKEND"] = "tensorflow"
    # Without being asked, TensorFlow uses oneDNN's operations only on some processors; on the
    # others too a training step takes 0.5 to 0.8 of the time with them.
    os.environ["TF_ENABLE_ONEDNN_OPTS"] = "1"
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # its errors come as exceptions too
    # A name that the terminal's encoding lacks must not end what worked so far.
    sys.stdout.reconfigure(errors="backslashreplace")
    interruption = _Interruption("interrupted" + (f"; {GOES_ON}" if stage else ""))
    try:
        with _alone(stage) if stage else contextlib.nullcontext():
            main()
    except BaseException as error:
        if interruption.seen is not None:  # whatever it has become on its way through native code
            interruption.end()
        if os.environ.get("IMGPIPE_TRACEBACK") == "1":
            raise
        message = _word_failure(error)
        if message is None:
            raise
        sys.exit(f"{_color_red('error:')} {message}")


def _word_failure(error: BaseException) -> str | None:
    """Word what has gone wrong, if it is nothing for a traceback."""
    if is_disk_full(error):
        where = f"{error.filename}: " if error.filename else ""
        return f"{where}the disk is full; free some space, then {GOES_ON}"
    # The second is TensorFlow's, which must not be imported to be told.
    if isinstance(error, MemoryError) or type(error).__name__ == "ResourceExhaustedError":
        return "there is not enough memory; close other programs, or lower batch_size or image_size"
    return str(error) if isinstance(error, ValueError | OSError) else None


def _color_red(text: str) -> str:
    """Make a word red where standard error is a terminal, unless NO_COLOR asks for none.

    Source: the convention of no-color.org.
    """
    plain = os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb"
    return text if plain or not sys.stderr.isatty() else f"\033[31m{text}\033[0m"


def _alone(stage: str) -> contextlib.AbstractContextManager:
    if not Path("dvc.yaml").is_file():
        raise FileNotFoundError("dvc.yaml: not found; run from the project's folder, which has it")
    return holding(
        WORK / f"{stage}.lock",
        f"the stage {stage} is running in this folder already; wait until it has ended, or work "
        "in another copy (dvc exp run --temp)",
    )


class _Interruption:
    """Watches for Ctrl-C and requests to terminate, from a thread of its own.

    Python hands a signal to the main thread alone, and only between two of its instructions:
    within one step of a large network that may take many seconds. So the system's own handler
    wakes this thread, which ends the process if the main one does not.
    """

    def __init__(self, message: str):
        self.seen = None  # the signal's number, once there is one
        self.message = message
        self.stderr = os.dup(2)  # quiet_import may just have put it aside
        reader, writer = os.pipe()
        os.set_blocking(writer, False)
        for number in (signal.SIGINT, signal.SIGTERM):
            if signal.getsignal(number) != signal.SIG_IGN:  # as under nohup
                signal.signal(number, self._raise)
        signal.set_wakeup_fd(writer)
        threading.Thread(target=self._watch, args=(reader,), daemon=True).start()

    def _raise(self, number, _):
        if self.seen is None:  # a second one must not disturb the cleaning up
            self.seen = number
            raise KeyboardInterrupt

    def _watch(self, reader: int):
        while (number := os.read(reader, 1)[0]) not in (signal.SIGINT, signal.SIGTERM):
            pass
        time.sleep(_CLEANING_SECONDS)
        self.seen = number
        self.end()

    def end(self):
        """Say the one line and end the process, without waiting for anything that still runs."""
        os.write(self.stderr, f"{self.message}\n".encode())
        os._exit(128 + self.seen)


@contextlib.contextmanager
def quiet_import() -> Iterator[None]:
    """Hold back what libraries print on standard error while they are imported.

    TensorFlow's native code greets with lines about processors and drivers, some of them whatever
    TF_CPP_MIN_LOG_LEVEL says. They are shown after all if the import fails.
    """
    sys.stderr.flush()
    saved = os.dup(2)
    with tempfile.TemporaryFile() as held:
        os.dup2(held.fileno(), 2)
        try:
            yield
        except Exception:
            held.seek(0)
            os.write(saved, held.read())
            raise
        finally:
            os.dup2(saved, 2)
            os.close(saved)


@contextlib.contextmanager
def importing_keras() -> Iterator[None]:
    """Import Keras, and then what the block imports, as quiet_import does.

    It takes 60 % of the time so. Keras imports _NEEDLESS for functions that nothing here calls,
    and does without where it does not find them. And none of what is made is garbage, for which
    Python would look through all of it again and again.
    """
    needless = [name for name in _NEEDLESS if name not in sys.modules]
    with quiet_import():
        gc.disable()
        try:
            sys.modules.update(dict.fromkeys(needless))  # None: as if it were not installed
            try:
                import keras  # noqa: F401
            finally:
                for name in needless:
                    del sys.modules[name]
            yield
        finally:
            gc.enable()
            gc.freeze()


def progress_bar(items: Iterable | None = None, **options) -> tqdm:
    """Make a progress bar on standard error, silent where that is not a terminal.

    Args:
        items: what to go through; None where `update` is called by hand.
        **options: tqdm's: total, unit, desc.
    """
    return tqdm(items, disable=None, leave=False, dynamic_ncols=True, **options)
