"""A dataset's sources: the user's own data, or else the published files."""

from pathlib import Path

from imgpipe.downloads import download, fetch_files, one_line
from imgpipe.entries import open_entries
from imgpipe.raw import store_raw
from imgpipe.schema import Dataset


def fetch_dataset(dataset: Dataset, folder: Path, scratch: Path) -> str:
    """Fill data/raw from the user's own data, or from the first public source that answers.

    An own source that holds the published files, by name, counts as one source among others:
    their pinned sums decide. Any other own source is taken as it is, and only that.

    Args:
        dataset: the dataset's block, with a source of one kind or the other.
        folder: an existing empty folder, to become data/raw.
        scratch: an existing empty folder on the same disk.

    Returns:
        What was found and where, in words.

    Raises:
        ValueError: no source has what is needed.
        FileNotFoundError: the own source does not exist.
        OSError: its address does not answer.
    """
    own = dataset.source
    if own and not (dataset.files and _names_published_files(own, list(dataset.files))):
        paths = [_get(place, scratch) for place in ([own] if isinstance(own, str) else own)]
        words = "your " + (own if isinstance(own, str) else ", ".join(own))
    else:
        (scratch / "published").mkdir()
        sources = [*([own] if own else []), *dataset.public_sources]
        words = fetch_files(sources, dataset.files, scratch / "published")
        paths = [scratch / "published" / file for file in dataset.files]
    with open_entries(paths, scratch) as entries:
        try:
            found = store_raw(entries, folder, dataset.part_folders)
        except ValueError as error:
            raise ValueError(f"{words.removeprefix('your ')}: {error}") from None
    return f"{found} from {words}"


def _names_published_files(own: str | list[str], files: list[str]) -> bool:
    """Tell whether a source holds published files by name, or nothing at all."""
    places = [own] if isinstance(own, str) else own
    if any(map(_is_address, places)):
        return len(places) == 1 and places[0].endswith("/")  # the address of a mirror
    paths = [_expand(place) for place in places]
    if not all(path.exists() for path in paths):
        return True  # told as one of the sources that failed
    names = {path.name for path in paths}
    names |= {inner.name for path in paths if path.is_dir() for inner in path.iterdir()}
    return any({file, f"{file}.gz"} & names for file in files)


def _get(place: str, scratch: Path) -> Path:
    if not _is_address(place):
        return _expand(place)
    try:
        return download(place, scratch / (place.rstrip("/").rpartition("/")[2]))
    except OSError as error:
        raise OSError(
            f"{place}: cannot be downloaded ({one_line(error)}); check the address, or download it "
            "yourself and name the file"
        ) from None


def _is_address(place: str) -> bool:
    return place.startswith("https://")


def _expand(place: str) -> Path:
    return Path(place).expanduser()
