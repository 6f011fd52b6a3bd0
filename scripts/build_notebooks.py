"""Builds notebooks/NN_title.ipynb, what the learner opens, from notebooks/py/NN_title.py, what is edited by hand.

Outputs are kept, so that a reader without a kernel sees them, but only what comes out the same every time: execution
counts, times and other volatile metadata are stripped, and an absolute path or an error refuses the build. Cells
tagged ``volatile`` keep no output. Of an exercise the learner's notebook holds the stub; its solution goes into
astrai/course/solutions/NN.json, and the solved form of the whole notebook is run by the tests.

    python scripts/build_notebooks.py [NN_title ...]
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Literal

import jupytext
import nbformat
from nbclient import NotebookClient
from nbformat import NotebookNode

from astrai.course.source import Forms, exercise_id, forms

ROOT = Path(__file__).resolve().parents[1]
SOURCES = ROOT / "notebooks" / "py"
SOLUTIONS = ROOT / "astrai" / "course" / "solutions"
METADATA = {
    "kernelspec": {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}
KEPT_CELL_METADATA = ("tags",)
WIDGET = "application/vnd.jupyter.widget-view+json"  # leads to a kernel that is gone: its SVG and text twins are kept


def sources() -> list[Path]:
    """All hand-edited notebooks, in the order of the course."""
    return sorted(SOURCES.glob("*.py"))


def built(source: Path) -> Path:
    """Where the notebook of ``source`` goes."""
    return ROOT / "notebooks" / f"{source.stem}.ipynb"


def convert(source: Path) -> NotebookNode:
    """The learner's form of a source, without outputs. It is the same every time, down to the ids of its cells."""
    return _notebook(source, "learners")


def solved(source: Path) -> NotebookNode:
    """The same notebook with all exercises solved, for the tests."""
    return _notebook(source, "solved")


def solutions(source: Path) -> dict[str, str]:
    """The solved form of each exercise cell of a source, by the exercise's id.

    Raises:
        ValueError: an id belongs to another chapter, or stands there twice.
    """
    found: dict[str, str] = {}
    for cell in jupytext.read(source, fmt="py:percent").cells:
        if cell.cell_type == "code" and "exercise" in _tags(cell):
            name = exercise_id(_tags(cell))
            if name in found or name[:2] != source.stem[:2]:
                raise ValueError(f"{source.name}: {name} stands there twice, or belongs to another chapter")
            found[name] = forms(cell.source, _tags(cell)).solved
    return found


def solutions_file(source: Path, folder: Path = SOLUTIONS) -> Path:
    """Where the solutions of ``source`` go: into the package, not beside the notebooks, where they would spoil."""
    return folder / f"{source.stem[:2]}.json"


def write_solutions(source: Path, folder: Path = SOLUTIONS) -> None:
    """Keep the solutions for ``astrai.course.solution``; a source without exercises has no file."""
    path, found = solutions_file(source, folder), solutions(source)
    if not found:
        path.unlink(missing_ok=True)
        return
    folder.mkdir(exist_ok=True)
    path.write_text(json.dumps(found, indent=1, sort_keys=True) + "\n", encoding="utf-8")


def _notebook(source: Path, form: Literal["learners", "solved"]) -> NotebookNode:
    cells = []
    for number, cell in enumerate(jupytext.read(source, fmt="py:percent").cells):
        metadata = {name: cell.metadata[name] for name in KEPT_CELL_METADATA if name in cell.metadata}
        is_code = cell.cell_type == "code"
        make = nbformat.v4.new_code_cell if is_code else nbformat.v4.new_markdown_cell
        both = forms(cell.source, _tags(cell)) if is_code else Forms(cell.source, cell.source)
        cells.append(make(getattr(both, form), id=f"cell-{number:02d}", metadata=metadata))
    return nbformat.v4.new_notebook(cells=cells, metadata=METADATA)


def _tags(cell: NotebookNode) -> list[str]:
    return cell.metadata.get("tags", [])


def execute(notebook: NotebookNode, timeout: int = 120) -> NotebookNode:
    """Run all cells in a fresh kernel and an empty folder, and keep the outputs that are reproducible.

    Raises:
        nbclient.exceptions.CellExecutionError: a cell failed.
        ValueError: an output cannot be kept, such as a warning or an absolute path.
    """
    with tempfile.TemporaryDirectory() as folder:
        resources = {"metadata": {"path": folder}}
        # This checkout's astrai, and nothing of the user's own IPython settings.
        # On one thread of the CPU, whatever the machine has: sums are then taken in the same order everywhere, and a
        # busy machine is not ten times slower.
        environment = os.environ | {
            "PYTHONPATH": str(ROOT),
            "IPYTHONDIR": str(Path(folder) / ".ipython"),
            "OMP_NUM_THREADS": "1",
            "CUDA_VISIBLE_DEVICES": "",
        }
        client = NotebookClient(notebook, timeout=timeout, kernel_name="python3", resources=resources)
        client.execute(cwd=folder, env=environment)
        private = (str(ROOT), str(Path.home()), str(Path(folder).resolve()))
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)
        if cell.cell_type == "code":
            cell.execution_count = None
            cell.outputs = [] if "volatile" in cell.metadata.get("tags", ()) else _reproducible(cell, private)
    notebook.metadata = nbformat.from_dict(METADATA)
    nbformat.validate(notebook)
    return notebook


def _reproducible(cell: NotebookNode, private: tuple[str, ...]) -> list[NotebookNode]:
    kept: list[NotebookNode] = []
    for output in cell.outputs:
        if output.output_type == "stream" and output.name == "stderr":
            raise ValueError(f"{cell.id} writes to stderr, which is not kept: {output.text}")
        if "execution_count" in output:
            output.execution_count = None
        output.get("data", {}).pop(WIDGET, None)
        if output.output_type == "stream" and kept and kept[-1].output_type == "stream":
            kept[-1].text += output.text  # how a stream is cut into messages differs from run to run
        else:
            kept.append(output)
    for text in map(text_of, kept):
        for path in private:
            if path in text:
                raise ValueError(f"{cell.id} shows the absolute path {path}: a reader has another one")
    return kept


def text_of(output: NotebookNode) -> str:
    """All text of an output, its pictures left out."""
    data = {kind: value for kind, value in sorted(output.get("data", {}).items()) if not kind.startswith("image/")}
    return "\n".join([output.get("text", ""), *data.values()]).strip()


def write(notebook: NotebookNode, path: Path) -> None:
    """Write a notebook the way that git likes it: sorted, one line each, a newline at the end."""
    nbformat.validate(notebook)
    path.write_text(nbformat.writes(notebook, indent=1, sort_keys=True) + "\n", encoding="utf-8")


def main(names: list[str]) -> int:
    """Build the notebooks that are named, or all."""
    chosen = [source for source in sources() if not names or source.stem in names]
    for source in reversed(chosen):  # 00 last: its map links to the notebooks that are there
        write_solutions(source)  # first: the notebook's own cells may ask for them
        write(execute(convert(source)), built(source))
        print(f"built {built(source).relative_to(ROOT)}")
    return 0 if chosen else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
