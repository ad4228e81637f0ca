"""imgpipe.published: whatever the source, the pinned bytes or an error."""

import errno
import gzip
import hashlib
import socket
from types import SimpleNamespace

import pytest

from https_server import serving
from imgpipe import downloads, published
from imgpipe.published import fetch_files

CONTENT = {"one": b"first" * 1000, "two": b"second"}
SUMS = {name: hashlib.sha256(data).hexdigest() for name, data in CONTENT.items()}


def source(**keys):
    return SimpleNamespace(**{"folder": None, "url": None, "debian_package": None} | keys)


@pytest.fixture
def fetch(tmp_path):
    """Fetch from sources into an empty folder; return where from."""
    folder = tmp_path / "published"
    folder.mkdir()
    (tmp_path / "scratch").mkdir()

    def call(*sources, sums=SUMS):
        return fetch_files(sources, sums, folder, tmp_path / "scratch", tmp_path / "downloads")

    call.content = lambda: {path.name: path.read_bytes() for path in folder.iterdir()}
    return call


@pytest.fixture
def given(tmp_path):
    """A folder with one file plain and the other gzipped."""
    folder = tmp_path / "given"
    folder.mkdir()
    (folder / "one").write_bytes(CONTENT["one"])
    (folder / "two.gz").write_bytes(gzip.compress(CONTENT["two"]))
    return folder


@pytest.fixture
def site(monkeypatch):
    """A web server with the files gzipped."""
    monkeypatch.setattr(downloads, "RETRY_SECONDS", 0)
    with serving(monkeypatch) as site:
        site.files |= {f"/{name}.gz": gzip.compress(data) for name, data in CONTENT.items()}
        yield site


def test_a_folder(fetch, given):
    assert str(given) in fetch(str(given))
    assert fetch.content() == CONTENT


def test_a_list_of_files(fetch, given):
    fetch([str(given / "one"), str(given / "two.gz")])
    assert fetch.content() == CONTENT


@pytest.mark.parametrize("as_text", [True, False])
def test_an_address(fetch, site, as_text):
    assert fetch(site.url if as_text else source(url=site.url)) == site.url
    assert fetch.content() == CONTENT
    assert [request.path for request in site.requests] == ["/one.gz", "/two.gz"]


def test_an_archive_is_fetched_as_it_is(fetch, site):
    site.files["/x.tar.gz"] = data = gzip.compress(b"tar")
    fetch(site.url, sums={"x.tar.gz": hashlib.sha256(data).hexdigest()})
    assert fetch.content() == {"x.tar.gz": data}


def test_a_download_is_continued_without_a_word_from_the_server(fetch, site, given, monkeypatch):
    """The pinned sum decides, though it is one of the uncompressed bytes."""
    site.headers, site.drops = {}, [20]
    monkeypatch.setattr(downloads, "TRIES", 1)
    with pytest.raises(ValueError, match="broke off"):
        fetch(site.url)
    fetch(site.url)
    assert fetch.content() == CONTENT
    assert [request.range for request in site.requests] == [None, "bytes=20-", None]


def test_what_is_there_from_an_earlier_run_is_not_fetched_again(fetch, site):
    two = site.files.pop("/two.gz")
    with pytest.raises(ValueError, match="404 Not Found"):
        fetch(site.url)
    assert fetch.content() == {}
    site.files["/two.gz"] = two
    fetch(site.url)
    assert [request.path for request in site.requests] == ["/one.gz", "/two.gz", "/two.gz"]


@pytest.mark.parametrize(
    "body", [None, gzip.compress(b"other"), b"no gzip"], ids=["none", "other", "no gzip"]
)
def test_the_next_source_is_tried_and_nothing_of_the_failed_one_stays(fetch, site, given, body):
    if body is None:
        site.files.pop("/two.gz")
    else:
        site.files["/two.gz"] = body
    assert fetch(source(url=site.url), source(folder=str(given))) == f"folder {given}"
    assert fetch.content() == CONTENT


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda given: (given / "one").write_bytes(b"other"), "has the SHA-256 sum"),
        (lambda given: (given / "one").unlink(), "one not there (nor as .gz)"),
        (lambda given: (given / "two.gz").write_bytes(b"no gzip"), "Not a gzipped file"),
        (
            lambda given: (given / "two.gz").write_bytes(gzip.compress(CONTENT["two"])[:-9]),
            "ended before",
        ),
        (
            lambda given: (given / "two.gz").write_bytes(
                gzip.compress(CONTENT["two"])[:10] + b"\xff" * 9
            ),
            "two.gz: cannot be read",
        ),
    ],
)
def test_a_bad_source_is_refused_with_its_reason(fetch, given, damage, reason):
    damage(given)
    with pytest.raises(ValueError) as caught:
        fetch(str(given), source(folder="/nowhere"))
    message = str(caught.value)
    assert reason in message
    assert "folder /nowhere: no such folder" in message
    assert "To use a copy of your own" in message
    assert fetch.content() == {}


def test_a_file_that_unpacks_without_end_does_not_fill_the_disk(fetch, given, tmp_path):
    (given / "two.gz").write_bytes(gzip.compress(bytes(200 << 20)))
    with pytest.raises(ValueError, match=r"two\.gz: unpacks to over 200 times its"):
        fetch(str(given))
    assert fetch.content() == {}


def test_a_full_disk_is_no_fault_of_the_source(fetch, given, monkeypatch):
    def fill(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(published, "unpack", fill)
    with pytest.raises(OSError, match="No space left"):
        fetch(str(given), str(given))


def test_reasons_hold_no_secrets(fetch, site, capsys):
    site.answers["/one.gz"] = lambda handler: handler.send_empty(
        302, {"Location": "http://me:hidden@host.invalid/?sig=hidden"}
    )
    with pytest.raises(ValueError, match="which is not https") as caught:
        fetch(site.url)
    assert "hidden" not in str(caught.value) + "".join(capsys.readouterr())


def test_an_address_that_cannot_be_resolved(fetch, given):
    fetch(source(url="https://host.invalid/"), str(given))
    assert fetch.content() == CONTENT


def test_a_silent_address_is_given_up(fetch, monkeypatch):
    monkeypatch.setattr(published, "ANSWER_SECONDS", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        url = f"https://127.0.0.1:{listening.getsockname()[1]}/"
        with pytest.raises(ValueError, match="no answer within"):
            fetch(source(url=url))
