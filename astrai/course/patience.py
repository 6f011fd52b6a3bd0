"""An end for loops that have none: a check would hang, and the notebook with it."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

MOST_LINES = 1_000_000  # in one check: right answers take a hundredth of it


class Endless(BaseException):
    """A learner's code goes round and round. Not an ``Exception``, so that no ``except`` on the way takes it."""


@contextmanager
def patience(thing: Any) -> Iterator[None]:
    """Run out of patience with ``thing`` after very many lines of Python, in its own code or that of its base classes.

    Lines are counted, not seconds: a slow machine is no mistake. What C does in one line, such as ``list(count())``, is
    not seen.

    Raises:
        Endless: from the line that was one too many.
    """
    watched = {"__main__", getattr(thing, "__module__", None)}
    watched |= {base.__module__ for base in getattr(thing, "__mro__", ())}
    left = MOST_LINES

    def count(frame: FrameType, event: str, argument: Any) -> Any:
        nonlocal left
        left -= event == "line"
        if left < 0:
            raise Endless
        return count

    def enter(frame: FrameType, event: str, argument: Any) -> Any:
        return count if frame.f_globals.get("__name__") in watched else None

    before = sys.gettrace()
    sys.settrace(enter)
    try:
        yield
    finally:
        sys.settrace(before)
