"""An end for loops that have none: a check would hang, and the notebook with it."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

MOST_LINES = 300_000  # in one check: right answers take a tenth of it
MOST_INSTRUCTIONS = 5 * MOST_LINES  # `while True: pass` on one line begins no line anew: only its instructions are seen


class Endless(BaseException):
    """A learner's code goes round and round. Not an ``Exception``, so that no ``except`` on the way takes it."""


@contextmanager
def patience(thing: Any) -> Iterator[None]:
    """Run out of patience with ``thing`` after very many lines of Python, in its own code or that of its base classes.

    Lines are counted, not seconds: a slow machine is no mistake. Not seen is what C does in one line, such as
    ``list(count())``; and a bare ``except`` in the loop takes the one ``Endless`` that Python lets a tracer raise.

    Raises:
        Endless: from the line that was one too many.
    """
    own = {"__main__", getattr(thing, "__module__", None)}
    watched = own | {base.__module__ for base in getattr(thing, "__mro__", ())}
    left = {"line": MOST_LINES, "opcode": MOST_INSTRUCTIONS}

    def count(frame: FrameType, event: str, argument: Any) -> Any:
        if event in left:
            left[event] -= 1
            if left[event] < 0:
                raise Endless
        return count

    def enter(frame: FrameType, event: str, argument: Any) -> Any:
        name = frame.f_globals.get("__name__")
        frame.f_trace_opcodes = name in own
        return count if name in watched else None

    before = sys.gettrace()
    sys.settrace(enter)
    try:
        yield
    finally:
        sys.settrace(before)
