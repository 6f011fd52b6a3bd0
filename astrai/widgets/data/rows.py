"""How each position of each row came to hold what it holds, which a snapshot does not say.

A row is told as runs, from left to right: ``[kind, end, request_id, step]``. A run starts where the one before ended.
Kinds:

- ``prefill``: computed from a piece of the prompt in that step;
- ``decode``: one position a step, the first of them in ``step``;
- ``reused``: kept in place for a new owner (zero-copy);
- ``copied``: copied from another row;
- ``kept``: was there before the watching began; how it came is not known.

A row that is freed keeps its runs. ``origin`` tells how its present or last owner got it: ``kind`` is ``zero-copy``,
``copy`` or ``miss`` (nothing was found, or it could not be copied), ``len`` how many tokens that gave, ``src`` and
``src_version`` the row that they were copied from (else null), ``request`` the owner, ``step`` and ``seq`` when. It is
null for a row that was not handed out since the watching began.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from astrai.trace import events as e
from astrai.trace.jsonl import Record
from astrai.trace.snapshot import Snapshot

NEVER = -1


class Row:
    """The runs of one row, and how its present or last owner got it."""

    __slots__ = ("decodes_next", "origin", "owner", "runs")

    def __init__(self) -> None:
        self.owner: int | None = None  # the present or the last one
        self.runs: list[list[Any]] = []
        self.decodes_next = NEVER  # the step in which one more decoded position belongs to the last run
        self.origin: dict[str, Any] | None = None

    @property
    def len(self) -> int:
        """How many positions are valid."""
        return self.runs[-1][1] if self.runs else 0

    def append(self, kind: str, end: int, request_id: int | None, step: int) -> None:
        """The positions from the present end on came in this way."""
        self.decodes_next = NEVER
        if end > self.len:
            self.runs.append([kind, end, request_id, step])

    def cut(self, length: int) -> None:
        """Forget all but the first ``length`` positions."""
        while self.len > length:
            start = self.runs[-2][1] if len(self.runs) > 1 else 0
            if start < length:
                self.runs[-1][1] = length
            else:
                self.runs.pop()

    def hand_out(self, owner: int, origin: dict[str, Any]) -> None:
        """A new owner, with nothing in the row yet."""
        self.cut(0)
        self.owner, self.origin = owner, origin


class Rows:
    """All rows of the KV cache."""

    def __init__(self, base: Snapshot) -> None:
        self.rows = [Row() for _ in base.slots]
        for row, slot in zip(self.rows, base.slots, strict=True):
            row.owner = slot.request_id
            row.append("kept", slot.context_len, slot.request_id, base.step)

    def handlers(self) -> dict[type[e.Event], Callable[[Record], None]]:
        """What is to be called for which event."""
        return {
            e.SlotAllocated: self._allocated,
            e.SlotReused: self._reused,
            e.PrefixCopied: self._copied,
            e.RequestAdmitted: self._admitted,
            e.SlotTruncated: self._cut,
            e.SlotFreed: self._cut,
            e.Prefilled: self._prefilled,
            e.TokensDecoded: self._decoded,
        }

    def _allocated(self, record: Record) -> None:
        slot, _, request_id = record.event.slot, record.event.version, record.event.request_id
        self.rows[slot].hand_out(request_id, _origin("miss", record, request_id))

    def _reused(self, record: Record) -> None:
        event, row = record.event, self.rows[record.event.slot]
        row.hand_out(event.request_id, _origin("zero-copy", record, event.request_id, event.kept_len))
        row.append("reused", event.kept_len, event.request_id, record.step)

    def _copied(self, record: Record) -> None:
        event, row = record.event, self.rows[record.event.dst]
        row.origin = _origin("copy", record, row.owner, event.length, event.src, event.src_version)
        row.append("copied", event.length, row.owner, record.step)

    def _admitted(self, record: Record) -> None:
        # Only now is it sure that no copy comes any more.
        row = self.rows[record.event.slot]
        if row.origin is not None and row.origin["kind"] == "miss":
            row.origin = _origin("miss", record, row.owner)

    def _cut(self, record: Record) -> None:
        self.rows[record.event.slot].cut(record.event.kept_len)

    def _prefilled(self, record: Record) -> None:
        event = record.event
        self.rows[event.slot].append("prefill", event.end, event.request_id, record.step)

    def _decoded(self, record: Record) -> None:
        rows, step, event = self.rows, record.step, record.event
        for request_id, slot in zip(event.request_ids, event.slots, strict=True):  # the hot loop: see Row
            row = rows[slot]
            if row.decodes_next == step:
                row.runs[-1][1] += 1
            else:
                row.append("decode", row.len + 1, request_id, step)
            row.decodes_next = step + 1


def _origin(
    kind: str,
    record: Record,
    request_id: int | None,
    length: int = 0,
    src: int | None = None,
    src_version: int | None = None,
) -> dict[str, Any]:
    return {
        "kind": kind,
        "len": length,
        "src": src,
        "src_version": src_version,
        "request": request_id,
        "step": record.step,
        "seq": record.seq,
    }
