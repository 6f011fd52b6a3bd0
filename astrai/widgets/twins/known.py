"""What the timeline of a run tells at one moment, in numbers and in words: steps, and requests from arrival to end.

A recording's timeline holds the whole run. Here what lies after the moment is taken away, since it is not known yet.
``static/phase_timeline.js`` does the same for the live picture. It draws nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

from astrai.trace.events import PHASES
from astrai.widgets.twins.svg import plural

WAYS = {"zero-copy": "zero-copy", "copy": "copied"}  # in which a cached prefix came into a request's row


@dataclass(frozen=True, slots=True)
class Step:
    """One turn of the loop. ``parts`` are its phases in order, in milliseconds.

    In a scripted run, where times mean nothing, they are the tokens of prefill and decode.
    """

    parts: tuple[tuple[str, float], ...]
    prefilled: int
    decoded: int
    forwards: int
    scripted: bool

    @property
    def total(self) -> float:
        """What all parts add up to."""
        return sum(value for _, value in self.parts)


@dataclass(frozen=True, slots=True)
class Span:
    """The life of a request so far, in steps; ``None`` is for what has not happened. Times are in milliseconds."""

    id: int
    arrived: int
    held: int | None
    held_to: int | None
    admitted: int | None
    slot: int | None
    cached: int
    prompt: int
    first: int | None
    ended: int | None
    reason: str | None
    out: int
    origin: str | None
    t_arrived: float | None
    t_first: float | None
    leader: int | None  # whom it is held behind right now
    until: int  # its last step so far

    @property
    def is_bad(self) -> bool:
        """Whether it ended in another way than it was asked to."""
        return self.ended is not None and self.reason not in ("stop", "length")


class Known(NamedTuple):
    """The steps ``first`` to ``last`` (below ``first`` when there is none), and the requests that lived in them."""

    first: int
    last: int
    steps: list[Step]
    spans: list[Span]
    scripted: bool


def known(state: dict[str, Any], timeline: dict[str, Any], most: int | None = None) -> Known:
    """The last steps up to ``state``'s, ``most`` of them at most. The two are the JSON forms of ``RunView``."""
    scripted = bool(timeline.get("scripted"))
    past = max(0, min(len(timeline["steps"]), state["step"] - timeline["first"] + 1))
    skipped = 0 if most is None else max(0, past - most)
    first = timeline["first"] + skipped
    spans = [_span(request, state) for request in timeline["requests"] if request["arrived"] <= state["step"]]
    return Known(
        first,
        timeline["first"] + past - 1,
        [_step(row, scripted) for row in timeline["steps"][skipped:past]],
        [span for span in spans if span.ended is None or span.ended >= first],
        scripted,
    )


def _step(row: list[int], scripted: bool) -> Step:
    prefilled, decoded, forwards = row[4:7]
    if scripted:
        return Step((("prefill", prefilled), ("decode", decoded)), prefilled, decoded, forwards, scripted)
    times = tuple((phase, microseconds / 1000) for phase, microseconds in zip(PHASES, row, strict=False))
    return Step(times, prefilled, decoded, forwards, scripted)


def _span(request: dict[str, Any], state: dict[str, Any]) -> Span:
    now, alive = state["step"], state["requests"].get(str(request["id"]))
    seen = {name: _so_far(request[name], now) for name in ("held", "held_to", "admitted", "first", "ended")}
    if alive is not None and alive["status"] != "done":
        seen["ended"] = None
    is_over = seen["ended"] is not None
    has_row = seen["admitted"] is not None
    return Span(
        **{name: request[name] for name in ("id", "arrived", "prompt", "t_arrived")},
        **seen,
        slot=request["slot"] if has_row else None,
        cached=request["cached"] if has_row else 0,
        origin=request["origin"] if has_row else None,
        t_first=request["t_first"] if seen["first"] is not None else None,
        reason=request["reason"] if is_over else None,
        out=request["out"] if is_over else alive["out"] if alive else 0,
        leader=alive["leader"] if alive and alive["status"] == "held" else None,
        until=seen["ended"] if is_over else now,
    )


