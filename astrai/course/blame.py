"""Turns an exception that a learner's code raised into a line and a sentence, in place of a traceback."""

from __future__ import annotations

import linecache
import re
import traceback
from typing import Any, NamedTuple

from astrai.course.patience import Endless

PLAIN = {
    AttributeError: "it asks something for a name that it does not have",
    IndexError: "it reached outside of a list or a tensor",
    KeyError: "it asked a dictionary for a key that is not in it",
    ModuleNotFoundError: "it imports something that is not there",
    NameError: "it uses a name that was never given a value",
    AssertionError: "one of its own assertions does not hold",
    NotImplementedError: "it asked for something that is not implemented",
    RecursionError: "a function calls itself without end",
    ZeroDivisionError: "it divided by zero",
    TypeError: "something was called or combined with a value of the wrong kind or number",
    ValueError: "something was given a value that it cannot take",
    RuntimeError: "something could not be carried out",
}


class Blame(NamedTuple):
    """What went wrong, and whether the exercise is only not written yet (``still_open``)."""

    sentence: str
    rows: tuple[tuple[str, str], ...]
    still_open: bool


class _Place(NamedTuple):
    line: int
    source: str
    deepest: bool


def blame(error: Exception | Endless, thing: Any) -> Blame:
    """Say what an exception means that came up while ``thing`` was checked.

    A learner's code is what stands in a notebook, or in the module that ``thing`` comes from.
    """
    says = ("Python says", "".join(traceback.format_exception_only(error)).strip())
    place = _place(error, thing)
    if isinstance(error, Endless):
        where, rows = (f": look at the loop around line {place.line}", _line(place)) if place else ("", ())
        return Blame(f"Your code does not come to an end{where}. What should end it?", rows, False)
    if place is None:
        return Blame("It cannot be used in the way that the exercise asks for: compare the names.", (says,), False)
    if (
        isinstance(error, NotImplementedError)
        and place.deepest
        and (not place.source or "NotImplementedError" in place.source)
    ):
        return Blame(f"Line {place.line} still waits for your code.", _line(place), True)
    return Blame(f"Your code stopped in line {place.line}: {_plain(error)}.", (*_line(place), says), False)


def _line(place: _Place) -> tuple[tuple[str, str], ...]:
    return ((f"line {place.line}", place.source) if place.source else ("line", str(place.line)),)


def _place(error: BaseException, thing: Any) -> _Place | None:
    """The last line of the learner's on the way to the exception."""
    owner = getattr(thing, "__module__", None)
    learners = {"__main__"} | ({owner} if owner and not owner.startswith("astrai.") else set())
    frames = list(traceback.walk_tb(error.__traceback__))
    for frame, line in reversed(frames):
        if frame.f_globals.get("__name__") in learners:
            source = linecache.getline(frame.f_code.co_filename, line, frame.f_globals).strip()
            return _Place(line, source, deepest=frame is frames[-1][0])
    return None


def _plain(error: BaseException) -> str:
    if isinstance(error, TypeError) and re.search(r"takes (\d+) positional arguments? but \d+ w", str(error)):
        return "it was called with more values than it takes: in a class, is `self` missing as its first parameter?"
    for kind, words in PLAIN.items():
        if isinstance(error, kind):
            return words
    return f"it raised {type(error).__name__}"
