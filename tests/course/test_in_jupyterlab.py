"""A chapter in a real JupyterLab: predictions and quizzes by keyboard alone, and what a check looks like."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jupytext
import pytest

from astrai.course import notes
from astrai.course.source import forms
from tests.browser import CHROMIUM, NO_CHROMIUM, Complaints, chromium
from tests.course.forms import FIXTURE, SOURCE
from tests.notebooks.jupyterlab import failures, jupyterlab, open_notebook, run_all


def cells() -> list[str]:
    """The code cells of the fixture as its learner has them."""
    found = [cell for cell in jupytext.read(SOURCE, fmt="py:percent").cells if cell.cell_type == "code"]
    setup = f"from astrai.course import chapters; chapters.__path__.append({str(FIXTURE / 'chapters')!r})"
    return [setup, *(forms(cell.source, cell.metadata.get("tags", ())).learners for cell in found)]


def kept(folder: Path) -> dict[str, Any]:
    return json.loads((folder / notes.FILE).read_text())


@pytest.mark.timeout(240)
@pytest.mark.skipif(CHROMIUM is None, reason=NO_CHROMIUM)
def test_a_chapter_is_worked_through_with_the_keyboard(tmp_path: Path) -> None:
    with jupyterlab(tmp_path) as lab, chromium() as browser:
        page = browser.new_page(viewport={"width": 1000, "height": 900})
        complaints = Complaints(page)
        open_notebook(page, lab, lab.write("99_lowest_bit", *cells()))
        run_all(page)
        assert failures(page) == []

        field = page.locator(".jp-OutputArea-output input[type=text]").first
        field.focus()
        page.keyboard.type("3")
        page.keyboard.press("Tab")
        page.keyboard.press("Space")
        page.wait_for_selector("text=Your answer is kept: 3 rows")
        assert kept(lab.folder)["predictions"]["99.1"]["answer"] == 3

        page.locator("button[title='answer 1 b']").focus()
        page.keyboard.press("Space")
        page.wait_for_selector("text=because 11")
        page.keyboard.press("Shift+Tab")
        page.keyboard.press("Space")
        page.wait_for_selector("text=because 01")
        assert kept(lab.folder)["quiz"] == {"99": {"1": False}}
        text = page.inner_text(".jp-Notebook")
        assert "○ 99.2 The lowest free row: still open" in text
        complaints.assert_none()
