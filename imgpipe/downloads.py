"""Getting a dataset's files from the first source that has them, with every byte checked.

A source is tried whole: its files are copied or downloaded into a private folder, uncompressed,
and compared with the pinned sums; only a complete, correct set leaves this module.
"""

import gzip
import hashlib
import logging
import os
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Callable, Iterable
from pathlib import Path
from urllib.parse import urljoin

from tqdm import tqdm

from imgpipe.stage import progress_bar

ANSWER_SECONDS = 10  # an address that has not answered by then is given up
CONNECT_SECONDS = 5
READ_SECONDS = 30  # between two packets of a download
APT_HOOKS = ("Pre-Invoke", "Post-Invoke", "Post-Invoke-Success")
_ARCHIVES = (".zip", ".gz", ".tar", ".tgz")  # fetched as they are
_BLOCK = 1 << 20


def fetch_files(sources: Iterable, sums: dict[str, str], folder: Path) -> str:
    """Fill `folder` with the files named in `sums`, from the first source that has them all.

    Args:
        sources: where to look, in order: a local path (folder or file), a list of files, or a
            PublicSource. The files may be gzipped there (`<name>.gz`); at an address those that
            are no archives are.
        sums: file name to SHA-256 sum of its bytes, those of archives as they are.
        folder: an existing empty folder.

    Returns:
        The source that answered, in words.

    Raises:
        ValueError: no source had all files with the pinned sums; the message lists each source
            with its reason, and how to give a local copy.
    """
    reasons = []
    for source in sources:
        name, get = _getter(source)
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".fetch.") as scratch:
            try:
                found = get(list(sums), Path(scratch))
                for file_name, path in found.items():
                    _copy_checked(
                        path,
                        Path(scratch) / f"{file_name}.checked",
                        sums[file_name],
                        gzipped=path.name == f"{file_name}.gz",
                    )
            except (OSError, ValueError, EOFError, subprocess.SubprocessError) as error:
                reasons.append(f"{name}: {one_line(error)}")
                tqdm.write(f"fetch: {reasons[-1]}")
                continue
            for file_name in found:
                (Path(scratch) / f"{file_name}.checked").replace(folder / file_name)
            return name
    raise ValueError(
        "no source has the dataset's files.\n"
        + "".join(f"  {reason}\n" for reason in reasons)
        + f"To use a copy of your own, put {', '.join(sums)} (those that are no archives gzipped "
        "or not) into a folder and name it: dvc repro after setting source in the dataset's block "
        "of params.yaml, or dvc exp run -S datasets.<name>.source=/path/to/folder"
    )


def download(url: str, path: Path, known_hash: str | None = None) -> Path:
    """Download `url` to `path` with a progress bar.

    Args:
        url: an https address.
        path: where the file goes; it appears there only when complete.
        known_hash: `sha256:…` or `md5:…` to check, or None.

    Returns:
        `path`.

    Raises:
        OSError: the address does not answer, or answers with an error.
        ValueError: the bytes do not have the hash.
    """
    import pooch  # with requests a fifth of a second, which stages that download nothing save

    pooch.get_logger().setLevel(logging.ERROR)
    downloader = pooch.HTTPDownloader(
        # pooch sets the total once it knows it; a bar without any counts as false for it.
        progressbar=progress_bar(total=1, unit="B", unit_scale=True, desc=path.name),
        timeout=(CONNECT_SECONDS, READ_SECONDS),
    )
    pooch.retrieve(url, known_hash, fname=path.name, path=path.parent, downloader=downloader)
    return path


def _getter(source) -> tuple[str, Callable[[list[str], Path], dict[str, Path]]]:
    """Return a source's name in words, and its function (names, scratch) -> found paths."""
    if isinstance(source, list):
        files = [Path(file).expanduser() for file in source]
        return f"source {', '.join(source)}", lambda names, _: _find(names, files)
    if isinstance(source, str) and source.startswith("https://"):
        return source, lambda names, scratch: _download_all(names, source, scratch)
    if isinstance(source, str):
        own = Path(source).expanduser()
        return f"source {source}", lambda names, _: _find_in_folder(names, own)
    if source.folder:
        folder = Path(source.folder)
        return f"folder {folder}", lambda names, _: _find_in_folder(names, folder)
    if source.url:
        return source.url, lambda names, scratch: _download_all(names, source.url, scratch)
    package = source.debian_package
    return (
        f"Debian package {package}",
        lambda names, scratch: _download_debian_package(names, package, scratch),
    )


def _find_in_folder(names: list[str], folder: Path) -> dict[str, Path]:
    if folder.is_file():
        return _find(names, [folder])
    if not folder.is_dir():
        raise FileNotFoundError("no such folder")
    return _find(names, folder.iterdir())


def _find(names: list[str], paths: Iterable[Path]) -> dict[str, Path]:
    """Match names to paths of that name, gzipped or not."""
    by_name = {path.name: path for path in paths}
    found = {n: by_name.get(n, by_name.get(f"{n}.gz")) for n in names}
    if missing := [name for name, path in found.items() if path is None]:
        raise FileNotFoundError(f"{', '.join(missing)} not there (nor as .gz)")
    return found


