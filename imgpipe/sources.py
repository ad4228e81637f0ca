"""A dataset's sources: the user's own data, or else the published files."""

from pathlib import Path

from imgpipe.addresses import hide_secrets, is_address, local_path
from imgpipe.downloads import download, one_line
from imgpipe.entries import Entries, named_permission, open_entries
from imgpipe.files import is_disk_full, remove, sha256_of_file
from imgpipe.published import fetch_files
from imgpipe.raw import store_raw
from imgpipe.schema import Dataset


def fetch_dataset(
    dataset: Dataset, folder: Path, scratch: Path, recorded: dict[str, str]
) -> tuple[str, dict[str, str]]:
    """Fill data/raw from the user's own data, or from the first public source that answers.

    An own source that holds the published files, by name, counts as one source among others:
    their pinned sums decide. Any other own source is taken as it is, and only that; what an own
    address gives is believed the first time, and must have the same sum ever after.

    Args:
        dataset: the dataset's block, with a source of one kind or the other.
        folder: an existing empty folder, to become data/raw.
        scratch: a folder on the same disk, for this alone. Downloads stay there, whole or in
            part, for the next call to go on with; the caller removes it when all is done.
        recorded: SHA-256 sums of what own addresses gave, by address. The query is part of it, as
            it may choose the file; it holds no secrets (see imgpipe.addresses).

    Returns:
        What was found and where, in words; and `recorded` with the addresses that were new, sorted.

    Raises:
        ValueError: no source has what is needed, or an address has other bytes than it had.
        FileNotFoundError: the own source does not exist.
        PermissionError: it may not be read.
        OSError: its address does not answer.
    """
    work = scratch / "work"
    remove(work)
    work.mkdir(parents=True)
    try:
        return _fetch(dataset, folder, work, scratch / "downloads", recorded)
    finally:
        remove(work)


def _fetch(
    dataset: Dataset, folder: Path, work: Path, downloads: Path, recorded: dict[str, str]
) -> tuple[str, dict[str, str]]:
    own, sums = dataset.source, recorded
    if own and not (dataset.files and _names_published_files(own, list(dataset.files))):
        places = [own] if isinstance(own, str) else own
        paths = [_get(place, downloads, recorded.get(place)) for place in places]
        names = list(map(hide_secrets, places))
        whose, words = "your ", ", ".join(names)
        sums = recorded | {
            place: sha256_of_file(path)
            for place, path in zip(places, paths, strict=True)
            if is_address(place)
        }
    else:
        (work / "published").mkdir()
        sources = [*([own] if own else []), *dataset.public_sources]
        whose, words = "", fetch_files(sources, dataset.files, work / "published", work, downloads)
        names = list(dataset.files)
        paths = [work / "published" / name for name in names]
    try:
        with open_entries(paths, work) as entries:
            found = _store(entries, folder, dataset.part_folders, words)
    except ValueError as error:
        text = str(error)
        for path, name in zip(paths, names, strict=True):
            text = text.replace(str(path), name)  # which is how the user knows it
        raise ValueError(text) from None
    return f"{found} from {whose}{words}", dict(sorted(sums.items()))


def _store(entries: Entries, folder: Path, part_folders: dict | None, words: str) -> str:
    try:
        return store_raw(entries, folder, part_folders)
    except ValueError as error:
        raise ValueError(f"{words}: {error}") from None


def _names_published_files(own: str | list[str], files: list[str]) -> bool:
    """Tell whether a source holds published files by name, or nothing at all."""
    places = [own] if isinstance(own, str) else own
    if any(map(is_address, places)):
        return len(places) == 1 and places[0].endswith("/")  # the address of a mirror
    paths = [_expand(place) for place in places]
    with named_permission():
        if not all(path.exists() for path in paths):
            return True  # told as one of the sources that failed
        names = {path.name for path in paths}
        names |= {inner.name for path in paths if path.is_dir() for inner in path.iterdir()}
    return any({file, f"{file}.gz"} & names for file in files)


def _get(place: str, downloads: Path, recorded: str | None) -> Path:
    """Return the path of an own file, downloaded if need be; with the recorded sum, if any."""
    if not is_address(place):
        return _expand(place)

    def check(path: Path) -> None:
        found = sha256_of_file(path)
        if found != recorded:
            raise ValueError(
                f"{hide_secrets(place)}: now has the SHA-256 sum {found}, but sources.lock has "
                f"{recorded} from the first time; if the new content is meant, remove this "
                "address's line from sources.lock and run dvc repro -f fetch"
            )

    try:
        return download(place, local_path(place, downloads), check if recorded else None)
    except OSError as error:
        if is_disk_full(error):
            raise
        raise OSError(
            f"{hide_secrets(place)}: cannot be downloaded ({one_line(error)}); check the address, "
            "or download it yourself and name the file"
        ) from None


def _expand(place: str) -> Path:
    return Path(place).expanduser()
