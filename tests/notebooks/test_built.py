"""The built notebooks are in step with their sources, run in time, and show what they are kept with."""

from __future__ import annotations

import json
import time
from pathlib import Path

import nbformat
import pytest

from scripts import build_notebooks as build

NAMES = [source.stem for source in build.sources()]
SECONDS = 60
MAKE = "run `make notebooks` and commit what it built"


def kept(name: str) -> nbformat.NotebookNode:
    return nbformat.read(build.ROOT / "notebooks" / f"{name}.ipynb", as_version=4)


def test_there_are_notebooks_and_none_without_a_source() -> None:
    assert "00_start_here" in NAMES
    assert sorted(path.stem for path in (build.ROOT / "notebooks").glob("*.ipynb")) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_a_built_notebook_is_in_step_with_its_source(name: str) -> None:
    source, learners = build.convert(build.SOURCES / f"{name}.py"), kept(name)
    assert [(c.id, c.cell_type, c.source, c.metadata) for c in learners.cells] == [
        (c.id, c.cell_type, c.source, c.metadata) for c in source.cells
    ], MAKE
    assert learners.metadata == source.metadata, "no pairing and no widget state: a save must never write back"


@pytest.mark.parametrize("name", NAMES)
def test_a_built_notebook_keeps_only_what_is_reproducible(name: str) -> None:
    for cell in kept(name).cells:
        assert set(cell.metadata) <= set(build.KEPT_CELL_METADATA)
        assert cell.get("execution_count") is None
        for output in cell.get("outputs", ()):
            assert output.output_type in ("stream", "execute_result", "display_data"), f"{cell.id} failed; {MAKE}"
            assert output.get("name") != "stderr"
            assert build.WIDGET not in output.get("data", {})


@pytest.mark.parametrize("name", NAMES)
def test_no_picture_comes_from_the_network(name: str) -> None:
    for cell in kept(name).cells:
        for text in (cell.source, *(map(build.text_of, cell.get("outputs", ())))):
            assert "src=http" not in text.replace('"', "").replace("'", "")
            assert "](http" not in text or cell.cell_type == "markdown"
            assert "![" not in text, "an image must be made by a cell: the working copy has no other files"


@pytest.mark.timeout(180)
@pytest.mark.parametrize("name", NAMES)
def test_a_notebook_runs_in_time_and_says_what_it_is_kept_with(name: str) -> None:
    began = time.monotonic()
    executed = build.execute(build.convert(build.SOURCES / f"{name}.py"))
    seconds = time.monotonic() - began
    for fresh, old in zip(executed.cells, kept(name).cells, strict=True):
        now, then = ([build.text_of(o) for o in cell.get("outputs", ())] for cell in (fresh, old))
        assert now == then, f"{name}, {fresh.id}: {MAKE}"
    assert seconds < SECONDS, f"{name} took {seconds:.0f} s"


def test_an_absolute_path_in_an_output_refuses_the_build() -> None:
    notebook = nbformat.v4.new_notebook(
        cells=[nbformat.v4.new_code_cell("import os; print(os.getcwd())", id="cell-00")]
    )
    with pytest.raises(ValueError, match="absolute path"):
        build.execute(notebook)


def test_a_build_is_the_same_twice(tmp_path: Path) -> None:
    cells = [
        nbformat.v4.new_code_cell("print(1)\nprint(2, flush=True)\nprint(3)", id="cell-00"),
        nbformat.v4.new_code_cell("import time; time.time()", id="cell-01", metadata={"tags": ["volatile"]}),
    ]
    for name in ("a", "b"):
        build.write(build.execute(nbformat.v4.new_notebook(cells=cells)), tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    values = json.loads((tmp_path / "a").read_text())
    assert [len(cell["outputs"]) for cell in values["cells"]] == [1, 0]
