"""imgpipe.downloads: the whole file or an error, whatever the server and the machine do."""

import base64
import errno
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from types import SimpleNamespace

import pytest

from https_server import serving
from imgpipe import downloads
from imgpipe.downloads import download, one_line

BODY = bytes(range(256)) * 400
SIZE = len(BODY)


@pytest.fixture
def site(monkeypatch):
    monkeypatch.setattr(downloads, "RETRY_SECONDS", 0)
    with serving(monkeypatch) as site:
        site.files["/x.bin"] = BODY
        yield site


@pytest.fixture
def get(site, tmp_path):
    """Download the site's file, with a check against its bytes or without."""

    def call(path="x.bin", *, checked=False):
        return download(site.url + path, tmp_path / "to/x.bin", check if checked else None)

    return call


def check(path):
    if path.read_bytes() != BODY:
        raise ValueError("not the right bytes")


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def ranges(site):
    return [request.range for request in site.requests]


def sent(site):
    return [request.sent for request in site.requests]


@pytest.mark.parametrize("checked", [False, True])
def test_a_file_comes_whole(site, get, checked):
    assert get(checked=checked).read_bytes() == BODY
    assert ranges(site) == [None]
    assert "x.bin.part" not in names(get(checked=checked).parent)


@pytest.mark.parametrize("headers", [{"ETag": '"1"'}, {"Last-Modified": "Tue, 01 Sep 2026"}, {}])
def test_a_dropped_connection_is_taken_up_where_it_broke(site, get, headers):
    site.headers, site.drops = headers, [1000, 2000]
    assert get(checked=True).read_bytes() == BODY
    assert ranges(site) == [None, "bytes=1000-", "bytes=3000-"]
    assert sent(site) == [1000, 2000, SIZE - 3000]


@pytest.mark.parametrize("headers", [{}, {"ETag": 'W/"1"'}])
def test_nothing_is_continued_that_neither_server_nor_check_vouches_for(site, get, headers):
    site.headers, site.drops = headers, [1000]
    assert get().read_bytes() == BODY
    assert ranges(site) == [None, None]


def test_without_ranges_it_starts_over(site, get):
    site.ranges, site.drops = False, [1000, 50000]
    assert get().read_bytes() == BODY
    assert sent(site) == [1000, 50000, SIZE]


def test_another_version_is_never_put_behind_a_part(site, get):
    site.drops = [1000]
    site.files["/x.bin"] = bytes(SIZE)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(downloads, "TRIES", 1)
        with pytest.raises(OSError, match="broke off before the end"):
            get()
    site.files["/x.bin"], site.headers = BODY, {"ETag": '"2"'}
    assert get().read_bytes() == BODY
    assert ranges(site) == [None, "bytes=1000-"] and sent(site)[1] == SIZE


@pytest.mark.parametrize("told", ['"2"', None])
def test_a_server_that_ignores_if_range(site, get, told):
    """It continues with the rest of another version: told by its name, or else by the check."""

    def second_version(handler):
        start = int((handler.log.range or "bytes=0-")[6:-1])
        handler.send_response(206 if start else 200)
        length = str(SIZE - start)
        handler.send_headers(
            {
                "Content-Length": length,
                "ETag": told,
                "Content-Range": f"bytes {start}-{SIZE - 1}/{SIZE}" if start else None,
            }
        )
        handler.send(BODY[start:])

    leave_part(get, site, bytes(1000))
    site.answers["/x.bin"] = second_version
    assert get(checked=not told).read_bytes() == BODY
    assert ranges(site)[1:] == ["bytes=1000-", None]


