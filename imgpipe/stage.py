"""What every stage script shares: how it starts, fails and shows progress."""

import contextlib
import os
import sys
import tempfile
from collections.abc import Callable, Iterator

from tqdm import tqdm


def run_main(main: Callable[[], None]) -> None:
    """Run a script's `main`; turn a user's error into one line and exit status 1.

    `ValueError` and `OSError` carry messages written for the person at the keyboard, so they are
    shown without a traceback. With IMGPIPE_TRACEBACK=1 in the environment they are not caught.

    Scripts import what imports TensorFlow inside `main`, under quiet_import, once the parameters
    and inputs were checked: a mistake is told in half a second instead of five.
    """
    os.environ["KERAS_BACKEND"] = "tensorflow"
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # its errors come as exceptions too
    if os.environ.get("IMGPIPE_TRACEBACK") == "1":
        main()
        return
    try:
        main()
    except (ValueError, OSError) as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        sys.exit("interrupted")


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
        except BaseException:
            held.seek(0)
            os.write(saved, held.read())
            raise
        finally:
            os.dup2(saved, 2)
            os.close(saved)


def progress_bar(**options) -> tqdm:
    """Make a progress bar on standard error, silent where that is not a terminal."""
    return tqdm(disable=None, leave=False, dynamic_ncols=True, **options)
