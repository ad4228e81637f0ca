"""Getting a dataset's published files from the first source that has them, every byte checked.

A source is tried whole: its files are copied or downloaded, uncompressed, and compared with the
pinned sums; only a complete, correct set leaves this module.
"""

import functools
import gzip
import subprocess
from collections.abc import Callable, Iterable
from pathlib import Path
from urllib.parse import urljoin

from tqdm import tqdm

from imgpipe.addresses import hide_secrets, is_address, local_path
from imgpipe.archives import named_damage, unpack
from imgpipe.debian import unpack_package
from imgpipe.downloads import download, one_line
from imgpipe.files import is_disk_full, remove, sha256_of_file

ANSWER_SECONDS = 10  # an address that has not answered by then is given up for the next source
_ARCHIVES = (".zip", ".gz", ".tar", ".tgz")  # fetched as they are


def fetch_files(
    sources: Iterable, sums: dict[str, str], folder: Path, scratch: Path, downloads: Path
) -> str:
    """Fill `folder` with the files named in `sums`, from the first source that has them all.

    Args:
        sources: where to look, in order: a local path (folder or file), a list of files, an https
            address, or a PublicSource. The files may be gzipped there (`<name>.gz`); at an address
            those that are no archives are.
        sums: file name to SHA-256 sum of its bytes, those of archives as they are.
        folder: an existing empty folder.
        scratch: an existing folder, for what a source unpacks.
        downloads: a folder for downloads; those that are there already, whole or in part, are
            used.

    Returns:
        The source that answered, in words.

    Raises:
        ValueError: no source had all files with the pinned sums; the message lists each source
            with its reason, and how to give a local copy.
        OSError: the disk is full.
    """
    reasons = []
    for source in sources:
        name, get = _getter(source, scratch, downloads)
        try:
            get(sums, functools.partial(_copy_checked, folder=folder, sums=sums))
            return name
        except (OSError, ValueError, subprocess.SubprocessError) as error:
            if is_disk_full(error):
                raise
            reasons.append(f"{name}: {one_line(error)}")
            tqdm.write(f"fetch: {reasons[-1]}")
            for path in folder.iterdir():
                remove(path)
    raise ValueError(
        "no source has the dataset's files.\n"
        + "".join(f"  {reason}\n" for reason in reasons)
        + f"To use a copy of your own, put {', '.join(sums)} (those that are no archives gzipped "
        "or not) into a folder and name it: dvc repro after setting source in the dataset's block "
        "of params.yaml, or dvc exp run -S datasets.<name>.source=/path/to/folder"
    )


_Take = Callable[[Path, str], None]  # called with each file that was found, and its name


def _getter(
    source, scratch: Path, downloads: Path
) -> tuple[str, Callable[[Iterable[str], _Take], None]]:
    """Return a source's name in words, and the function that takes the named files from it."""
    if isinstance(source, list):
        files = [Path(file).expanduser() for file in source]
        return f"source {', '.join(source)}", functools.partial(_take_from, files)
    if isinstance(source, str) and not is_address(source):
        own = Path(source).expanduser()
        return f"source {source}", functools.partial(_take_from_folder, own)
    if isinstance(source, str) or source.url:
        url = source if isinstance(source, str) else source.url
        return hide_secrets(url), functools.partial(_download_all, url, downloads)
    if source.folder:
        folder = Path(source.folder)
        return f"folder {folder}", functools.partial(_take_from_folder, folder)
    package = source.debian_package
    return f"Debian package {package}", functools.partial(_take_from_package, package, scratch)


def _take_from_folder(folder: Path, names: Iterable[str], take: _Take) -> None:
    if not folder.exists():
        raise FileNotFoundError("no such folder")
    _take_from(folder.iterdir() if folder.is_dir() else [folder], names, take)


def _take_from(paths: Iterable[Path], names: Iterable[str], take: _Take) -> None:
    """Take the files of these names, gzipped or not."""
    by_name = {path.name: path for path in paths}
    found = {n: by_name.get(n, by_name.get(f"{n}.gz")) for n in names}
    if missing := [name for name, path in found.items() if path is None]:
        raise FileNotFoundError(f"{', '.join(missing)} not there (nor as .gz)")
    for name, path in found.items():
        take(path, name)


def _download_all(url: str, downloads: Path, names: Iterable[str], take: _Take) -> None:
    base = url if url.endswith("/") else f"{url}/"
    for name in names:
        address = urljoin(base, name if name.endswith(_ARCHIVES) else f"{name}.gz")
        check = functools.partial(take, name=name)
        download(address, local_path(address, downloads), check, ANSWER_SECONDS)


def _take_from_package(package: str, scratch: Path, names: Iterable[str], take: _Take) -> None:
    folder = unpack_package(package, scratch / "debian", ANSWER_SECONDS)
    _take_from((path for path in folder.rglob("*") if path.is_file()), names, take)


def _copy_checked(path: Path, name: str, folder: Path, sums: dict[str, str]) -> None:
    """Copy a file into `folder`, gunzipped if need be, if its bytes have the pinned sum."""
    is_packed = path.name.endswith(".gz") and not name.endswith(".gz")
    with (
        named_damage(f"{path.name}: cannot be read"),
        (gzip.open if is_packed else open)(path, "rb") as reader,
        (folder / name).open("wb") as writer,
    ):
        unpack(reader, writer, path.stat().st_size, path.name)
    found = sha256_of_file(folder / name)
    if found != sums[name]:
        raise ValueError(
            f"{path.name} has the SHA-256 sum {found} (uncompressed) where {sums[name]} is pinned; "
            "the file is damaged or another version"
        )