def leave_part(get, site, begin=BODY[:1000]):
    """Have a download break off for good after these bytes."""
    site.files["/x.bin"], site.drops = begin + BODY[len(begin) :], [len(begin)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(downloads, "TRIES", 1)
        with pytest.raises(OSError, match="broke off"):
            get(checked=True)
    site.files["/x.bin"] = BODY


def answer_part(start, end, total=SIZE):
    def answer(handler):
        if not handler.log.range:
            handler.send_file(BODY, handler.server.site)
            return
        handler.send_response(206)
        content_range = f"bytes {start}-{end - 1}/{total}"
        handler.send_headers(
            {"Content-Length": str(end - start), "Content-Range": content_range, "ETag": '"1"'}
        )
        handler.send(BODY[start:end])

    return answer


@pytest.mark.parametrize("start", [0, 999, 1001])
def test_a_wrong_range_is_not_put_behind_a_part(site, get, start):
    leave_part(get, site)
    site.answers["/x.bin"] = answer_part(start, SIZE)
    assert get().read_bytes() == BODY
    assert ranges(site)[1:] == ["bytes=1000-", None]


@pytest.mark.parametrize("total", ["*", 1100])
def test_a_range_without_the_file_s_length_or_with_another_is_not_believed(site, get, total):
    leave_part(get, site)
    site.answers["/x.bin"] = answer_part(1000, 1100, total)
    assert get().read_bytes() == BODY


def test_a_range_shorter_than_asked_for_is_not_the_end(site, get):
    leave_part(get, site)
    answer = answer_part(1000, 1100)
    site.answers["/x.bin"] = lambda handler: (site.answers.clear(), answer(handler))
    assert get(checked=True).read_bytes() == BODY
    assert ranges(site)[1:] == ["bytes=1000-", "bytes=1100-"]


@pytest.mark.parametrize("content_range", [f"bytes */{SIZE}", "bytes */900", "bytes */*", None])
def test_a_range_that_is_refused(site, get, content_range):
    leave_part(get, site)

    def refuse(handler):
        site.answers.clear()
        handler.send_empty(416, {"Content-Range": content_range} if content_range else {})

    site.answers["/x.bin"] = refuse
    assert get().read_bytes() == BODY
    assert ranges(site)[1:] == ["bytes=1000-", None]


def test_a_part_that_is_complete_is_not_sent_again(site, get, tmp_path):
    path = get()
    path.rename(tmp_path / "to/x.bin.part")  # as if killed just before the renaming
    assert get().read_bytes() == BODY
    assert sent(site) == [SIZE, 0]


def test_a_file_that_is_there_is_asked_about_where_no_sum_decides(site, get):
    get()
    assert get().read_bytes() == BODY
    assert sent(site) == [SIZE, 0]
    site.files["/x.bin"], site.headers = b"new", {"ETag": '"2"'}
    assert get().read_bytes() == b"new"


def test_a_file_that_is_there_and_right_needs_no_server(site, get):
    get(checked=True)
    get(checked=True)
    assert len(site.requests) == 1
    (get(checked=True)).write_bytes(b"damaged")
    assert get(checked=True).read_bytes() == BODY


def test_what_fails_its_check_is_removed(site, get, tmp_path):
    site.files["/x.bin"] = b"wrong"
    with pytest.raises(ValueError, match="not the right bytes"):
        get(checked=True)
    assert names(tmp_path / "to") == []
    assert len(site.requests) == 1  # another attempt could only give the same


def test_what_was_continued_and_fails_its_check_is_asked_for_once_more(site, get, tmp_path):
    leave_part(get, site, bytes(1000))
    assert get(checked=True).read_bytes() == BODY
    assert ranges(site)[1:] == ["bytes=1000-", None]


def test_what_drops_and_is_wrong_all_the_time_is_given_up(site, get, tmp_path):
    site.files["/x.bin"], site.drops = bytes(SIZE), [1000, SIZE, 1000]
    with pytest.raises(ValueError, match="not the right bytes"):
        get(checked=True)
    assert ranges(site) == [None, "bytes=1000-"] * 2
    assert names(tmp_path / "to") == []


def send_chunks(body, whole=True):
    def answer(handler):
        handler.send_response(200)
        handler.send_headers({"Transfer-Encoding": "chunked"})
        for start in range(0, len(body), 1000):
            block = body[start : start + 1000]
            handler.send(b"%x\r\n%b\r\n" % (len(block), block))
        if whole:
            handler.send(b"0\r\n\r\n")
        handler.close_connection = True

    return answer


def test_a_chunked_body(site, get):
    site.answers["/x.bin"] = send_chunks(BODY)
    assert get().read_bytes() == BODY


def test_a_chunked_body_that_breaks_off_is_not_taken_as_whole(site, get, tmp_path):
    site.answers["/x.bin"] = send_chunks(BODY[:5000], whole=False)
    with pytest.raises(OSError, match="broke off"):
        get()
    assert len(site.requests) == downloads.TRIES
    assert not (tmp_path / "to/x.bin").exists()


def send_until_the_end(body, **headers):
    """Make an answer whose body ends with the connection."""

    def answer(handler):
        handler.send_response(200)
        handler.send_headers({"Connection": "close", **headers})
        handler.send(body)
        handler.close_connection = True

    return answer


def test_a_body_of_unknown_length_needs_a_check(site, get):
    site.answers["/x.bin"] = send_until_the_end(BODY)
    with pytest.raises(OSError, match="does not tell the file's length"):
        get()
    assert get(checked=True).read_bytes() == BODY
    site.answers["/x.bin"] = send_until_the_end(BODY[:-1])
    get(checked=True).unlink()
    with pytest.raises(ValueError, match="not the right bytes"):
        get(checked=True)


def test_a_server_that_promises_more_than_it_sends(site, get, tmp_path):
    site.answers["/x.bin"] = send_until_the_end(BODY, **{"Content-Length": str(SIZE + 1)})
    with pytest.raises(OSError, match=r"broke off"):
        get()
    assert not (tmp_path / "to/x.bin").exists()
    assert len(site.requests) == downloads.TRIES


@pytest.mark.parametrize("encoding", ["gzip", "br", "gzip, gzip"])
def test_an_encoded_body_is_refused(site, get, encoding):
    site.headers["Content-Encoding"] = encoding
    with pytest.raises(OSError, match=f"sends the file encoded \\({encoding}\\)"):
        get()


def test_a_gzip_file_may_be_called_an_encoding(site, tmp_path):
    """As some servers do, by the name's ending; the bytes stay as they are."""
    site.files["/x.gz"], site.headers["Content-Encoding"] = BODY, "x-gzip"
    assert download(site.url + "x.gz", tmp_path / "x.gz").read_bytes() == BODY


def test_a_file_over_the_limit_is_refused_before_it_comes(site, get, monkeypatch, tmp_path):
    monkeypatch.setattr(downloads, "LARGEST_DOWNLOAD", SIZE - 1)
    with pytest.raises(OSError, match=r"the file has 0 MB, more than the"):
        get()
    assert names(tmp_path / "to") == []


def test_an_endless_body_is_stopped(site, get, monkeypatch, tmp_path):
    def endless(handler):
        handler.send_response(200)
        handler.send_headers({"Transfer-Encoding": "chunked"})
        while True:
            handler.send(b"10000\r\n" + bytes(0x10000) + b"\r\n")

    monkeypatch.setattr(downloads, "LARGEST_DOWNLOAD", 1 << 20)
    site.answers["/x.bin"] = endless
    with pytest.raises(OSError, match="sends more than"):
        get()
    assert names(tmp_path / "to") == []
    assert len(site.requests) == 1 and site.requests[0].sent < 100 << 20


def test_a_file_larger_than_the_disk_is_refused_before_it_comes(site, get, monkeypatch, tmp_path):
    full = SimpleNamespace(free=SIZE - 1)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: full)
    with pytest.raises(OSError, match=r"are to come, but the disk of .*/to has only .* left"):
        get()
    assert names(tmp_path / "to") == []


