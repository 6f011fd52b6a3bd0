"""One run and another that went its own way from some step on: both at the same step, and what came out, in words.

It is handed two logs (of ``engine.rerun``) and compares what can be compared without a clock: steps, forwards, tokens.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from astrai.trace import events as e
from astrai.trace.log import EventLog
from astrai.widgets.data.texts import Decode
from astrai.widgets.stepping.playback import Playback


class Figures(NamedTuple):
    """What a run took. ``waits`` are steps from arrival to first token, ``tokens`` the output of each request."""

    steps: int
    forwards: int
    computed: int
    cached: int
    waits: tuple[int, ...]
    tokens: Mapping[int, tuple[int, ...]]

    @property
    def per_forward(self) -> float:
        """Tokens that one forward computes on average."""
        return self.computed / self.forwards if self.forwards else 0.0

    @property
    def mean_wait(self) -> float:
        """Steps from arrival to the first token on average, both counted."""
        return sum(self.waits) / len(self.waits) if self.waits else 0.0


def figures(log: EventLog) -> Figures:
    """Count. ``steps`` ends with the last request; a prefill is one forward, a decode as many as it has groups."""
    last = forwards = computed = cached = 0
    prefilled_in: set[int] = set()
    arrived: dict[int, int] = {}
    waits: list[int] = []
    tokens: dict[int, tuple[int, ...]] = {}
    for record in log.records:
        match record.event:
            case e.RequestArrived(request_id):
                arrived[request_id] = record.step
            case e.RequestAdmitted(cached_len=length):
                cached += length
            case e.Prefilled(start=start, end=end):
                prefilled_in.add(record.step)
                computed += end - start
            case e.FirstTokenSampled(request_id, token_id):
                tokens[request_id] = (token_id,)
                waits.append(record.step - arrived[request_id] + 1)
            case e.TokensDecoded(request_ids=request_ids, token_ids=token_ids, groups=groups):
                forwards += len(groups)
                computed += len(request_ids)
                for request_id, token_id in zip(request_ids, token_ids, strict=True):
                    tokens[request_id] += (token_id,)
            case e.RequestFinished():
                last = record.step
    return Figures(last, forwards + len(prefilled_in), computed, cached, tuple(waits), tokens)


class Track:
    """One of the two runs, at any of its steps."""

    def __init__(self, title: str, log: EventLog, decode: Decode | None) -> None:
        self.title = title
        self.figures = figures(log)
        self.playback = Playback(log, decode)
        self._ends = [log.first_seq]  # by step: how many events there were at its end
        for record in log.records:
            if isinstance(record.event, e.StepStarted):
                self._ends.append(record.seq)
            self._ends[-1] = record.seq + 1

    @property
    def last_step(self) -> int:
        """The step in which the last row was taken back."""
        return len(self._ends) - 1

    def moment(self, step: int, focus: int | None = None) -> dict[str, Any]:
        """State, timeline and vocab at the end of a step, or at the end of the run if that is earlier."""
        return self.playback.moment(self._ends[min(step, self.last_step)], focus)


class Forked:
    """Two runs that are alike for ``step`` steps. ``at`` is the step at which both are shown.

    Args:
        then: the settings of the second run after the fork.
        unfinished: how many requests had not ended when the run was repeated.
    """

    def __init__(
        self,
        step: int,
        then: Mapping[str, Any],
        before: EventLog,
        after: EventLog,
        *,
        decode: Decode | None = None,
        unfinished: int = 0,
    ) -> None:
        self.step = step
        self.then = dict(then)
        self.before = Track("as it was", before, decode)
        self.after = Track(_settings(then) or "the same again", after, decode)
        self.at = step
        self.unfinished = unfinished

    @property
    def last_step(self) -> int:
        """The last step of the longer run."""
        return max(self.before.last_step, self.after.last_step)

    def goto(self, step: int) -> None:
        """Show both at the end of a step.

        Raises:
            ValueError: neither has it.
        """
        if not 0 <= step <= self.last_step:
            raise ValueError(f"step {step} is in neither run: they have the steps 0 to {self.last_step}")
        self.at = step

    def table(self) -> list[tuple[str, str, str]]:
        """Rows of (what, as it was, then)."""
        a, b = self.before.figures, self.after.figures
        return [
            ("steps until all have ended", f"{a.steps:,}", f"{b.steps:,}"),
            ("forwards", f"{a.forwards:,}", f"{b.forwards:,}"),
            ("tokens computed", f"{a.computed:,}", f"{b.computed:,}"),
            ("tokens found in the cache", f"{a.cached:,}", f"{b.cached:,}"),
            ("tokens per forward", f"{a.per_forward:.1f}", f"{b.per_forward:.1f}"),
            ("steps to the first token, mean", f"{a.mean_wait:.1f}", f"{b.mean_wait:.1f}"),
        ]

    def words(self) -> str:
        """What differs, in two or three sentences."""
        a, b = self.before.figures, self.after.figures
        changes = [("step", a.steps, b.steps), ("forward", a.forwards, b.forwards)]
        changes.append(("computed token", a.computed, b.computed))
        differences = ", ".join(_change(then - was, noun) for noun, was, then in changes)
        fewer = [str(request_id) for request_id, ids in a.tokens.items() if b.tokens.get(request_id) != ids]
        same = "Each request gets the same tokens" if not fewer else f"Request {', '.join(fewer)} gets other tokens"
        forked = f"After step {self.step:,}" if self.step else "From the start"
        cut = f" {self.unfinished} that had not ended end with their last known token." if self.unfinished else ""
        scripted = "Scripted: nothing was computed, so no timings."
        return f"{forked}, {self.after.title}: {differences}. {same}.{cut} {scripted}"

    def face(self, focus: tuple[str, int] | None = None) -> dict[str, Any]:
        """All that a picture shows, as plain JSON."""
        runs = {"before": self.before, "after": self.after}
        return {
            "step": self.step,
            "at": self.at,
            "last": self.last_step,
            "runs": [
                {
                    "name": name,
                    "title": track.title,
                    "last": track.last_step,
                    "view": track.moment(self.at, focus[1] if focus and focus[0] == name else None),
                }
                for name, track in runs.items()
            ],
            "table": [list(row) for row in self.table()],
            "words": self.words(),
        }


def _settings(then: Mapping[str, Any]) -> str:
    return ", ".join(f"{name}={getattr(value, '__name__', value)}" for name, value in then.items())


def _change(difference: int, noun: str) -> str:
    if difference == 0:
        return f"the same number of {noun}s"
    return f"{abs(difference):,} {'more' if difference > 0 else 'fewer'} {noun}{'s' * (abs(difference) != 1)}"
