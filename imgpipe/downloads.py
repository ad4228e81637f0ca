"""Downloads over https: resumed, bounded, and never taken as whole when they are not."""

import json
import os
import queue
import re
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from http import HTTPStatus
from pathlib import Path
from urllib.parse import urljoin

from imgpipe.addresses import hide_secrets
from imgpipe.files import remove, write_json
from imgpipe.stage import progress_bar

CONNECT_SECONDS = 5
READ_SECONDS = 30  # between two packets of a download
LARGEST_DOWNLOAD = 50_000_000_000  # bytes
TRIES = 5  # where connections break off in the middle
RETRY_SECONDS = 1
_MOST_REDIRECTS = 10
_BLOCK = 1 << 20
_PART = HTTPStatus.PARTIAL_CONTENT
_NO_SUCH_PART = HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE


def download(
    url: str,
    path: Path,
    check: Callable[[Path], None] | None = None,
    answer_seconds: float = READ_SECONDS,
) -> Path:
    """Download `url` to `path` with a progress bar.

    What has come so far stands beside `path` and outlives a killed process: the next call asks
    for the rest only. Without `check` it does so where the server promises that the rest belongs
    to the same bytes, and a file that is there already is asked about again.

    Logins are read from ~/.netrc, proxies and certificates from the environment.

    Args:
        url: an https address; neither it nor a redirect may lead anywhere else.
        path: where the file goes; it appears there only when complete.
        check: is called with a complete file and raises ValueError if it is not the right one.
        answer_seconds: after which an address that has not answered is given up.

    Returns:
        `path`.

    Raises:
        OSError: the address does not answer, answers with an error or breaks off again and
            again, or its file is larger than LARGEST_DOWNLOAD or than the disk.
        ValueError: from `check`; the file is removed.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part = _Part(path)
    if path.exists():
        if check is None:
            path.replace(part.path)
        elif _passes(check, path):
            return path
    for may_repeat in (True, False):
        resumed = _fetch(url, part, check is not None, answer_seconds)
        part.finish()
        if check is None:
            break
        part.forget_version()
        # What was there before may have been of another version: then once more from the start.
        if _passes(check, path, raising=not (resumed and may_repeat)):
            break
    return path


def one_line(error: BaseException) -> str:
    """Word an error in one line without secrets; connection errors by their innermost cause."""
    while getattr(error, "args", None) and isinstance(error.args[0], BaseException):
        error = error.args[0]
    if reason := getattr(error, "reason", None):
        error = reason
    text = " ".join(str(error).split()) or type(error).__name__
    return "".join(c if c.isprintable() else "?" for c in hide_secrets(text))[:300]


class _Part:
    """What has come of a download so far, and which version of the file it is of.

    The version is what the server has said of it: {"validator": str, "length": int | None}.
    """

    def __init__(self, path: Path):
        self.whole = path
        self.path = path.with_name(f"{path.name}.part")
        self.version_path = path.with_name(f"{path.name}.version")
        self.begun = False  # has any answer been good?

    @property
    def size(self) -> int:
        return self.path.stat().st_size if self.path.exists() else 0

    @property
    def version(self) -> dict:
        if not self.version_path.exists():
            return {"validator": "", "length": None}
        return json.loads(self.version_path.read_text(encoding="utf-8"))

    def forget_version(self) -> None:
        remove(self.version_path)

    def clear(self) -> None:
        """Remove all, in an order in which bytes never stand beside another's version."""
        self.forget_version()
        remove(self.path)

    def start(self, validator: str, length: int | None) -> None:
        self.clear()
        write_json({"validator": validator, "length": length}, self.version_path)

    def finish(self) -> None:
        """Give the whole file its name, once its bytes are on the disk."""
        with self.path.open("ab") as file:
            os.fsync(file.fileno())
        self.path.replace(self.whole)


