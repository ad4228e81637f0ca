"""predict: classify image files with the trained model in data/model.

python -m stages.predict [--top K] [--json] IMAGE…
"""

import argparse
import json
from pathlib import Path

import numpy as np

from imgpipe.contract import CONTRACT, Contract, load_contract
from imgpipe.images import decode_image, fit_images
from imgpipe.stage import quiet_import, run_main

MODEL = Path("data/model")


def main():
    """Print classes and probabilities of each file."""
    arguments = parse_arguments()
    contract = load_contract(MODEL / CONTRACT)
    images = load_images(arguments.images, contract)

    with quiet_import():
        from imgpipe.trained import load_trained

    probabilities = load_trained(MODEL).predict(images)
    for path, row in zip(arguments.images, probabilities, strict=True):
        ranking = rank_classes(row, contract.class_names, arguments.top)
        if arguments.json:
            print(json.dumps({"image": str(path), "classes": ranking}, ensure_ascii=False))
        else:
            words = ", ".join(f"{name} {100 * p:.1f} %" for name, p in ranking.items())
            print(f"{path}: {words}")


def load_images(paths: list[Path], contract: Contract) -> np.ndarray:
    """Decode image files just as `preprocess` does."""
    size = contract.image_size
    decoded = (decode_image(path, str(path), at_least=size) for path in paths)
    return fit_images(decoded, image_size=size, channels=contract.channels)


def rank_classes(row: np.ndarray, class_names: list[str], top: int) -> dict[str, float]:
    """Return the `top` most probable classes with their probabilities, best first."""
    order = np.argsort(-row, kind="stable")[:top]
    return {class_names[label]: round(float(row[label]), 6) for label in order}


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m stages.predict", description="Classify image files with the trained model."
    )
    parser.add_argument("images", nargs="+", type=Path, metavar="IMAGE")
    parser.add_argument("--top", type=int, default=3, metavar="K", help="classes shown (3)")
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    arguments = parser.parse_args()
    if arguments.top < 1:
        parser.error(f"--top {arguments.top} must be 1 or greater")
    return arguments


if __name__ == "__main__":
    run_main(main)
