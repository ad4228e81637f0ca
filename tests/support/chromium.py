"""Chromium for the tests in a browser: found, started, and installed by `make browser`."""

import contextlib
import os
import shutil
import subprocess
import sys

from playwright.sync_api import Browser, Error, Playwright, sync_playwright

NAMES = ("chromium", "chromium-browser", "google-chrome")
OPTIONS = (
    "--no-sandbox",  # which root cannot have
    "--disable-dev-shm-usage",  # small in containers
    # WebGL without a graphics card.
    "--use-gl=angle",
    "--use-angle=swiftshader",
    "--enable-unsafe-swiftshader",
    # Nothing of its own over the network, and no way out for a page, workers and sockets included.
    "--no-first-run",
    "--no-default-browser-check",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-default-apps",
    "--disable-domain-reliability",
    "--disable-sync",
    "--disable-quic",
    "--no-pings",
    "--no-proxy-server",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE localhost, EXCLUDE 127.0.0.1",
)
# An index that does not answer must not hold up a run of the tests for long.
APT = ("apt-get", "-qq", "-o", "Acquire::Retries=1", "-o", "Acquire::http::Timeout=30")


def main():
    """Make sure that there is a Chromium that starts."""
    with sync_playwright() as playwright:
        try:
            start_chromium(playwright).close()
        except OSError:
            install()
            start_chromium(playwright).close()


def start_chromium(playwright: Playwright) -> Browser:
    """Start the first Chromium that starts: one on the path, else Playwright's own.

    Raises:
        OSError: none does; the message says why the first did not.
    """
    found = [path for path in map(shutil.which, NAMES) if path]
    errors = []
    for path in [*found, None]:
        try:
            return playwright.chromium.launch(executable_path=path, args=OPTIONS)
        except Error as error:
            errors.append(f"{path or 'Playwright has none'}: {error.message.splitlines()[0]}")
    raise OSError(f"no Chromium starts ({errors[0]})")


def install() -> None:
    """Install Chromium: Debian's, with a font, for root where there is one, else Playwright's."""
    if os.geteuid() == 0 and shutil.which("apt-get"):
        environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
        packages = ("chromium", "fonts-dejavu-core")
        for command in (("update",), ("install", "-y", "--no-install-recommends", *packages)):
            subprocess.run([*APT, *command], env=environment, stdout=subprocess.DEVNULL)
        if shutil.which(NAMES[0]):
            return
    with contextlib.suppress(subprocess.TimeoutExpired):
        command = [sys.executable, "-m", "playwright", "install", "--only-shell", "chromium"]
        subprocess.run(command, timeout=600)


if __name__ == "__main__":
    try:
        main()
    except OSError as error:
        sys.exit(
            f"error: {error}; install Debian's package chromium or Google Chrome. Without one "
            "make test leaves out the tests in a browser"
        )
