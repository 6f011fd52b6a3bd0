"""What a chapter says of itself is complete, and the course comes in light."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from astrai.course.exercises import Chapter, Exercise, Option, Question


@pytest.mark.parametrize(
    ("make", "complaint"),
    [
        (lambda: Exercise("8.2", "t", print, ("a", "b", "c")), "not of the form 08.2"),
        (lambda: Exercise("08.2", "t", print, ("a", "b")), "three hints"),
        (lambda: Question("q", (Option("a", "why"), Option("b", "why"))), "one of them right"),
        (lambda: Question("q", (Option("a", "why", right=True), Option("b", ""))), "without an explanation"),
        (lambda: Chapter("08", "t", predictions=("09.1",)), "no id of chapter 08"),
        (lambda: Chapter("08", "t", predictions=("08.1", "08.1")), "twice"),
        (lambda: Chapter("08", "t", quiz=(QUESTION,) * 3), "6 to 8"),
        (lambda: Chapter("08", "t", quiz=(QUESTION,) * 6), "same place"),
    ],
)
def test_a_chapter_that_would_not_work_is_refused(make: object, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        make()


QUESTION = Question("q", (Option("a", "why", right=True), Option("b", "why")))


def test_the_course_and_all_its_chapters_come_in_without_torch_and_numpy(tmp_path: Path) -> None:
    code = (
        "import sys; sys.modules['torch'] = sys.modules['numpy'] = sys.modules['ipywidgets'] = None\n"
        "from astrai.course import check, hint, mine, predict, progress, quiz, reveal, solution\n"
        "print(progress())"
    )
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True, timeout=60)


def test_a_name_that_the_course_does_not_have_is_answered_with_those_it_has() -> None:
    import astrai.course

    with pytest.raises(AttributeError, match="it offers check, hint"):
        astrai.course.cheat  # noqa: B018
    assert "check" in dir(astrai.course)
