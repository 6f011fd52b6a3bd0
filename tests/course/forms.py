"""What the tests ask of both forms of a notebook: which exercises its outputs call passed."""

from __future__ import annotations

import re
from pathlib import Path

import nbformat

from scripts import build_notebooks as build

FIXTURE = Path(__file__).parent / "fixture"
SOURCE = FIXTURE / "99_lowest_bit.py"
STATES = {"✓": "passed", "✗": "not yet", "○": "still open"}


def verdicts(notebook: nbformat.NotebookNode) -> dict[str, str]:
    """What the last shown check of each exercise said, from the outputs of an executed notebook."""
    found = {}
    for cell in notebook.cells:
        for output in cell.get("outputs", ()):
            text = output.get("data", {}).get("text/plain", "")
            for mark, exercise_id, words in re.findall(r"^([✓✗○]) (\d\d\.\d+) .*: ([a-z ]+)$", text, flags=re.M):
                assert STATES[mark] == words
                found[exercise_id] = words
    return found


def run_with_chapter_99(notebook: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """Execute a notebook in a kernel that knows the fixture's chapter."""
    setup = f"from astrai.course import chapters; chapters.__path__.append({str(FIXTURE / 'chapters')!r})"
    notebook.cells.insert(0, nbformat.v4.new_code_cell(setup, id="setup"))
    build.execute(notebook)
    del notebook.cells[0]
    return notebook
