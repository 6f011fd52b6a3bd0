"""A run as a list of slots that changed hands, and the part of it that shows the most. It draws nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from astrai.trace import events as e
from astrai.trace.jsonl import Record

Kind = Literal["lowest", "other", "reused", "freed"]


@dataclass(frozen=True, slots=True)
class SlotChange:
    """One slot was handed out or freed.

    ``free`` and ``blank`` are masks as they were just before: of the free slots, and of those among them that held no
    tokens. ``kept`` tokens stay in the slot, which held ``held``. ``kind`` is ``"lowest"`` where a slot was handed out
    to be written from its start and was the lowest blank one, ``"other"`` where it was not.
    """

    kind: Kind
    step: int
    slot: int
    request_id: int | None
    free: int
    blank: int
    kept: int
    held: int


def lowest_bit(mask: int) -> int:
    """The number of the lowest 1."""
    return (mask & -mask).bit_length() - 1


def slot_changes(slots: Sequence[dict[str, Any]], records: Sequence[Record]) -> list[SlotChange]:
    """All changes of a run, in order. ``slots`` are those before it, in the form of ``astrai.widgets.data.state``."""
    owners: dict[int, int | None] = {slot: row["owner"] for slot, row in enumerate(slots)}
    held = {slot: row["len"] for slot, row in enumerate(slots)}
    changes: list[SlotChange] = []
    for record in records:
        match record.event:
            case e.SlotAllocated(slot, _, request_id):
                changes.append(_change("lowest", record.step, slot, request_id, owners, held, 0))
                owners[slot], held[slot] = request_id, 0
            case e.SlotReused(slot, _, request_id, kept):
                changes.append(_change("reused", record.step, slot, request_id, owners, held, kept))
                owners[slot], held[slot] = request_id, kept
            case e.SlotFreed(slot, _, kept):
                changes.append(_change("freed", record.step, slot, owners[slot], owners, held, kept))
                owners[slot], held[slot] = None, kept
            case e.SlotTruncated(slot, _, kept):
                held[slot] = kept
    return changes


def most_telling(changes: Sequence[SlotChange], most: int) -> range:
    """The indices of at most ``most`` changes in a row that have the most kinds; the earliest such."""
    starts = range(max(1, len(changes) - most + 1))
    start = max(starts, key=lambda start: (len({c.kind for c in changes[start : start + most]}), -start))
    return range(start, min(start + most, len(changes)))


def _change(
    kind: Kind,
    step: int,
    slot: int,
    request_id: int | None,
    owners: dict[int, int | None],
    held: dict[int, int],
    kept: int,
) -> SlotChange:
    free = sum(1 << slot for slot, owner in owners.items() if owner is None)
    blank = sum(1 << slot for slot, owner in owners.items() if owner is None and not held[slot])
    if kind == "lowest" and blank & -blank != 1 << slot:
        kind = "other"
    return SlotChange(kind, step, slot, request_id, free, blank, kept, held[slot])
