"""check: is params.yaml in order? Reads nothing else; writes "ok" to a file named on the line.

Every stage checks params.yaml when it starts, but DVC removes a stage's earlier results before it
starts it, and stops at an unknown name with a message of its own. So two stages run this script
ahead of all others: check_names whenever `dataset` or `model` changes, check_values whenever the
chosen blocks or the seed do. Their outputs never change, so they make nothing else run again.
Without a name it only checks: before DVC itself reads the file, as make repro does.
"""

import sys

from imgpipe.files import replacing
from imgpipe.params import load_params
from imgpipe.stage import run_stage


def main():
    """Check the parameters, or stop with the reason."""
    params = load_params()
    for name in sys.argv[1:]:
        with replacing(name) as path:
            path.write_text("ok\n")
    print(f"check: {params.model_name} on {params.dataset_name}, seed {params.seed}")


if __name__ == "__main__":
    run_stage(main)
