"""A page in headless Chromium without a network, for tests of what people look at."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

try:
    from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright

    from chromium import start_chromium
except ModuleNotFoundError:
    sync_playwright = None

LOCAL_SCHEMES = {"about", "blob", "data", "file"}
LOCAL_HOSTS = {"localhost", "127.0.0.1"}
GIVEN_UP_BY_PAGE = "net::ERR_ABORTED"  # as for a download, or a request that it has cancelled


def pytest_collection_modifyitems(items):
    """Mark every test that asks for a page, so that none is forgotten."""
    for item in items:
        if "browser" in getattr(item, "fixturenames", ()):
            item.add_marker("browser")


@pytest.fixture(scope="session")
def browser() -> "Iterator[Browser]":
    """One Chromium for all tests of a worker."""
    if sync_playwright is None:
        pytest.skip("Playwright is not installed; run make browser")
    with sync_playwright() as playwright:
        try:
            chromium = start_chromium(playwright)
        except OSError as error:
            pytest.skip(f"{error}; run make browser")
        yield chromium
        chromium.close()


@pytest.fixture
def problems() -> list[str]:
    """What went wrong in the page so far: errors in its console, requests that failed."""
    return []


@pytest.fixture
def page(browser, problems, request) -> "Iterator[Page]":
    """A page that reaches files and this machine only; the test fails if anything went wrong in it.

    Known messages of other people's programs are let pass by a part of them:
    `@pytest.mark.browser(allow=["that part"])`.
    """
    with browser.new_context(service_workers="block", reduced_motion="reduce") as context:
        watch(context, problems)
        context.route(
            lambda url: not is_local(url), lambda route: route.abort("addressunreachable")
        )
        page = context.new_page()
        yield page
        if not page.is_closed():
            page.evaluate("0")  # once it answers, everything that it had reported is here
    allowed = [
        part
        for mark in request.node.iter_markers("browser")
        for part in mark.kwargs.get("allow", [])
    ]
    assert [line for line in problems if not any(part in line for part in allowed)] == []


def watch(context: "BrowserContext", problems: list[str]) -> None:
    """Note everything that goes wrong in any page of a context."""

    def note_message(message):
        if message.type == "error":
            problems.append(f"console: {message.text} ({message.location['url']})")

    def note_failure(request):
        if request.failure != GIVEN_UP_BY_PAGE:
            problems.append(f"request: {shorten(request.url)}: {request.failure}")

    context.on("console", note_message)
    context.on("weberror", lambda error: problems.append(f"page: {error.error}"))
    context.on("requestfailed", note_failure)


def is_local(url: str) -> bool:
    """Tell whether a request for this address stays on this machine."""
    parts = urlsplit(url)
    return parts.scheme in LOCAL_SCHEMES or parts.hostname in LOCAL_HOSTS


def shorten(text: str, limit: int = 200) -> str:
    """Cut a text, such as an address that holds its own data."""
    return text if len(text) <= limit else text[:limit] + "…"


@pytest.fixture
def screenshot(page, request) -> Callable[[str], None]:
    """Write a picture of the whole page, with a name, into the folder $IMGPIPE_SCREENSHOTS.

    Without that variable nothing is done. What a page looks like is for people to judge.
    """

    def write(name: str) -> None:
        if folder := os.environ.get("IMGPIPE_SCREENSHOTS"):
            path = Path(folder) / f"{request.node.path.stem}-{name}.png"
            page.screenshot(path=path, full_page=True)

    return write
