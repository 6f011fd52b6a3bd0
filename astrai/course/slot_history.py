"""What each slot held after each step, and how it came there: the data behind the picture of slots over time.

It is read from the events, and checked against a replay as it goes: the parts of a row always add up to the row's
``context_len``.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from astrai.trace.events import (
    Event,
    Prefilled,
    PrefixCopied,
    SlotAllocated,
    SlotFreed,
    SlotReused,
    SlotTruncated,
    StepStarted,
    TokensDecoded,
)
from astrai.trace.jsonl import Record
from astrai.trace.log import EventLog
from astrai.trace.replay import Replayer

PARTS = ("reused", "copied", "prefill", "decode")  # roles of the palette, in the order in which a row fills
Lengths = tuple[int, int, int, int]


@dataclass(slots=True)
class Period:
    """A stretch of steps in which a slot had one owner (``request_id``) or none, and one version.

    ``lengths[i]`` are the tokens of each of ``PARTS`` in the row after step ``first_step + i``.
    """

    slot: int
    version: int
    request_id: int | None
    first_step: int
    lengths: list[Lengths] = field(default_factory=list)

    @property
    def end_step(self) -> int:
        """The step after the last one."""
        return self.first_step + len(self.lengths)


def slot_history(log: EventLog) -> list[Period]:
    """All periods in which a slot held something, by slot and time.

    Raises:
        ValueError: the log no longer begins with the run: record it, or give the engine a larger ``trace_events``.
    """
    view = log.view()
    if view.first_seq:
        raise ValueError(
            f"the first {view.first_seq:,} events have left the log: record the run, or raise trace_events"
        )
    periods: list[list[Period]] = [[] for _ in view.base.slots]
    for replayer, parts in _after_each_step(Replayer.from_snapshot(view.base), view.records):
        for row in replayer.snapshot().slots:
            lengths = tuple(parts[row.slot][part] for part in PARTS)
            assert sum(lengths) == row.context_len, f"slot {row.slot} has {row.context_len} tokens, drawn as {lengths}"
            _extend(periods[row.slot], Period(row.slot, row.version, row.request_id, replayer.step), lengths)
    return [period for of_slot in periods for period in of_slot if any(map(any, period.lengths))]


def _extend(periods: list[Period], now: Period, lengths: Lengths) -> None:
    last = periods[-1] if periods else None
    if last is None or (last.version, last.request_id) != (now.version, now.request_id):
        periods.append(now)
    periods[-1].lengths.append(lengths)


def _after_each_step(replayer: Replayer, records: list[Record]) -> Iterator[tuple[Replayer, list[dict[str, int]]]]:
    parts = [dict.fromkeys(PARTS, 0) for _ in range(replayer.num_slots)]
    for record in records:
        if replayer.step and isinstance(record.event, StepStarted):
            yield replayer, parts
        replayer.apply(record.event)
        _apply(parts, record.event)
    if replayer.step:
        yield replayer, parts


def _apply(parts: list[dict[str, int]], event: Event) -> None:
    match event:
        case SlotAllocated(slot):
            parts[slot] = dict.fromkeys(PARTS, 0)
        case SlotReused(slot, kept_len=kept_len):
            parts[slot] = dict.fromkeys(PARTS, 0) | {"reused": kept_len}
        case PrefixCopied(dst=dst, length=length):
            parts[dst] = dict.fromkeys(PARTS, 0) | {"copied": length}
        case Prefilled(slot=slot, start=start, end=end):
            parts[slot]["prefill"] += end - start
        case TokensDecoded(slots=slots):
            for slot in slots:
                parts[slot]["decode"] += 1
        case SlotFreed(slot, kept_len=kept_len) | SlotTruncated(slot, kept_len=kept_len):
            _cut(parts[slot], kept_len)


def _cut(row: dict[str, int], kept_len: int) -> None:
    for part in PARTS:
        row[part] = min(row[part], kept_len)
        kept_len -= row[part]
