"""Coverage-guided fuzzing of one reader of files: python -m fuzz.run TARGET [libFuzzer's options].

Needs atheris, which the project itself does not. Starts from fuzz.targets' whole files, and ends
with the bytes of the first file that is neither read nor refused as it should be:

    python -m fuzz.run zip -max_total_time=240

What is found becomes a case in tests/ beside the reader's others.
"""

import sys
import tempfile
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["imgpipe", "zipfile", "tarfile", "ruamel.yaml", "PIL"]):
    from fuzz.targets import TARGETS, check


def main():
    """Fuzz the target that the command line names."""
    name, *options = sys.argv[1:] or [""]
    if name not in TARGETS:
        sys.exit(f"error: {name or 'no target'}: name one of {', '.join(TARGETS)}")
    target = TARGETS[name]
    with tempfile.TemporaryDirectory() as corpus:
        for number, seed in enumerate(target.make_seeds()):
            Path(corpus, str(number)).write_bytes(seed)
        atheris.Setup([sys.argv[0], *options, corpus], lambda content: check(target, content))
        atheris.Fuzz()


if __name__ == "__main__":
    main()
