"""A blank page in a real browser, in which a test mounts drawing modules."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from astrai.widgets.assemble import css, esm
from tests.browser import CHROMIUM, NO_CHROMIUM, Complaints, chromium


# NOTE: not for longer than a module. While Playwright's synchronous form is open, asyncio.run() refuses to work.
@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    if CHROMIUM is None:
        pytest.skip(NO_CHROMIUM)
    with chromium() as browser:
        yield browser


@pytest.fixture
def page(browser: Any) -> Iterator[Any]:
    """A fresh blank page, 900 pixels wide. An error in its console, or a request to elsewhere, fails the test."""
    context = browser.new_context(viewport={"width": 900, "height": 700})
    page = context.new_page()
    complaints = Complaints(page)
    yield page
    context.close()
    complaints.assert_none()


@pytest.fixture
def mount(page: Any) -> Callable[..., Any]:
    """``mount("slot_map", functions=["makeSlotMap"])`` loads modules and puts functions where a test can call them."""

    def load(*names: str, functions: list[str]) -> Any:
        exposed = f"Object.assign(window, {{ {', '.join(functions)} }});"
        # One block, as in a module: nothing leaks but what is exposed.
        page.set_content(f"<!doctype html><style>body {{ margin: 0 }} {css()}</style><body></body>")
        page.evaluate(f"() => {{ {esm(*names)}\n{exposed} }}")
        return page

    return load
