"""Unfinished work that outlives a killed stage: where it lies, and whether it is still wanted."""

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path

from imgpipe.environment import describe_environment
from imgpipe.files import remove, sha256_of_file


def open_work(folder: Path, parameters: dict, inputs: Iterable[Path]) -> Path:
    """Open the folder of a stage's unfinished work, as a killed run of the same work left it.

    The same work means equal parameters, inputs byte for byte, code and machine: only then is
    the rest of it what an uninterrupted run would have computed. Other work is removed.

    Args:
        folder: the stage's own, for its unfinished work alone.
        parameters: all that the result depends on beside the inputs, as JSON can say it.
        inputs: files that the stage reads.

    Returns:
        An existing folder within `folder`; to be removed with `folder` when the work is done.
    """
    code = sorted(Path(__file__).parent.rglob("*.py"))
    identity = {
        "parameters": parameters,
        "files": [sha256_of_file(file) for file in [*code, *inputs]],
        "environment": describe_environment(),
    }
    content = json.dumps(identity, sort_keys=True).encode()
    work = folder / hashlib.sha256(content).hexdigest()[:16]
    if not work.is_dir():
        remove(folder)
        work.mkdir(parents=True)
    return work
