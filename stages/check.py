"""check: is params.yaml in order? Reads nothing else; writes "ok" to data/checked.

Every stage checks params.yaml when it starts. This one runs before all others whenever `dataset`
or `model` changes, because DVC itself would stop at an unknown name with a message that does not
list the known ones. Its output never changes, so it makes nothing else run again.
"""

from pathlib import Path

from imgpipe.params import load_params
from imgpipe.stage import run_main

CHECKED = Path("data/checked")


def main():
    """Check the parameters, or stop with the reason."""
    params = load_params()
    CHECKED.parent.mkdir(exist_ok=True)
    CHECKED.write_text("ok\n")
    print(f"check: {params.model_name} on {params.dataset_name}, seed {params.seed}")


if __name__ == "__main__":
    run_main(main)