def _passes(check: Callable[[Path], None], path: Path, raising: bool = False) -> bool:
    """Tell whether a file is the right one; if not, remove it, or raise what `check` says."""
    try:
        check(path)
    except ValueError:
        path.unlink()
        if raising:
            raise
        return False
    return True


def _fetch(url: str, part: _Part, checked: bool, answer_seconds: float) -> bool:
    """Complete a part, in several requests if need be; tell whether the last continued others'."""
    tries_left = TRIES
    while True:
        tries_left -= 1
        try:
            return _request(url, part, checked, answer_seconds)
        except ConnectionError:
            if not (tries_left and part.begun):
                raise
        time.sleep(RETRY_SECONDS)


def _request(url: str, part: _Part, checked: bool, answer_seconds: float) -> bool:
    """Ask for what is missing of a part, and append it; tell whether there was a part before.

    Raises:
        ConnectionError: the connection broke off; another request may go on.
        OSError: another will not help.
    """
    version = part.version
    validator = version["validator"]
    offset = part.size if checked or validator else 0
    with _answer(url, _headers(offset, validator), answer_seconds) as response:
        if offset and response.status_code in (_PART, _NO_SUCH_PART):
            start, total = _content_range(response.headers)
            told = _validator_of(response.headers)
            is_same = told in ("", validator or told) and version["length"] in (None, total)
            if is_same and response.status_code == _NO_SUCH_PART and total == offset:
                return True
            if not is_same or start != offset or total is None:
                part.clear()
                return _request(url, part, checked, answer_seconds)
        elif response.status_code == HTTPStatus.OK:
            offset, total = 0, None
        else:
            raise OSError(_describe_refusal(response.status_code))
        if total is None and response.raw.length_remaining is not None:
            total = offset + response.raw.length_remaining
        _require_whole_file(response, part.whole.name, total is not None or checked)
        _require_room(total, offset, part.path.parent)
        if not offset:
            part.start(_validator_of(response.headers), total)
        part.begun = True
        _append(response, part, offset, total)
    return offset > 0


def _headers(offset: int, validator: str) -> dict[str, str]:
    # Lengths, ranges and sums are of the file itself, not of some encoding of it.
    headers = {"Accept-Encoding": "identity"}
    if offset:
        headers["Range"] = f"bytes={offset}-"
    if offset and validator:
        headers["If-Range"] = validator
    return headers


def _answer(url: str, headers: dict[str, str], seconds: float):
    """Return the response to a GET request, its body unread, if it comes within some seconds.

    A host with a dozen addresses behind a firewall that drops packets costs the connection
    timeout a dozen times, and a name server that is out of reach has a timeout of its own; hence
    one limit around all of it, in a thread that may be left behind.
    """
    answers = queue.SimpleQueue()

    def ask():
        try:
            answers.put(_get(url, headers))
        except Exception as error:  # raised again where somebody can see it
            answers.put(error)

    threading.Thread(target=ask, daemon=True).start()
    try:
        answer = answers.get(timeout=seconds)
    except queue.Empty:
        raise ConnectionError(f"no answer within {seconds} s") from None
    if isinstance(answer, Exception):
        raise answer
    return answer


def _get(url: str, headers: dict[str, str]):
    """Send a GET request and follow its redirects, over https alone."""
    import requests  # a fifth of a second, which stages that download nothing save

    session = requests.Session()
    session.adapters.pop("http://")
    # Left to itself, requests reads a redirect's body into memory, however long it is.
    session.get_redirect_target = lambda _: None
    try:
        for _ in range(_MOST_REDIRECTS + 1):
            if not url.startswith("https://"):
                raise OSError(f"it leads to {url}, which is not https; nothing was sent there")
            response = session.get(
                url,
                headers=headers,
                stream=True,
                allow_redirects=False,
                timeout=(CONNECT_SECONDS, READ_SECONDS),
            )
            target = requests.Session.get_redirect_target(session, response)
            if target is None:
                return response
            response.close()
            url = urljoin(url, target)
    except (requests.exceptions.ConnectionError, requests.exceptions.Timeout) as error:
        raise ConnectionError(one_line(error)) from None
    except (OSError, ValueError) as error:
        raise OSError(one_line(error)) from None
    raise OSError(f"it is redirected more than {_MOST_REDIRECTS} times")


