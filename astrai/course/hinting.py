"""Help with an exercise: three hints, one at a time, and the solution after a try."""

from __future__ import annotations

from dataclasses import dataclass

from astrai.course import catalogue, notes
from astrai.course.shown import OPEN, Shown, box, code, inline


@dataclass(frozen=True, repr=False)
class Solution(Shown):
    """The source of a solution, as the author wrote it."""

    source: str = ""

    def __repr__(self) -> str:
        return f"{self.title}\n\n{self.source}"

    def _repr_html_(self) -> str:
        return box(f"<strong>{inline(self.title)}</strong>{code(self.source)}")


def hint(exercise_id: str) -> Shown:
    """The next hint of three. Where you are is remembered; after the third, all three are shown.

    Raises:
        CourseError: there is no exercise of this id.

    Example:
        >>> hint("08.2")  # doctest: +SKIP
        08.2, hint 1 of 3
            Which bit of the mask stands for row 0?
    """
    exercise = catalogue.exercise(exercise_id)
    with notes.change() as kept:
        note = kept.exercise(exercise_id)
        seen, note.hints = note.hints, min(note.hints + 1, len(exercise.hints))
    if seen < len(exercise.hints):
        return Shown(f"{exercise_id}, hint {seen + 1} of {len(exercise.hints)}", (exercise.hints[seen],))
    after = f'There are no more. After a try, `solution("{exercise_id}")` shows an answer.'
    return Shown(f"{exercise_id}, all {len(exercise.hints)} hints", (*exercise.hints, after))


def solution(exercise_id: str) -> Shown:
    """A solution, once you have tried: before the first check it only says so.

    Raises:
        CourseError: there is no exercise of this id.
    """
    exercise = catalogue.exercise(exercise_id)
    answer = catalogue.answer_to(exercise)
    with notes.change() as kept:
        note = kept.exercise(exercise_id)
        note.solution |= note.tries > 0
    if not note.tries:
        steps = f'Write something, check it with `check("{exercise_id}", ...)`, then ask again.'
        return Shown(f"{exercise_id}: the solution is shown after your first try.", (steps,), role=OPEN)
    return Solution(f"{exercise_id} {exercise.title}: one solution", source=answer)
