"""One JupyterLab and one browser for all notebook tests."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.browser import CHROMIUM, NO_CHROMIUM, Complaints, chromium
from tests.notebooks.jupyterlab import Lab, jupyterlab


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """A JupyterLab that ``astrai lab`` opened on a new working copy."""
    if CHROMIUM is None:
        pytest.skip(NO_CHROMIUM)
    with jupyterlab(tmp_path_factory.mktemp("lab")) as lab:
        yield lab


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    if CHROMIUM is None:
        pytest.skip(NO_CHROMIUM)
    with chromium() as browser:
        yield browser


@pytest.fixture
def page(browser: Any) -> Iterator[Any]:
    """A fresh page. An error in its console, or a request to elsewhere, fails the test."""
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    page = context.new_page()
    complaints = Complaints(page)
    yield page
    context.close()
    complaints.assert_none()