def _describe_refusal(status: int) -> str:
    known = status in set(HTTPStatus)
    words = f"the server answers {status} {HTTPStatus(status).phrase if known else ''}".rstrip()
    if status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
        words += "; if it wants a login, put that into ~/.netrc"
    return words


def _validator_of(headers) -> str:
    """Return what a server calls this version of a file, if it vouches for every byte."""
    etag = headers.get("ETag", "")
    validator = etag if etag.startswith('"') else headers.get("Last-Modified", "")
    return validator if validator.isascii() and validator.isprintable() else ""


def _content_range(headers) -> tuple[int | None, int | None]:
    """Read the start of a range, and the length of the whole file, where they are told."""
    match = re.fullmatch(
        r"bytes (?:(\d+)-\d+|\*)/(?:(\d+)|\*)", headers.get("Content-Range", ""), re.ASCII
    )
    start, total = match.groups() if match else (None, None)
    return start and int(start), total and int(total)


def _require_whole_file(response, name: str, end_is_known: bool) -> None:
    """Refuse a body that is not the file itself, or of which a part could pass for the whole."""
    encoding = response.headers.get("Content-Encoding", "identity").lower()
    # Many a server calls the contents of a gzip file a gzip encoding of something.
    if encoding != "identity" and not (encoding in ("gzip", "x-gzip") and name.endswith("gz")):
        raise OSError(
            f"the server sends the file encoded ({encoding}), so that it cannot be checked; "
            "download it with a browser and name your copy"
        )
    if not (end_is_known or response.raw.chunked):
        raise OSError(
            "the server does not tell the file's length, so that a part could pass for the whole; "
            "download it with a browser and name your copy"
        )


def _require_room(total: int | None, offset: int, folder: Path) -> None:
    if total is None:
        return
    if total > LARGEST_DOWNLOAD:
        raise OSError(
            f"the file has {_megabytes(total)}, more than the {_megabytes(LARGEST_DOWNLOAD)} that "
            "are downloaded; get it in another way and name your copy"
        )
    free = shutil.disk_usage(folder).free
    if total - offset > free:
        raise OSError(
            f"{_megabytes(total - offset)} are to come, but the disk of {folder} has only "
            f"{_megabytes(free)} left; free some space"
        )


def _megabytes(size: int) -> str:
    return f"{size / 1e6:,.0f} MB"


def _append(response, part: _Part, offset: int, total: int | None) -> None:
    """Append a response's body to a part."""
    size, most = offset, LARGEST_DOWNLOAD if total is None else total
    bar = progress_bar(total=total, initial=offset, unit="B", unit_scale=True, desc=part.whole.name)
    with part.path.open("ab", buffering=0) as file, bar:
        for block in _blocks(response):
            size += len(block)
            if size > most:
                part.clear()
                raise OSError(f"the server sends more than {_megabytes(most)}; it was stopped")
            bar.update(len(block))
            while block:
                block = block[file.write(block) :]
    if total is not None and size < total:
        raise ConnectionError("the server sends a shorter part than it was asked for")


def _blocks(response) -> Iterator[bytes]:
    """Give a body's bytes as they arrive, so that a killed process loses next to nothing."""
    import urllib3

    try:
        while block := response.raw.read1(_BLOCK, decode_content=False):
            yield block
    except urllib3.exceptions.ReadTimeoutError:
        raise ConnectionError(f"the server has sent nothing for {READ_SECONDS} s") from None
    except urllib3.exceptions.HTTPError:
        raise ConnectionError("the connection broke off before the end of the file") from None