def _download_all(names: list[str], url: str, scratch: Path) -> dict[str, Path]:
    base = url if url.endswith("/") else f"{url}/"
    remote = {n: n if n.endswith(_ARCHIVES) else f"{n}.gz" for n in names}
    _require_answer(urljoin(base, remote[names[0]]))
    return {n: download(urljoin(base, there), scratch / there) for n, there in remote.items()}


def _require_answer(url: str) -> None:
    """Make sure that an address answers at all, within ANSWER_SECONDS.

    A host with a dozen addresses behind a firewall that drops packets costs the connection
    timeout a dozen times, and a name server that is out of reach has a timeout of its own; hence
    one limit around all of it, in a thread that may be left behind.
    """
    import requests

    outcome = []

    def ask():
        try:
            with requests.get(url, stream=True, timeout=(CONNECT_SECONDS, READ_SECONDS)):
                outcome.append(None)
        except OSError as error:
            outcome.append(error)

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(ANSWER_SECONDS)
    if not outcome:
        raise OSError(f"no answer within {ANSWER_SECONDS} s")
    if outcome[0]:
        raise outcome[0]


def _download_debian_package(names: list[str], package: str, scratch: Path) -> dict[str, Path]:
    """Download and unpack a Debian package with apt, without root.

    apt gets folders of its own for its lists, cache and state, so that the system's package
    state is neither needed up to date nor touched; the machine's own sources, proxies and keys
    stay in force.
    """
    if not (shutil.which("apt-get") and shutil.which("dpkg-deb")):
        raise FileNotFoundError("apt-get or dpkg-deb not found; this is not Debian or Ubuntu")
    scratch = scratch.resolve()  # apt reads relative paths from the root
    state, cache = scratch / "state", scratch / "cache"
    (state / "lists" / "partial").mkdir(parents=True)
    (cache / "archives" / "partial").mkdir(parents=True)
    (state / "status").touch()
    options = {
        "Dir::State": state,
        "Dir::State::status": state / "status",
        "Dir::Cache": cache,
        "Acquire::Retries": 0,
        "Acquire::http::Timeout": ANSWER_SECONDS,
        "Acquire::https::Timeout": ANSWER_SECONDS,
        "Acquire::Languages": "none",
        # As root, apt would hand the download to a user that may not write here.
        "APT::Sandbox::User": "root" if os.geteuid() == 0 else "",
    }
    hooks = scratch / "no-hooks.conf"  # what the system does after an update of its own lists
    hooks.write_text("".join(f"#clear APT::Update::{hook};\n" for hook in APT_HOOKS))
    settings = ["-c", hooks, *(f"-o{key}={value}" for key, value in options.items())]
    try:
        _apt(["update", *settings], scratch, "package lists")
    except OSError as error:  # another repository may be out of order; the download will tell
        update_error = f" ({error})"
    else:
        update_error = ""
    try:
        _apt(["download", *settings, package], scratch, package)
    except OSError as error:
        raise OSError(f"{error}{update_error}") from None
    (archive,) = scratch.glob("*.deb")
    subprocess.run(["dpkg-deb", "-x", archive, scratch / "unpacked"], check=True)
    return _find(names, (p for p in (scratch / "unpacked").rglob("*") if p.is_file()))


def _apt(arguments: list[str], folder: Path, what: str) -> None:
    """Run apt-get in `folder`, with a progress bar from its status lines."""
    reader, writer = os.pipe()
    log = folder / "apt.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            ["apt-get", "-q", f"-oAPT::Status-Fd={writer}", *arguments],
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            pass_fds=[writer],
            env={**os.environ, "LC_ALL": "C"},
        )
    os.close(writer)
    with os.fdopen(reader) as lines, progress_bar(total=100, unit="%", desc=what) as bar:
        for line in lines:  # dlstatus:<item>:<percent>:<words>
            fields = line.split(":", 3)
            if fields[0] == "dlstatus":
                bar.update(max(0, float(fields[2]) - bar.n))
    if process.wait() != 0:
        text = log.read_text(errors="replace").splitlines()
        errors = [line for line in text if line.startswith("E:")]
        raise OSError(f"apt-get {arguments[0]}: {(errors or text or ['failed'])[0]}")


def _copy_checked(source: Path, target: Path, expected: str, gzipped: bool) -> None:
    """Copy a file, gunzipped if need be, if its bytes have the pinned sum."""
    digest = hashlib.sha256()
    open_source = gzip.open if gzipped else open
    with open_source(source, "rb") as reader, target.open("wb") as writer:
        while block := reader.read(_BLOCK):
            digest.update(block)
            writer.write(block)
    if digest.hexdigest() != expected:
        raise ValueError(
            f"{source.name} has the SHA-256 sum {digest.hexdigest()} (uncompressed) where "
            f"{expected} is pinned; the file is damaged or another version"
        )


def one_line(error: BaseException) -> str:
    """Word an error in one line; connection errors by their innermost cause."""
    while getattr(error, "args", None) and isinstance(error.args[0], BaseException):
        error = error.args[0]
    if reason := getattr(error, "reason", None):
        error = reason
    text = " ".join(str(error).split()) or type(error).__name__
    return text[:300]
