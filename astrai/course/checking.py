"""Checks what a learner made, and chooses what the following cells run on. A check never ends in a traceback."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeVar

from astrai.course import catalogue, notes
from astrai.course.blame import blame
from astrai.course.exercises import Exercise
from astrai.course.mistakes import Mistake
from astrai.course.patience import Endless, patience
from astrai.course.shown import NOT_YET, OPEN, PASSED, Shown

Thing = TypeVar("Thing")
MARKS = {PASSED: ("✓", "passed"), NOT_YET: ("✗", "not yet"), OPEN: ("○", "still open")}


@dataclass(frozen=True, repr=False)
class Verdict(Shown):
    """What a check found. It is true when the exercise is solved; a notebook shows it, so does ``print``."""

    exercise_id: str = ""

    def __bool__(self) -> bool:
        return self.passed

    @property
    def passed(self) -> bool:
        """The exercise is solved."""
        return self.role == PASSED

    @property
    def still_open(self) -> bool:
        """There is nothing of the learner's to check yet."""
        return self.role == OPEN


def check(exercise_id: str, thing: Any) -> Verdict:
    """Check what you made. It says that it is right, or names the first thing that is not.

    Raises:
        CourseError: there is no exercise of this id.

    Example:
        >>> check("08.2", MyAllocator)  # doctest: +SKIP
        ✓ 08.2 An allocator of your own: passed
    """
    exercise = catalogue.exercise(exercise_id)
    verdict = judge(exercise, thing)
    with notes.change() as kept:
        note = kept.exercise(exercise_id)
        note.tries += not verdict.still_open
        note.passed |= verdict.passed
    return verdict


def judge(exercise: Exercise, thing: Any) -> Verdict:
    """What the check of an exercise finds, kept nowhere.

    Example:
        >>> def doubles(function):
        ...     same(function(3), 6, "double(3)")
        >>> from astrai.course.mistakes import same
        >>> exercise = Exercise("08.2", "Double it", check=doubles, hints=("What is 2 x?", "Add.", "x + x"))
        >>> judge(exercise, lambda x: x + x)
        ✓ 08.2 Double it: passed
        >>> judge(exercise, lambda x: x * x)
        ✗ 08.2 Double it: not yet
            double(3) is 9 and should be 6.
            If you are stuck: `hint("08.2")`
            expected: 6
            yours:    9
    """
    if thing is ...:
        return _verdict(exercise, OPEN, "Nothing stands here yet but `...`: write your answer, then check again.")
    try:
        with patience(thing):
            result = exercise.check(thing)
    except Mistake as mistake:
        return _verdict(exercise, NOT_YET, mistake.sentence, mistake.rows)
    except (Exception, Endless) as error:
        found = blame(error, thing)
        return _verdict(exercise, OPEN if found.still_open else NOT_YET, found.sentence, found.rows)
    assert result is None, f"the check of {exercise.id} returned {result!r}: it must raise Mistake or return nothing"
    return _verdict(exercise, PASSED)


def mine(exercise_id: str, yours: Thing, package: Thing) -> Thing:
    """Your own part if it passes its check, else the package's; one line says which. So later cells always run.

    Raises:
        CourseError: there is no exercise of this id.

    Example:
        >>> engine = InferenceEngine(*model, slots=mine("08.2", MyAllocator, SlotAllocator))  # doctest: +SKIP
        08.2: from here on your MyAllocator is used.
    """
    verdict = judge(catalogue.exercise(exercise_id), yours)
    if verdict.passed:
        print(f"{exercise_id}: from here on your {_name(yours)} is used.")
        return yours
    state = MARKS[verdict.role][1]
    print(f"{exercise_id}: {state}, so AstrAI's own {_name(package)} is used from here on.")
    return package


def _verdict(exercise: Exercise, role: str, sentence: str = "", rows: tuple[tuple[str, str], ...] = ()) -> Verdict:
    mark, words = MARKS[role]
    help_ = () if role == PASSED else (sentence, f'If you are stuck: `hint("{exercise.id}")`')
    return Verdict(f"{mark} {exercise.id} {exercise.title}: {words}", help_, rows, role, exercise.id)


def _name(thing: Any) -> str:
    return getattr(thing, "__name__", type(thing).__name__)