def _so_far(step: int | None, now: int) -> int | None:
    return step if step is not None and step <= now else None


# --- words ------------------------------------------------------------------------------------------------------------


def milliseconds(value: float) -> str:
    """``7.83 ms``, ``21.9 ms``, ``1,204 ms``."""
    return f"{value:,.{2 if value < 10 else 1 if value < 100 else 0}f} ms"


def amount(step: Step) -> str:
    """How long a step took, or how many tokens it computed."""
    return plural(round(step.total), "token") if step.scripted else milliseconds(step.total)


def step_words(number: int, step: Step, phase: str | None = None) -> str:
    """A step in one line. ``phase`` is the one that it is in: what it takes is known when it is over (``None``)."""
    work = []
    if step.prefilled:
        work.append(f"{plural(step.prefilled, 'prompt token')} prefilled")
    if step.decoded:
        work.append(f"{plural(step.decoded, 'row')} decoded in {plural(step.forwards, 'forward')}")
    if phase is not None:
        return f"step {number:,}, still in {phase}; " + ("; ".join(work) or "nothing computed yet")
    return f"step {number:,}: {amount(step)}; " + ("; ".join(work) or "nothing computed")


def request_words(span: Span, scripted: bool = False) -> str:
    """The life of a request in one line."""
    words = [f"arrived in step {span.arrived:,}", _queue_words(span)]
    if span.admitted is not None:
        words += [f"in slot {span.slot} from step {span.admitted:,}", _cache_words(span)]
    if span.first is not None:
        timed = not scripted and span.t_first is not None and span.t_arrived is not None
        after = f", after {milliseconds(span.t_first - span.t_arrived)}" if timed else ""
        words.append(f"first token in step {span.first:,}{after}")
        words.append(plural(span.out, "token") + ("" if span.ended is not None else " so far"))
    if span.ended is not None:
        words.append(f"ended in step {span.ended:,}: {span.reason}")
    return ", ".join(words)


def _queue_words(span: Span) -> str:
    if span.admitted is None and span.ended is None:
        return "waits for a slot" if span.leader is None else f"held: request {span.leader} writes what both share"
    waited = plural((span.until if span.admitted is None else span.admitted) - span.arrived, "step")
    if span.admitted is None:
        return f"never ran, waited {waited}"
    if span.admitted == span.arrived:
        return "did not wait"
    return f"waited {waited}" + ("" if span.held is None else f", held {_held_words(span.held, span.held_to)}")


def _held_words(start: int, end: int | None) -> str:
    """``end`` is ``None`` where it was admitted before its leader's prefill had ended."""
    if start == end:
        return f"in step {start:,}"
    return f"from step {start:,}" + ("" if end is None else f" to {end:,}")


def _cache_words(span: Span) -> str:
    way = {"zero-copy": "zero-copy, kept in place", "copy": "copied from another slot", "miss": "a miss"}
    share = f"{span.cached:,} of {plural(span.prompt, 'prompt token')} cached"
    return f"{share}: {way[span.origin]}" if span.origin else share


def found_words(span: Span) -> list[str]:
    """How much of a prompt was found and how, from the longest form to the shortest; none before it has a row."""
    if span.admitted is None:
        return []
    if not span.cached:
        return ["nothing cached"]
    share = f"{span.cached:,} of {span.prompt:,}"
    way = WAYS.get(span.origin or "")
    return [f"{share} cached, {way}", f"{share} {way}"] if way else [f"{share} cached"]


def end_words(span: Span, untold: str | None = None) -> list[str]:
    """Why a request ended or what it waits for, with what was not told elsewhere; the longest form first."""
    words: list[str] = []
    if span.ended is not None:
        why = f"{'× ' if span.is_bad else ''}{span.reason}"  # noqa: RUF001
        words = [f"{why}, {plural(span.out, 'token')}", why]
    elif span.admitted is None:
        words = ["waits for a slot", "waits"] if span.leader is None else [f"held behind request {span.leader}", "held"]
    if untold is None:
        return words
    return [f"{words[0]}; {untold}", *words] if words else [untold]
