"""Compares two runs by their traces: the first event at which they part. Times are not compared."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from itertools import zip_longest

from astrai.course.mistakes import Mistake
from astrai.trace.events import Event, PhaseEnded
from astrai.trace.jsonl import Record
from astrai.trace.log import EventLog
from astrai.trace.words import Decode, describe

BEFORE = 2  # agreeing events that are shown above the first difference


def same_trace(
    yours: EventLog | Iterable[Record],
    expected: EventLog | Iterable[Record],
    what: str = "your run",
    decode: Decode | None = None,
) -> None:
    """Make sure that two runs did the same, event by event. ``decode`` turns token ids into text.

    Raises:
        Mistake: naming the first trace row at which they part, with what happened in each.
        ValueError: a log no longer begins with its run.
    """
    mine, wanted = _records(yours), _records(expected)
    for row, (one, other) in enumerate(zip_longest(mine, wanted)):
        if one is None or other is None or _timeless(one.event) != _timeless(other.event):
            _part(row, mine, wanted, what, decode)


def _part(row: int, mine: list[Record], wanted: list[Record], what: str, decode: Decode | None) -> None:
    def words(records: list[Record]) -> str:
        return describe(records[row].event, decode) if row < len(records) else "nothing more: the run was over"

    step = (wanted if row < len(wanted) else mine)[row].step
    before = [(f"row {i}, both", describe(mine[i].event, decode)) for i in range(max(0, row - BEFORE), row)]
    raise Mistake(
        f"{what} goes another way than it should at row {row} of the trace, in step {step}.",
        rows=[*before, (f"row {row}, expected", words(wanted)), (f"row {row}, yours", words(mine))],
    )


def _records(log: EventLog | Iterable[Record]) -> list[Record]:
    if not isinstance(log, EventLog):
        return list(log)
    view = log.view()
    if view.first_seq:
        raise ValueError(f"the first {view.first_seq:,} events have left the log: raise trace_events to compare runs")
    return view.records


def _timeless(event: Event) -> Event:
    return replace(event, seconds=0.0) if isinstance(event, PhaseEnded) else event
