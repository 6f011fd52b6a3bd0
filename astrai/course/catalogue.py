"""Finds what the chapters hold: by id, or all of it. An id that is not there is answered with those that are."""

from __future__ import annotations

import json
import pkgutil
import re
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path

from astrai.course import chapters
from astrai.course.exercises import Chapter, Exercise
from astrai.course.shown import CourseError


def chapter_ids() -> list[str]:
    """The numbers of all chapters that have exercises, in order."""
    names = (module.name for module in pkgutil.iter_modules(chapters.__path__))
    return sorted(match[1] for match in (re.fullmatch(r"ch(\d\d)", name) for name in names) if match)


def chapter(chapter_id: str) -> Chapter:
    """One chapter.

    Raises:
        CourseError: there is none of this number.
    """
    if chapter_id not in chapter_ids():
        raise CourseError(f"there is no chapter {chapter_id!r} with exercises; {_there_are(chapter_ids())}")
    return import_module(f"{chapters.__name__}.ch{chapter_id}").CHAPTER


def exercise(exercise_id: str) -> Exercise:
    """One exercise.

    Raises:
        CourseError: there is none of this id.
    """
    known = [exercise for number in _likely(exercise_id) for exercise in chapter(number).exercises]
    for one in known:
        if one.id == exercise_id:
            return one
    raise CourseError(f"there is no exercise {exercise_id!r}; {_there_are([one.id for one in known])}")


def expect_prediction(prediction_id: str) -> None:
    """Make sure that a prediction has this id.

    Raises:
        CourseError: there is none.
    """
    known = [one for number in _likely(prediction_id) for one in chapter(number).predictions]
    if prediction_id not in known:
        raise CourseError(f"there is no prediction {prediction_id!r}; {_there_are(known)}")


def answer_to(exercise: Exercise) -> str:
    """The source of the solution, which ``make notebooks`` took from the chapter's source.

    Raises:
        CourseError: it was not built.
    """
    module = import_module(f"{chapters.__name__}.ch{exercise.chapter}")
    path = Path(str(module.__file__)).parents[1] / "solutions" / f"{exercise.chapter}.json"
    answers = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    if exercise.id not in answers:
        raise CourseError(f"the solution of {exercise.id} is missing here: install astrai again, or `make notebooks`")
    return answers[exercise.id]


def _likely(item_id: str) -> list[str]:
    """The chapter that an id belongs to, or all chapters when it belongs to none."""
    ids = chapter_ids()
    return [number for number in ids if str(item_id).startswith(f"{number}.")] or ids


def _there_are(ids: Sequence[str]) -> str:
    return f"there are {', '.join(ids)}" if ids else "there are none yet"
