"""Every chapter in a real JupyterLab, from top to bottom, as it is delivered; then narrow, dark and by keyboard."""

from __future__ import annotations

import json
from typing import Any

import nbformat
import pytest

from astrai.course import catalogue, notes
from scripts import build_notebooks as build
from tests.notebooks.jupyterlab import Lab, failures, open_notebook, run_all

pytestmark = pytest.mark.timeout(240)
NAMES = [source.stem for source in build.sources() if source.stem[:2] in catalogue.chapter_ids()]
SHOWN = ", ".join(f".jp-OutputArea-output {tag}" for tag in ("img", "canvas"))
BROKEN_PICTURES = """() => [...document.querySelectorAll('.jp-OutputArea-output img')]
    .filter(picture => !picture.complete || picture.naturalWidth < 500).map(picture => picture.src.slice(0, 80))"""

# Outputs that reach out of their cell, where nothing lets the reader scroll to what is cut off.
CUT_OFF = """() => [...document.querySelectorAll('.jp-OutputArea-output')].filter(output => {
    const scrolls = element => ['auto', 'scroll'].includes(getComputedStyle(element).overflowX)
    return output.scrollWidth > output.clientWidth + 1 && !scrolls(output)
}).map(output => output.textContent.slice(0, 80))"""


def outputs(notebook: nbformat.NotebookNode) -> list[Any]:
    return [output for cell in notebook.cells for output in cell.get("outputs", ())]


def is_picture(output: Any) -> bool:
    return any(kind.startswith("image/") for kind in output.get("data", {}))


@pytest.mark.parametrize("name", NAMES)
def test_a_chapter_runs_top_to_bottom_and_takes_answers_by_keyboard(lab: Lab, page: Any, name: str) -> None:
    chapter = catalogue.chapter(name[:2])
    open_notebook(page, lab, f"{name}.ipynb")
    run_all(page)
    assert failures(page) == []
    kept = nbformat.read(build.ROOT / "notebooks" / f"{name}.ipynb", as_version=4)
    assert page.evaluate(BROKEN_PICTURES) == []
    assert page.locator(SHOWN).count() >= sum(map(is_picture, outputs(kept))) > 6
    if any("live" in cell.metadata.get("tags", ()) for cell in kept.cells):
        assert page.locator(".dashboard canvas").count() >= 4
    text = page.inner_text(".jp-Notebook")
    for exercise in chapter.exercises:
        assert any(f"{exercise.id} {exercise.title}: {state}" in text for state in ("still open", "not yet"))

    keep = page.get_by_role("button", name="Keep my answer")
    assert keep.count() == len(chapter.predictions)
    page.set_viewport_size({"width": 700, "height": 900})
    assert page.evaluate(CUT_OFF) == []

    first = page.locator("button[title='answer 1 a']")
    first.focus()
    page.keyboard.press("Space")
    page.wait_for_function("() => /✓ Right|✗ Not this one/.test(document.querySelector('.jp-Notebook').innerText)")
    kept = json.loads((lab.folder / notes.FILE).read_text())
    assert kept["quiz"][chapter.id] == {"1": chapter.quiz[0].options[0].right}
