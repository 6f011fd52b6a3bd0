"""The figures of a run at one moment: how fast, how soon, how much was found in the cache, who runs and who waits.

``static/counters.js`` shows the same in the live picture.
"""

from __future__ import annotations

from statistics import median
from typing import Any, NamedTuple

from astrai.widgets.twins.known import known
from astrai.widgets.twins.svg import plural

RECENT = 20  # requests whose time to first token counts
SECOND = 1000.0  # in milliseconds


class Figures(NamedTuple):
    """``None`` stands for what cannot be said: no step yet, no first token yet, or a scripted run, which has no times.

    ``tokens_per_second`` counts output tokens over the last second up to the end of the newest step,
    ``first_token_ms`` is the median over the last ``first_tokens`` requests (20 at most) that came to their first
    token, ``prefilled`` and ``cached`` are all prompt tokens that were computed and that were found.
    """

    tokens_per_second: float | None
    first_token_ms: float | None
    first_tokens: int
    prefilled: int
    cached: int
    running: int
    waiting: int
    slots_in_use: int
    num_slots: int
    steps: int
    finished: dict[str, int]
    rejected: int

    @property
    def hit_rate(self) -> float | None:
        """The share of all prompt tokens that was found in the cache."""
        total = self.prefilled + self.cached
        return self.cached / total if total else None


def figures(state: dict[str, Any], timeline: dict[str, Any]) -> Figures:
    """The figures at ``state``; the two are the JSON forms of ``RunView``."""
    counters, now = state["counters"], known(state, timeline)
    timed = [] if now.scripted else [span for span in now.spans if span.first is not None]
    timed = [span for span in timed if span.t_first is not None and span.t_arrived is not None]
    last = sorted(timed, key=lambda span: (span.t_first, span.id))[-RECENT:]
    return Figures(
        tokens_per_second=_tokens_per_second(state, timeline),
        first_token_ms=median(span.t_first - span.t_arrived for span in last) if last else None,
        first_tokens=len(last),
        prefilled=counters["prefilled_tokens"],
        cached=counters["cached_tokens"],
        running=len(state["running"]),
        waiting=len(state["waiting"]),
        slots_in_use=sum(slot["owner"] is not None for slot in state["slots"]),
        num_slots=len(state["slots"]),
        steps=counters["steps"],
        finished={reason: count for reason, count in counters["finished"].items() if count},
        rejected=counters["rejected"],
    )


def _tokens_per_second(state: dict[str, Any], timeline: dict[str, Any]) -> float | None:
    """A step's tokens count if it ended in the last second. First tokens come from prefill: no step decoded them."""
    now = known(state, timeline)
    if now.scripted or not now.steps:
        return None
    rows = timeline["steps"][: len(now.steps)]
    if state["phase"] is not None:
        rows = rows[:-1]  # how long it takes is not known yet
    if not rows:
        return None
    ends = [row[7] + sum(row[:4]) / SECOND for row in rows]
    counted = {now.first + index for index, end in enumerate(ends) if end > ends[-1] - SECOND}
    tokens = sum(rows[number - now.first][5] for number in counted)
    tokens += sum(span.first in counted for span in now.spans)
    span = min(SECOND, ends[-1] - rows[0][7])
    return SECOND * tokens / span if span > 0 else None


def figure_words(state: dict[str, Any], timeline: dict[str, Any]) -> list[str]:
    """The figures in words, the most telling first."""
    now = figures(state, timeline)
    words = []
    if now.tokens_per_second is not None:
        words.append(f"{now.tokens_per_second:,.0f} tokens a second")
    if now.first_token_ms is not None:
        words.append(f"time to first token {now.first_token_ms:,.1f} ms (median of {now.first_tokens})")
    if now.hit_rate is not None:
        total = plural(now.prefilled + now.cached, "prompt token")
        words.append(f"{100 * now.hit_rate:.0f} % of {total} found in the cache")
    words.append(f"{now.running:,} running, {now.waiting:,} waiting")
    words.append(f"{now.slots_in_use} of {plural(now.num_slots, 'slot')} in use")
    ends = [f"{count:,} {reason}" for reason, count in now.finished.items()]
    if now.rejected:
        ends.append(f"{now.rejected:,} rejected")
    return [*words, "ended: " + (", ".join(ends) or "none")]
