"""What the learner has done, in a small file in the folder of the notebooks. It never leaves the machine.

A file that cannot be read is kept aside, never overwritten; a folder that cannot be written to stops no exercise.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

FILE = ".astrai-progress.json"
SCHEMA = 1
Answer = str | int | float


@dataclass(slots=True)
class ExerciseNote:
    """What happened with one exercise. ``tries`` are checks of something that was written."""

    tries: int = 0
    passed: bool = False
    hints: int = 0
    solution: bool = False


@dataclass(slots=True)
class PredictionNote:
    """What was predicted, and what happened, once it was shown."""

    answer: Answer | None = None
    actual: Answer | None = None


@dataclass(slots=True)
class Notes:
    """Everything that is remembered, by id. ``quiz`` says of each question whether the first answer was right."""

    exercises: dict[str, ExerciseNote] = field(default_factory=dict)
    predictions: dict[str, PredictionNote] = field(default_factory=dict)
    quiz: dict[str, dict[str, bool]] = field(default_factory=dict)

    def exercise(self, exercise_id: str) -> ExerciseNote:
        """The note of an exercise, a new one if there is none yet."""
        return self.exercises.setdefault(exercise_id, ExerciseNote())

    def prediction(self, prediction_id: str) -> PredictionNote:
        """The note of a prediction, a new one if there is none yet."""
        return self.predictions.setdefault(prediction_id, PredictionNote())


def read() -> Notes:
    """What is remembered in the present folder. A damaged file is kept aside, and said so."""
    path = Path(FILE)
    try:
        return _parse(json.loads(path.read_bytes()))
    except FileNotFoundError:
        return Notes()
    except (ValueError, TypeError, KeyError, AttributeError):
        print(_set_aside(path))
        return Notes()


@contextmanager
def change() -> Iterator[Notes]:
    """Read the notes, and write them back at the end. What cannot be kept is said in one line, and stops nothing.

    Example:
        >>> with change() as kept:
        ...     kept.exercise("08.2").tries += 1
        >>> read().exercises["08.2"].tries
        1
    """
    try:
        kept, problem = read(), ""
    except OSError as error:
        kept, problem = Notes(), str(error.strerror)
    yield kept
    try:
        if not problem:
            _write(kept)
    except OSError as error:
        problem = str(error.strerror)
    if problem:
        print(f"Your progress could not be kept in {FILE}: {problem}. The exercises work without it.")


def _write(kept: Notes) -> None:
    """Replace the file in one go: whatever happens in between, the old one or the new one is there."""
    part = Path(f"{FILE}.{os.getpid()}.part")
    try:
        with part.open("w", encoding="utf-8") as file:
            file.write(json.dumps({"schema": SCHEMA, **asdict(kept)}, indent=1, sort_keys=True) + "\n")
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, FILE)
    finally:
        part.unlink(missing_ok=True)


def _set_aside(path: Path) -> str:
    number = 1
    while (aside := path.with_name(f"{FILE.removesuffix('.json')}.damaged-{number}.json")).exists():
        number += 1
    os.rename(path, aside)
    return f"{FILE} could not be read. It is kept as {aside.name}, and your progress starts anew."


def _parse(values: Any) -> Notes:
    if values["schema"] != SCHEMA:
        raise ValueError(f"schema {values['schema']} is not {SCHEMA}")
    return Notes(
        exercises={name: _typed(ExerciseNote(**note)) for name, note in values["exercises"].items()},
        predictions={name: _plain(PredictionNote(**note)) for name, note in values["predictions"].items()},
        quiz={name: {number: bool(right) for number, right in given.items()} for name, given in values["quiz"].items()},
    )


def _typed(note: ExerciseNote) -> ExerciseNote:
    for name, default in asdict(ExerciseNote()).items():
        if type(getattr(note, name)) is not type(default):
            raise TypeError(f"{name} is {getattr(note, name)!r}")
    return note


def _plain(note: PredictionNote) -> PredictionNote:
    for value in (note.answer, note.actual):
        if value is not None and not isinstance(value, str | int | float):
            raise TypeError(f"an answer is {value!r}")
    return note
