"""Which line of a scheduler's phase each event came from: the source of what has just run, with its lines marked.

It works on any object with the four phases as methods and an ``emit``: the package's own scheduler, or a class that was
typed into a notebook a minute ago.
"""

from __future__ import annotations

import inspect
import sys
import textwrap
import traceback
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import CodeType, FrameType
from typing import Any, NamedTuple

from astrai.trace.events import PHASES, Event, Phase

MOST_NOTES = 8  # things told for one line; the others are counted
SILENT = ("emit", "_emit_all")  # methods that every event passes through


class Note(NamedTuple):
    """Where an event came from: the phase, the line of its method, and the methods that were called on the way."""

    phase: Phase
    line: int
    via: tuple[str, ...]


class Place(NamedTuple):
    """A line of a phase's method."""

    phase: Phase
    line: int


class Source(NamedTuple):
    """A method as it stands in its file. ``lines`` are empty where nobody can tell them; ``file`` is a bare name."""

    title: str
    file: str
    first: int
    lines: tuple[str, ...]


@contextmanager
def noting(scheduler: Any, next_seq: Callable[[], int]) -> Iterator[dict[int, Note]]:
    """Note where each event comes from that the scheduler emits, under the number that it gets in the log."""
    notes: dict[int, Note] = {}
    codes = _codes(scheduler)
    emit = scheduler.emit

    def emit_and_note(event: Event) -> None:
        if note := _origin(sys._getframe(1), scheduler, codes):
            notes[next_seq()] = note
        emit(event)

    scheduler.emit = emit_and_note
    try:
        yield notes
    finally:
        scheduler.emit = emit


def _origin(frame: FrameType | None, scheduler: Any, codes: dict[CodeType, Phase]) -> Note | None:
    via: list[str] = []
    while frame is not None:
        if frame.f_code in codes:
            return Note(codes[frame.f_code], frame.f_lineno, tuple(reversed(via)))
        if frame.f_locals.get("self") is scheduler and frame.f_code.co_name not in SILENT:
            via.append(frame.f_code.co_name)
        frame = frame.f_back
    return None


def _codes(scheduler: Any) -> dict[CodeType, Phase]:
    methods = {phase: inspect.unwrap(getattr(scheduler, phase)) for phase in PHASES}
    return {method.__code__: phase for phase, method in methods.items() if hasattr(method, "__code__")}


def source_of(scheduler: Any, phase: Phase) -> Source:
    """The method that runs a phase."""
    method = inspect.unwrap(getattr(scheduler, phase))
    title = getattr(method, "__qualname__", phase).rpartition("<locals>.")[2]
    try:
        lines, first = inspect.getsourcelines(method)
        file = Path(inspect.getsourcefile(method) or "").name
    except (OSError, TypeError):
        return Source(title, "", 0, ())
    # What was typed into a notebook has a made-up file name.
    file = file if file.endswith(".py") and "ipykernel" not in str(inspect.getsourcefile(method)) else "this notebook"
    return Source(title, file, first, tuple(textwrap.dedent("".join(lines)).splitlines()))


def place_of_error(scheduler: Any, error: BaseException) -> Place | None:
    """The line of a phase in which an exception arose or from which it came; ``None`` if it came from no phase."""
    codes = _codes(scheduler)
    places = (Place(codes[f.f_code], line) for f, line in traceback.walk_tb(error.__traceback__) if f.f_code in codes)
    return next(places, None)


# --- the source and what happened, line by line -----------------------------------------------------------------------


class Row(NamedTuple):
    """A line of the source (``mark``: "work" where something came from it, "error" where something was raised).

    Or, with no ``number``, what came from the line above it.
    """

    number: int | None
    content: str
    mark: str = ""


def rows_of(
    source: Source | None, happened: Sequence[Mapping[str, Any]], error: str, error_line: int | None
) -> list[Row]:
    """The source, each line followed by what came from it; at the end what came from elsewhere.

    ``happened`` lists events as ``History.happened`` does.
    """
    notes, rows = _notes(happened), []
    for number, content in enumerate(source.lines, source.first) if source else ():
        indent = " " * (len(content) - len(content.lstrip()))
        is_error = bool(error) and error_line == number
        rows.append(Row(number, content, "error" if is_error else "work" if number in notes else ""))
        if is_error:
            rows.append(Row(None, indent + error, "error"))
            error = ""
        rows += [Row(None, indent + note) for note in notes.pop(number, ())]
    if error:
        rows.append(Row(None, error, "error"))
    elif source and not happened and not any(row.mark for row in rows):
        rows.append(Row(None, "    nothing to do in this step"))
    return rows + [Row(None, note) for left in notes.values() for note in left]


def _notes(happened: Sequence[Mapping[str, Any]]) -> dict[int | None, list[str]]:
    notes: dict[int | None, list[str]] = {}
    fine: Counter[int | None] = Counter()
    for event in happened:
        if event["fine"]:
            fine[event["line"]] += 1
        else:
            via = f" (in {event['via'][-1]})" if event["via"] else ""
            notes.setdefault(event["line"], []).append(event["words"] + via)
    for line, count in fine.items():
        notes.setdefault(line, []).append(f"and {count} change{'s' * (count > 1)} of locks and of the tree's clock")
    return {line: _shortened(told) for line, told in notes.items()}


def _shortened(told: list[str]) -> list[str]:
    return told if len(told) <= MOST_NOTES else [*told[: MOST_NOTES - 1], f"and {len(told) - MOST_NOTES + 1} more"]
