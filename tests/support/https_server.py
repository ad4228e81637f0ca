"""A web server over https for tests: what it has, how it misbehaves, and what it was asked."""

import contextlib
import re
import ssl
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace

import trustme

AUTHORITY = trustme.CA()


class Handler(BaseHTTPRequestHandler):
    """Answers from the server's site."""

    protocol_version = "HTTP/1.1"

    def do_GET(self):
        """Answer with the file, from where it is asked for, or as the test says."""
        site = self.server.site
        self.log = SimpleNamespace(
            path=self.path,
            range=self.headers["Range"],
            if_range=self.headers["If-Range"],
            login=self.headers["Authorization"],
            sent=0,
        )
        site.requests.append(self.log)
        path = self.path.partition("?")[0]
        if answer := site.answers.get(path):
            answer(self)
        elif path in site.files:
            self.send_file(site.files[path], site)
        else:
            self.send_empty(404)

    def send_file(self, body, site):
        """Send a file or the rest of it."""
        start, asked = 0, self.log.range and site.ranges
        if asked and self.log.if_range in (None, *site.headers.values()):
            start = int(re.fullmatch(r"bytes=(\d+)-", self.log.range)[1])
            if start >= len(body):
                self.send_empty(416, {"Content-Range": f"bytes */{len(body)}"})
                return
        self.send_response(206 if start else 200)
        headers = {"Content-Length": str(len(body) - start), **site.headers}
        if start:
            headers["Content-Range"] = f"bytes {start}-{len(body) - 1}/{len(body)}"
        self.send_headers(headers)
        end = start + site.drops.pop(0) if site.drops else len(body)
        self.send(body[start:end])
        if end < len(body):
            site.stalled.wait() if site.stalled else None
            self.close_connection = True

    def send_empty(self, status, headers=()):
        """Answer without a body."""
        self.send_response(status)
        self.send_headers({"Content-Length": "0", **dict(headers)})

    def send_headers(self, headers):
        """Send the headers that have a value."""
        for name, value in headers.items():
            if value is not None:
                self.send_header(name, value)
        self.end_headers()

    def send(self, block):
        """Send a part of a body."""
        self.log.sent += len(block)  # before the client can have it and look
        self.wfile.write(block)

    def log_message(self, *_):
        """Print nothing."""


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_):
        """Clients that go away are what the tests are about."""


@contextlib.contextmanager
def serving(monkeypatch):
    """Serve a site over https, with a certificate that this process and its children trust.

    Yields:
        The site: `url`; `files`, path to bytes; `answers`, path to a function that is given the
        handler; `headers` of files; `ranges`, whether parts are sent; `drops`, after how many
        bytes of a file each of the next answers ends, at once or, with an event as `stalled`, when
        that is set; and `requests`, what was asked for and how many bytes were sent.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    AUTHORITY.issue_cert("localhost", "127.0.0.1").configure_cert(context)
    server = _Server(("127.0.0.1", 0), Handler)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    url = f"https://localhost:{server.server_port}/"
    server.site = SimpleNamespace(
        url=url,
        files={},
        answers={},
        headers={"ETag": '"1"'},
        ranges=True,
        drops=[],
        stalled=None,
        requests=[],
    )
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    with AUTHORITY.cert_pem.tempfile() as certificate:
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", certificate)
        try:
            yield server.site
        finally:
            if server.site.stalled:
                server.site.stalled.set()
            server.shutdown()
            server.server_close()
