"""source: let DVC watch the user's own data. Writes data/source, a link to what params.yaml names.

DVC cannot follow a path that stands within a dataset's block. It can follow this link: `fetch`
runs again when the content behind an unchanged path has changed. Without own data on this machine
the link is a file of one line.
"""

from pathlib import Path

from imgpipe.addresses import hide_secrets
from imgpipe.files import find_unreadable, replacing
from imgpipe.params import load_params
from imgpipe.schema import Dataset
from imgpipe.stage import run_stage
from imgpipe.wording import shorten

SOURCE = Path("data/source")


def main():
    """Link to the chosen dataset's own source."""
    params = load_params()
    with replacing(SOURCE) as path:
        link_source(params.dataset, params.dataset_name, path)
    places = list_places(params.dataset) or ["the published files"]
    print(f"source: {params.dataset_name} from {hide_secrets(', '.join(places))}")


def list_places(dataset: Dataset) -> list[str]:
    """List what the dataset's source names, nothing, one place or several."""
    return [dataset.source] if isinstance(dataset.source, str) else dataset.source or []


def link_source(dataset: Dataset, name: str, path: Path) -> None:
    """Make the user's own data visible under a name that never changes, for DVC to watch.

    Args:
        dataset: the dataset's block.
        name: its name.
        path: becomes a link to the source's folder or file, a folder of links to a list of files,
            or, where there is nothing on this machine to watch, a file of one line.

    Raises:
        FileNotFoundError: the source does not exist, and there is no other.
        ValueError: a list names a folder; a pipe, a device or the like is there, which DVC would
            wait for.
    """
    places = [Path(p).expanduser() for p in list_places(dataset) if not p.startswith("https://")]
    missing = [str(place) for place in places if not place.exists()]
    if missing and not dataset.public_sources:
        raise FileNotFoundError(
            f"params.yaml: datasets.{name}.source: {', '.join(missing)}: no such file or folder"
        )
    for place in places:
        if place.exists() and (found := find_unreadable(place)):
            raise ValueError(
                f"params.yaml: datasets.{name}.source: {shorten(found[0], 300)}: {found[1]}; mend "
                "or remove it"
            )
    if isinstance(dataset.source, list):
        path.mkdir()
        for number, file in enumerate(places):
            if file.is_dir():
                raise ValueError(
                    f"params.yaml: datasets.{name}.source: {file} is a folder, and a list may hold "
                    "files only; put several folders into one and name that"
                )
            if file.exists():
                (path / f"{number}-{file.name}").symlink_to(file)
    elif places and not missing:
        path.symlink_to(places[0])
    else:
        path.write_text(f"{dataset.source or 'the published files'}\n", encoding="utf-8")


if __name__ == "__main__":
    run_stage(main)
