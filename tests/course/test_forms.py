"""Exercise and solution come from one source: the stub asks and tells nothing, the solved form passes."""

from __future__ import annotations

import json
from pathlib import Path

import nbformat
import pytest

from astrai.course import catalogue
from astrai.course.exercises import Chapter
from astrai.course.source import BEGIN, END, STUB, forms
from scripts import build_notebooks as build
from tests.course.forms import FIXTURE, SOURCE, run_with_chapter_99, verdicts

TAGS = ("exercise", "08.2")
WITH_EXERCISES = [source for source in build.sources() if build.solutions(source)]
CELL = f"""class Rows:
    size = 4

    def lowest(self):
        {BEGIN}
        mask = 6
        return mask & -mask
        {STUB} if self.size:
        {STUB}     raise NotImplementedError  # your turn
        {END}
"""


def test_the_learner_gets_the_stub_in_place_of_the_solution() -> None:
    assert forms(CELL, TAGS).learners.splitlines() == [
        "class Rows:",
        "    size = 4",
        "",
        "    def lowest(self):",
        "        if self.size:",
        "            raise NotImplementedError  # your turn",
    ]


def test_the_solved_form_has_neither_stub_nor_markers() -> None:
    assert forms(CELL, TAGS).solved.splitlines() == [
        "class Rows:",
        "    size = 4",
        "",
        "    def lowest(self):",
        "        mask = 6",
        "        return mask & -mask",
    ]


def test_other_cells_are_the_same_in_both_forms() -> None:
    assert forms("x = 1\ny = 2") == ("x = 1\ny = 2", "x = 1\ny = 2")


@pytest.mark.parametrize(
    ("cell", "tags", "complaint"),
    [
        (CELL, (), "has not the tag"),
        (CELL, ("exercise",), "has its id in its tags"),
        ("x = 1", TAGS, "needs # BEGIN SOLUTION"),
        (CELL.replace(END, ""), TAGS, "needs # BEGIN SOLUTION and"),
        (CELL.replace(BEGIN, ""), TAGS, "out of place"),
        (f"{BEGIN}\nx = 1\n{END}", TAGS, "out of place"),  # no stub
        (CELL.replace("# your turn", f"{END} here"), TAGS, "where no line begins"),
        (CELL.replace(BEGIN, f"{BEGIN}\n{STUB} pass\n{END}\n# begin solution"), TAGS, "out of place"),
        (CELL.replace(BEGIN, BEGIN.lower()), (), "has not the tag"),
        (f"{BEGIN}\nx = 1\n{STUB} x =\n{END}", TAGS, "learners form is no Python"),
        (f"{BEGIN}\nx =\n{STUB} x = 1\n{END}", TAGS, "solved form is no Python"),
        (f"{BEGIN}\nx = 1\n{STUB} x = 1\n{END}", TAGS, "the stub is the solution"),
    ],
)
def test_a_source_that_would_show_or_lose_a_solution_is_refused(
    cell: str, tags: tuple[str, ...], complaint: str
) -> None:
    with pytest.raises(ValueError, match=complaint):
        forms(cell, tags)


def test_an_id_of_another_chapter_is_refused(tmp_path: Path) -> None:
    source = tmp_path / "09_other.py"
    source.write_text(SOURCE.read_text())
    with pytest.raises(ValueError, match="another chapter"):
        build.solutions(source)


@pytest.mark.timeout(120)
def test_the_stub_runs_to_the_end_and_fails_each_check_politely() -> None:
    stub = run_with_chapter_99(build.convert(SOURCE))
    assert verdicts(stub) == {"99.2": "still open", "99.3": "still open"}
    text = nbformat.writes(stub)
    assert "mask & -mask).bit_length" not in text and "2**6" not in text
    assert "AstrAI's own by_search is used" in text and "the lowest of 0b1010 is row 1" in text
    assert "the solution is shown after your first try" in text


@pytest.mark.timeout(120)
def test_the_solved_form_passes_each_check() -> None:
    notebook = run_with_chapter_99(build.solved(SOURCE))
    assert verdicts(notebook) == {"99.2": "passed", "99.3": "passed"}
    assert "from here on your lowest_free is used" in nbformat.writes(notebook)


def test_the_solutions_of_the_fixture_are_in_step(tmp_path: Path) -> None:
    build.write_solutions(SOURCE, tmp_path)
    kept = FIXTURE / "solutions" / "99.json"
    assert (tmp_path / "99.json").read_text() == kept.read_text()
    assert set(json.loads(kept.read_text())) == {"99.2", "99.3"}


def test_a_source_without_exercises_has_no_solutions(tmp_path: Path) -> None:
    source = tmp_path / "98_none.py"
    source.write_text("# %%\nx = 1\n")
    (tmp_path / "98.json").write_text("{}")
    build.write_solutions(source, tmp_path)
    assert not (tmp_path / "98.json").exists()


def test_the_kept_solutions_are_in_step_with_the_sources() -> None:
    kept = {path.name: json.loads(path.read_text()) for path in build.SOLUTIONS.glob("*")}
    assert kept == {f"{source.stem[:2]}.json": build.solutions(source) for source in WITH_EXERCISES}, "make notebooks"


def test_each_chapter_has_the_exercises_of_its_source() -> None:
    sources = {source.stem[:2]: source for source in build.sources()}
    for number in catalogue.chapter_ids():
        chapter = catalogue.chapter(number)
        assert {exercise.id for exercise in chapter.exercises} == set(build.solutions(sources[number]))
        text = sources[number].read_text()
        for prediction_id in chapter.predictions:
            assert f'predict("{prediction_id}"' in text.replace("predict(\n    ", "predict(")
    assert {source.stem[:2] for source in WITH_EXERCISES} <= set(catalogue.chapter_ids())


@pytest.mark.timeout(180)
@pytest.mark.parametrize("source", WITH_EXERCISES, ids=lambda source: source.stem)
def test_a_solved_notebook_passes_every_check(source: Path) -> None:
    notebook = build.execute(build.solved(source))
    assert verdicts(notebook) == dict.fromkeys(build.solutions(source), "passed")


@pytest.mark.parametrize("source", WITH_EXERCISES, ids=lambda source: source.stem)
def test_a_delivered_notebook_leaves_every_check_open(source: Path) -> None:
    delivered = verdicts(nbformat.read(build.built(source), as_version=4))
    assert set(delivered) == set(build.solutions(source)) and "passed" not in delivered.values()


def test_the_fixture_is_a_chapter(chapter: Chapter) -> None:
    assert {exercise.id for exercise in chapter.exercises} == set(build.solutions(SOURCE))
