"""What happened when: the time that each step took, and the life of each request::

    {"first": 101,                # number of the first step that is listed
     "steps": [[cleanup, refill, prefill, decode, prefilled, decoded, groups, t], ...],
     "requests": [{"id": 7, "arrived": 3, "held": null, "held_to": null, "admitted": 5, "slot": 2, "cached": 38,
                   "prompt": 40, "first": 5, "ended": 88, "reason": "stop", "out": 83, "origin": "copy",
                   "t_arrived": 2.5, "t_first": 9.1, "t_ended": 130.0}, ...]}

The four phases are in microseconds; ``groups`` are the forwards of the decode; ``t`` and ``t_...`` are milliseconds
since the first event that was seen. ``arrived``, ``held``, ``admitted``, ``first`` (token) and ``ended`` are steps, or
null for what has not happened; ``held_to`` is the step in which its leader's prefill ended before it was admitted. A
request that was there before the watching began has the last step before it in their place, and null for the times
that were not seen: how long it waited is not known.

Its memory is bounded: the last steps, the requests that wait or run, and those that ended last.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from itertools import islice
from typing import Any

from astrai.trace import events as e
from astrai.trace.jsonl import Record
from astrai.trace.snapshot import RequestState, Snapshot
from astrai.widgets.data.rows import Rows

PREFILLED, DECODED, GROUPS = 4, 5, 6  # where they stand in a step, behind the four phases in microseconds
COLUMN = {phase: column for column, phase in enumerate(e.PHASES)}
MOST_ENDED = 400
MOST_SHOWN = 200


class Steps:
    """Folds the events of the loop. ``keep`` is how many steps are kept, ``None`` for all of them and all requests."""

    def __init__(self, base: Snapshot, rows: Rows, keep: int | None) -> None:
        self._rows = rows
        self._last = base.step
        self._started: float | None = None  # seconds of the clock at the first record
        self._steps: deque[list[int]] = deque(maxlen=keep)
        self._alive: dict[int, dict[str, Any]] = {
            request.request_id: _known_before(request, base.step) for request in base.requests
        }
        self._ended: deque[dict[str, Any]] = deque(maxlen=None if keep is None else MOST_ENDED)
        writers = {request.request_id for request in base.requests if not (request.output_ids or request.finish_reason)}
        self._leaders: dict[int, int] = {}  # by request: behind whom it is held now
        for request in base.requests:
            if request.leader_id in writers:
                self._leaders[request.request_id] = request.leader_id
            elif request.leader_id is not None:
                self._alive[request.request_id]["held_to"] = base.step
        for request in base.requests:
            if request.finish_reason is not None:
                self._end(request.request_id, base.step, None, request.finish_reason)

    def handlers(self) -> dict[type[e.Event], Callable[[Record], None]]:
        """What is to be called for which event."""
        return {
            e.StepStarted: self._step_started,
            e.PhaseEnded: self._phase_ended,
            e.Prefilled: self._prefilled,
            e.TokensDecoded: self._decoded,
            e.RequestArrived: self._arrived,
            e.RequestHeld: self._held,
            e.RequestAdmitted: self._admitted,
            e.FirstTokenSampled: self._first_token,
            e.RequestFinished: self._finished,
        }

    def slot_of(self, request_id: int) -> int | None:
        """The row of a request that has not ended, or has just ended."""
        span = self._alive.get(request_id) or self._ended[-1]
        return span["slot"]

    # --- steps --------------------------------------------------------------------------------------------------------

    def _step_started(self, record: Record) -> None:
        self._last = record.event.step
        self._steps.append([0, 0, 0, 0, 0, 0, 0, self._milliseconds(record, digits=None)])

    def _phase_ended(self, record: Record) -> None:
        if self._steps:
            self._steps[-1][COLUMN[record.event.phase]] += round(1e6 * record.event.seconds)

    def _prefilled(self, record: Record) -> None:
        if self._steps:
            self._steps[-1][PREFILLED] += record.event.end - record.event.start

    def _decoded(self, record: Record) -> None:
        if self._steps:
            self._steps[-1][DECODED] += len(record.event.slots)
            self._steps[-1][GROUPS] += len(record.event.groups)

    # --- requests -----------------------------------------------------------------------------------------------------

    def _arrived(self, record: Record) -> None:
        request_id, prompt_ids = record.event.request_id, record.event.prompt_ids
        self._alive[request_id] = _span(request_id, len(prompt_ids), record.step, self._milliseconds(record))

    def _held(self, record: Record) -> None:
        self._leaders[record.event.request_id] = record.event.leader_id
        self._alive[record.event.request_id].update(held=record.step, held_to=None)

    def _let_go(self, leader_id: int, step: int) -> None:
        """What a request shares with others is written, or never will be: nobody is held for it any more."""
        for request_id in [held for held, leader in self._leaders.items() if leader == leader_id]:
            del self._leaders[request_id]
            self._alive[request_id]["held_to"] = step

    def _admitted(self, record: Record) -> None:
        event = record.event
        self._leaders.pop(event.request_id, None)
        origin = self._rows.rows[event.slot].origin
        self._alive[event.request_id].update(
            admitted=record.step, slot=event.slot, cached=event.cached_len, origin=origin and origin["kind"]
        )

    def _first_token(self, record: Record) -> None:
        self._let_go(record.event.request_id, record.step)
        self._alive[record.event.request_id].update(first=record.step, t_first=self._milliseconds(record))

    def _finished(self, record: Record) -> None:
        self._end(record.event.request_id, record.step, self._milliseconds(record), record.event.reason)

    def _end(self, request_id: int, step: int, milliseconds: float | None, reason: str) -> None:
        self._leaders.pop(request_id, None)
        self._let_go(request_id, step)
        span = self._counted(self._alive.pop(request_id))
        self._ended.append(span | {"ended": step, "t_ended": milliseconds, "reason": reason})

    def _counted(self, span: dict[str, Any]) -> dict[str, Any]:
        """With the tokens given so far: the last one of them has no KV yet."""
        if span["first"] is None:
            return dict(span)
        return span | {"out": self._rows.rows[span["slot"]].len - span["prompt"] + 1}

    # --- the JSON form ------------------------------------------------------------------------------------------------

    def timeline(self, last: int | None) -> dict[str, Any]:
        """The last steps (``None``: all), and the requests that lived in them: 200 at most, all when ``last`` is None.

        Those that wait at the end of a long queue are left out first, then those that are over for longest.
        """
        skipped = 0 if last is None else max(0, len(self._steps) - last)
        first = self._last - len(self._steps) + skipped + 1
        alive = [self._counted(span) for span in self._alive.values()]
        served = [dict(span) for span in self._ended if span["ended"] >= first]
        served += [span for span in alive if span["slot"] is not None]
        queued = [span for span in alive if span["slot"] is None]
        if last is not None:
            served = served[-MOST_SHOWN:]
            queued = queued[: MOST_SHOWN - len(served)]
        return {
            "first": first,
            "steps": [list(step) for step in islice(self._steps, skipped, None)],
            "requests": sorted(served + queued, key=lambda span: span["id"]),
        }

    def _milliseconds(self, record: Record, digits: int | None = 1) -> Any:
        if self._started is None:
            self._started = record.time
        return round(1000 * (record.time - self._started), digits)


def _span(request_id: int, prompt_len: int, step: int, milliseconds: float | None) -> dict[str, Any]:
    return {
        "id": request_id,
        "arrived": step,
        "held": None,
        "held_to": None,
        "admitted": None,
        "slot": None,
        "cached": 0,
        "prompt": prompt_len,
        "first": None,
        "ended": None,
        "reason": None,
        "out": 0,
        "t_arrived": milliseconds,
        "t_first": None,
        "t_ended": None,
        "origin": None,
    }


def _known_before(request: RequestState, step: int) -> dict[str, Any]:
    """A request that was there before the watching began: not later than ``step``, at a time that nobody knows."""
    span = _span(request.request_id, len(request.prompt_ids), step, None)
    if request.slot is not None:
        span.update(admitted=step, slot=request.slot, cached=request.cached_len)
    if request.leader_id is not None:
        span["held"] = step
    if request.output_ids:
        span["first"] = step
    return span
