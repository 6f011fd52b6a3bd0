"""The system's Chromium for tests that need a real browser, and how a page is kept from reaching anything else."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

from astrai.course.doctor import BROWSERS

CHROMIUM = next(filter(None, map(shutil.which, BROWSERS)), None)
NO_CHROMIUM = "no Chromium on the path: `astrai doctor` says how to get it"
# Without these a browser asks its maker's servers for updates, experiments and more.
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
]


def is_local(url: str) -> bool:
    """Whether an address leads to this machine, or to nothing but itself."""
    parts = urlsplit(url)
    return parts.scheme in ("data", "blob", "about", "file") or parts.hostname in ("127.0.0.1", "localhost")


class Complaints:
    """What a page should not do: errors in its console, uncaught errors, requests to other machines."""

    def __init__(self, page: Any) -> None:
        self.errors: list[str] = []
        self.elsewhere: list[str] = []
        page.on("request", lambda request: self._seen(request.url))
        page.on("websocket", lambda socket: self._seen(socket.url))
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.on("console", lambda message: self.errors.append(message.text) if message.type == "error" else None)

    def _seen(self, url: str) -> None:
        if not is_local(url):
            self.elsewhere.append(url)

    def assert_none(self) -> None:
        """Fail with the list of them."""
        assert self.errors == []
        assert self.elsewhere == []


@contextmanager
def chromium() -> Iterator[Any]:
    """A headless browser."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        try:
            yield browser
        finally:
            browser.close()