def test_a_full_disk_keeps_its_errno_and_the_part(site, tmp_path):
    script = (
        "import resource, signal, sys; from pathlib import Path\n"
        "from imgpipe.downloads import download\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        f"resource.setrlimit(resource.RLIMIT_FSIZE, ({SIZE // 2}, {SIZE // 2}))\n"
        "try: download(sys.argv[1], Path(sys.argv[2]))\n"
        "except OSError as error: print(error.errno)\n"
    )
    path = tmp_path / "x.bin"
    command = [sys.executable, "-c", script, site.url + "x.bin", str(path)]
    told = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert int(told) == errno.EFBIG and not path.exists()
    assert download(site.url + "x.bin", path).read_bytes() == BODY
    assert ranges(site) == [None, f"bytes={SIZE // 2}-"]


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
@pytest.mark.parametrize("arrived", [0, 1, 70_000, SIZE - 1])
def test_a_killed_download_is_continued(site, get, tmp_path, number, arrived):
    site.stalled, site.drops = threading.Event(), [arrived]
    script = (
        "import sys; from pathlib import Path; from imgpipe.downloads import download\n"
        "from imgpipe.stage import run_main\n"
        "run_main(lambda: download(sys.argv[1], Path(sys.argv[2])))"
    )
    path, part = tmp_path / "to/x.bin", tmp_path / "to/x.bin.part"
    process = subprocess.Popen(
        [sys.executable, "-c", script, site.url + "x.bin", str(path)], stderr=subprocess.PIPE
    )
    deadline = time.monotonic() + 20
    while not (part.exists() and part.stat().st_size == arrived) and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(number)
    said = process.communicate(timeout=5)[1].decode()
    assert process.returncode == (-signal.SIGKILL if number == signal.SIGKILL else 130)
    assert "Traceback" not in said
    assert not path.exists() and part.stat().st_size == arrived
    assert get().read_bytes() == BODY
    assert ranges(site) == [None, f"bytes={arrived}-" if arrived else None]
    assert sent(site)[1] == SIZE - arrived


def test_a_plain_address_is_never_asked(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as listening:
        url = f"http://127.0.0.1:{listening.getsockname()[1]}/x"
        with pytest.raises(OSError, match=rf"it leads to {url}, which is not https; nothing was"):
            download(url, tmp_path / "x")
        listening.settimeout(0.2)
        with pytest.raises(TimeoutError):
            listening.accept()


def redirect(location):
    return lambda handler: handler.send_empty(302, {"Location": location})


def test_a_redirect_must_stay_on_https(site, get):
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
        site.answers["/x.bin"] = redirect(f"http://me:hidden@127.0.0.1:{port}/x?sig=hidden")
        with pytest.raises(OSError, match="which is not https") as caught:
            get()
        listening.settimeout(0.2)
        with pytest.raises(TimeoutError):
            listening.accept()
    assert "hidden" not in str(caught.value)
    assert f"http://***@127.0.0.1:{port}/x?sig=***" in str(caught.value)


def test_a_redirect_is_followed_with_the_range(site, get):
    leave_part(get, site)
    site.answers["/moved"] = redirect("/x.bin?X-Amz-Signature=1")
    assert get("moved", checked=True).read_bytes() == BODY
    assert ranges(site)[1:] == ["bytes=1000-"] * 2


def test_redirects_come_to_an_end(site, get):
    site.answers["/x.bin"] = redirect("/x.bin")
    with pytest.raises(OSError, match="is redirected more than 10 times"):
        get()
    assert len(site.requests) == 11


def test_the_body_of_a_redirect_is_not_read(site, get):
    def endless(handler):
        handler.send_response(302)
        handler.send_headers({"Location": "/x.bin", "Transfer-Encoding": "chunked"})
        while True:
            handler.send(b"10000\r\n" + bytes(0x10000) + b"\r\n")

    site.answers["/moved"] = endless
    assert get("moved").read_bytes() == BODY


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (401, "401 Unauthorized; if it wants a login, put that into ~/.netrc"),
        (404, "404 Not Found"),
        (500, "500 Internal Server Error"),
        (299, "299"),
    ],
)
def test_a_refusal_is_told_in_words(site, get, status, words):
    site.answers["/x.bin"] = lambda handler: handler.send_empty(status)
    with pytest.raises(OSError) as caught:
        get()
    assert str(caught.value) == f"the server answers {words}"
    assert len(site.requests) == 1


def test_a_refusal_does_not_cost_the_part(site, get):
    leave_part(get, site)
    site.answers["/x.bin"] = lambda handler: handler.send_empty(503)
    with pytest.raises(OSError, match="503"):
        get(checked=True)
    site.answers.clear()
    get(checked=True)
    assert ranges(site)[-1] == "bytes=1000-"


def test_a_login_is_read_from_netrc_and_given_to_its_host_alone(site, get, tmp_path, monkeypatch):
    (tmp_path / "netrc").write_text("machine localhost login me password hidden\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    other = site.url.replace("localhost", "127.0.0.1")
    site.answers["/moved"] = redirect(f"{other}x.bin")
    get("moved")
    login = base64.b64encode(b"me:hidden").decode()
    assert [request.login for request in site.requests] == [f"Basic {login}", None]


def test_the_environment_s_proxy_is_used_and_its_password_not_told(site, get, monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as proxy:
        asked = []

        def refuse():
            connection = proxy.accept()[0]
            asked.append(connection.recv(4096).decode())
            connection.sendall(b"HTTP/1.1 407 hidden\r\n\r\n")
            connection.close()

        threading.Thread(target=refuse, daemon=True).start()
        for name in ("NO_PROXY", "no_proxy", "https_proxy"):
            monkeypatch.delenv(name, raising=False)
        address = f"http://me:hidden@127.0.0.1:{proxy.getsockname()[1]}"
        monkeypatch.setenv("HTTPS_PROXY", address)
        with pytest.raises(OSError) as caught:
            get()
    assert asked[0].startswith("CONNECT localhost:")
    assert "Proxy-Authorization: Basic" in asked[0]
    assert "me:" not in str(caught.value)


def test_a_certificate_that_is_not_trusted(site, get, monkeypatch):
    monkeypatch.delenv("REQUESTS_CA_BUNDLE")
    monkeypatch.delenv("CURL_CA_BUNDLE", raising=False)
    with pytest.raises(OSError, match="certificate verify failed"):
        get()
    assert not site.requests


def test_a_server_that_stops_sending_is_given_up(site, get, monkeypatch):
    monkeypatch.setattr(downloads, "READ_SECONDS", 0.2)
    site.stalled, site.drops = threading.Event(), [1000, 500]
    assert get().read_bytes() == BODY
    assert ranges(site) == [None, "bytes=1000-", "bytes=1500-"]


def test_an_address_that_does_not_answer_is_given_up(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as listening:
        url = f"https://127.0.0.1:{listening.getsockname()[1]}/x"
        with pytest.raises(OSError, match=r"no answer within 0\.2 s"):
            download(url, tmp_path / "x", answer_seconds=0.2)
        listening.settimeout(0.2)
        listening.accept()
        with pytest.raises(TimeoutError):
            listening.accept()  # what has never answered is not asked again


def test_an_address_that_cannot_be_resolved(tmp_path):
    with pytest.raises(OSError, match=r"host\.invalid"):
        download("https://host.invalid/?sig=hidden", tmp_path / "x")


def test_an_error_is_one_line_without_secrets_and_control_characters():
    inner = OSError("no\n\x1b[31m https://me:hidden@host/a?sig=hidden&x=hidden#hidden")
    line = one_line(ConnectionError(inner))
    assert line == "no ?[31m https://***@host/a?sig=***&x=***#***"
