"""predict: classify image files with the trained model in data/model.

python -m stages.predict [--top K] [--json] IMAGE…
python -m stages.predict --serve [--top K] [--host ADDRESS] [--port N] [--open]
"""

import argparse
import importlib.util
import json
import socket
import sys
import webbrowser
from pathlib import Path

import numpy as np

from imgpipe.arrays import open_array
from imgpipe.contract import CONTRACT, Contract, load_contract
from imgpipe.prediction import choose_examples, load_images, rank_classes
from imgpipe.stage import importing_keras, run_main
from imgpipe.wording import shorten

MODEL = Path("data/model")
ARRAYS = Path("data/arrays")
HOST, PORT = "127.0.0.1", 8000


def main():
    """Classify the files that are named, or those that people give the page."""
    arguments = parse_arguments()
    if arguments.serve:
        serve_page(arguments)
    else:
        print_classes(arguments)


def print_classes(arguments: argparse.Namespace) -> None:
    """Print classes and probabilities of each file."""
    contract = load_contract(MODEL / CONTRACT)
    images = load_images([(path, show_path(path)) for path in arguments.images], contract)

    with importing_keras():
        from imgpipe.trained import load_trained

    probabilities = load_trained(MODEL).predict(images)
    for path, row in zip(arguments.images, probabilities, strict=True):
        ranking = rank_classes(row, contract.class_names, arguments.top)
        if arguments.json:
            print(word_json({"image": str(path), "classes": ranking}, sys.stdout.encoding))
        else:
            words = ", ".join(f"{shorten(name)} {100 * p:.1f} %" for name, p in ranking.items())
            print(f"{show_path(path)}: {words}")


def show_path(path: Path) -> str:
    """Show a path whole, on one line, whatever characters are in its name."""
    return shorten(path, len(str(path)))


def word_json(answer: dict, encoding: str) -> str:
    """Word an answer as JSON of one line, in ASCII where it holds what cannot be printed so."""
    text = json.dumps(answer, ensure_ascii=False, allow_nan=False)
    plain = text.isprintable() and encoding.lower() == "utf-8"
    return text if plain else json.dumps(answer, allow_nan=False)


def serve_page(arguments: argparse.Namespace) -> None:
    """Serve the page until Ctrl-C."""
    check_packages()
    contract = load_contract(MODEL / CONTRACT)
    examples = load_examples(contract)
    with open_socket(arguments.host, arguments.port) as listening:
        port = listening.getsockname()[1]
        print(f"predict: loading {contract.model}, trained on {contract.dataset} …", flush=True)
        with importing_keras():
            from imgpipe.serving import create_app, create_page_server
            from imgpipe.trained import load_trained

        hosts = [arguments.host, "localhost", HOST]
        app = create_app(load_trained(MODEL), top=arguments.top, hosts=hosts, examples=examples)
        server = create_page_server(app, listening)
        host = "localhost" if arguments.host == "0.0.0.0" else arguments.host
        print(f"predict: http://{host}:{port}/ shows the page; Ctrl-C ends it", flush=True)
        if arguments.open:
            webbrowser.open(f"http://{host}:{port}/")
        server.run()
    raise KeyboardInterrupt  # which is what has ended it, and is told by run_main


def check_packages() -> None:
    """Refuse to go on without what requirements-serve.txt installs."""
    for package in ("flask", "waitress"):
        if importlib.util.find_spec(package) is None:
            raise ValueError(
                f"{package}: is not installed; run "
                "python -m pip install --require-hashes -r requirements-serve.txt"
            )


def open_socket(host: str, port: int) -> socket.socket:
    """Take the address for the page, before the seconds in which the model is loaded."""
    try:
        return socket.create_server((host, port))
    except OSError as error:
        reason = error.strerror.partition(" (")[0]  # Python adds the address
        raise OSError(
            f"{host}:{port}: cannot be listened at ({reason}); give another --host or --port "
            "(0 takes a free one)"
        ) from None


def load_examples(contract: Contract) -> dict[str, np.ndarray]:
    """Load one training image of each class, if they are there."""
    paths = ARRAYS / "train_images.npy", ARRAYS / "train_labels.npy"
    if not all(path.is_file() for path in paths):
        return {}
    return choose_examples(*map(open_array, paths), contract)


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m stages.predict", description="Classify image files with the trained model."
    )
    parser.add_argument("images", nargs="*", type=Path, metavar="IMAGE")
    parser.add_argument("--top", type=int, default=3, metavar="K", help="classes shown (3)")
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    page = parser.add_argument_group("a page on which to drop images")
    page.add_argument("--serve", action="store_true", help="serve it instead of reading files")
    page.add_argument(
        "--host",
        default=HOST,
        metavar="ADDRESS",
        help=f"IPv4 address or name under which it is to be had ({HOST}: on this machine alone)",
    )
    page.add_argument(
        "--port", type=int, default=PORT, metavar="N", help=f"({PORT}; 0: any that is free)"
    )
    page.add_argument("--open", action="store_true", help="show it in the browser")
    arguments = parser.parse_args()
    if arguments.top < 1:
        parser.error(f"--top {arguments.top} must be 1 or greater")
    if not 0 <= arguments.port <= 65535:
        parser.error(f"--port {arguments.port} must lie in [0, 65535]")
    if arguments.serve and (arguments.images or arguments.json):
        parser.error("--serve takes neither IMAGE nor --json: images are dropped on the page")
    if not arguments.serve and not arguments.images:
        parser.error("name at least one IMAGE, or serve the page with --serve")
    return arguments


if __name__ == "__main__":
    run_main(main)
