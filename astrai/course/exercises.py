"""What a chapter says of its exercises, predictions and quiz. It knows neither notebooks nor what a learner did."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Exercise:
    """Something to build, break or measure.

    ``check`` is called with what the learner made. It returns nothing, or raises
    :class:`~astrai.course.mistakes.Mistake` with the first thing that is wrong. ``hints`` are three, each of which
    tells more than the one before.

    Example:
        >>> Exercise("08.2", "Double it", check=lambda double: None, hints=("What is 2 x?", "Add.", "x + x")).chapter
        '08'
    """

    id: str
    title: str
    check: Callable[[Any], None]
    hints: tuple[str, str, str]

    def __post_init__(self) -> None:
        if not re.fullmatch(r"\d\d\.\d+", self.id):
            raise ValueError(f"the id {self.id!r} is not of the form 08.2: chapter, dot, number")
        if len(self.hints) != 3 or not all(self.hints):
            raise ValueError(f"exercise {self.id} needs three hints that say something, and has {len(self.hints)}")

    @property
    def chapter(self) -> str:
        """The number of its chapter, two digits."""
        return self.id[:2]


@dataclass(frozen=True, slots=True)
class Option:
    """One answer that can be chosen. ``why`` explains why it is right, or what is wrong with it."""

    text: str
    why: str
    right: bool = False


@dataclass(frozen=True, slots=True)
class Question:
    """A question with one right option.

    Example:
        >>> Question("Is it?", (Option("Yes", "It is.", right=True), Option("No", "It is, though."))).right
        0
    """

    text: str
    options: tuple[Option, ...]

    def __post_init__(self) -> None:
        if len(self.options) < 2 or sum(option.right for option in self.options) != 1:
            raise ValueError(f"the question {self.text!r} needs two options or more, one of them right")
        if not all(option.why for option in self.options):
            raise ValueError(f"the question {self.text!r} has an option without an explanation")

    @property
    def right(self) -> int:
        """The index of the right option."""
        return next(index for index, option in enumerate(self.options) if option.right)


@dataclass(frozen=True, slots=True)
class Chapter:
    """All that one notebook asks. ``predictions`` are the ids of its predictions, numbered among the exercises."""

    id: str
    title: str
    exercises: tuple[Exercise, ...] = ()
    predictions: tuple[str, ...] = ()
    quiz: tuple[Question, ...] = ()

    def __post_init__(self) -> None:
        ids = [*(exercise.id for exercise in self.exercises), *self.predictions]
        for given in ids:
            if not re.fullmatch(rf"{self.id}\.\d+", given):
                raise ValueError(f"{given!r} is no id of chapter {self.id}: they are {self.id}.1, {self.id}.2, ...")
        if len(set(ids)) != len(ids):
            raise ValueError(f"chapter {self.id} uses an id twice: {', '.join(sorted(ids))}")
        if self.quiz and not 6 <= len(self.quiz) <= 8:
            raise ValueError(f"the quiz of chapter {self.id} has {len(self.quiz)} questions: 6 to 8 are asked for")
        if self.quiz and len({question.right for question in self.quiz}) == 1:
            raise ValueError(f"in the quiz of chapter {self.id} the right option always stands at the same place")
