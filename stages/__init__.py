"""The pipeline's stages, one script each, and the scripts that are run by hand."""

import os
import signal
import sys


def _end(*_):
    os.write(2, b"interrupted\n")
    os._exit(128 + signal.SIGINT)


# In `python -m stages.train`, while a script still imports what it needs: nothing has begun that
# run_main would have to clean up, and a traceback out of some library would only puzzle.
if sys.argv[0] == "-m" and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    signal.signal(signal.SIGINT, _end)
