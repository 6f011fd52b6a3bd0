"""The latest happenings, for pictures that show them as they come: hits and misses, and what befell the tree.

Each is ``{"seq", "step", "kind", ...}``. The kinds, with what else they have:

- ``matched`` request slot len node: a prefix was found; then comes ``zero-copy`` request slot len (the row is taken as
  it is) or ``copy`` request src dst len. ``miss`` request slot: all of the prompt must be computed;
- ``used`` node: the walk of that hit from the root to ``node``; stands before its ``matched``;
- ``held`` request leader, ``finished`` request reason slot (null if it never ran), ``rejected`` count reason;
- ``freed`` slot len, ``cut`` slot len;
- ``inserted`` node parent len, ``split`` node upper len, ``merged`` node child, ``evicted`` node parent text.

Their ``seq`` never falls, and some share one.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

from astrai.trace import events as e
from astrai.trace.jsonl import Record
from astrai.trace.snapshot import Snapshot
from astrai.widgets.data.rows import Rows
from astrai.widgets.data.steps import Steps

KEPT = 24


class News:
    """The last 24 happenings. ``rows`` and ``steps`` have seen each event before."""

    def __init__(self, base: Snapshot, rows: Rows, steps: Steps) -> None:
        self._rows = rows
        self._steps = steps
        self._items: deque[dict[str, Any]] = deque(maxlen=KEPT)
        self._edges = {
            node.node_id: [node.parent_id, node.token_ids] for node in base.nodes
        }  # to tell what was evicted
        self._used: tuple[int, int] | None = None  # the seq and the node of the last PathUsed

    def handlers(self) -> dict[type[e.Event], Callable[[Record], None]]:
        """What is to be called for which event."""
        return {
            e.PathUsed: self._path_used,
            e.PrefixMatched: self._matched,
            e.SlotReused: self._reused,
            e.PrefixCopied: self._copied,
            e.RequestAdmitted: self._admitted,
            e.RequestHeld: self._held,
            e.RequestFinished: self._finished,
            e.RequestsRejected: self._rejected,
            e.SlotFreed: self._freed,
            e.SlotTruncated: self._truncated,
            e.NodeInserted: self._inserted,
            e.NodeSplit: self._split,
            e.NodeMerged: self._merged,
            e.NodeEvicted: self._evicted,
        }

    def items(self, text: Callable[[Sequence[int]], str]) -> list[dict[str, Any]]:
        """All of them, oldest first. ``text`` turns the token ids of an edge into text."""
        for item in self._items:
            if isinstance(item.get("text"), tuple):  # ids so far: most of them nobody looks at
                item["text"] = text(item["text"])
        return [dict(item) for item in self._items]

    def _add(self, record: Record, kind: str, **more: Any) -> None:
        self._items.append({"seq": record.seq, "step": record.step, "kind": kind, **more})

    # --- requests and rows --------------------------------------------------------------------------------------------

    def _path_used(self, record: Record) -> None:
        self._used = (record.seq, record.event.node_id)

    def _matched(self, record: Record) -> None:
        # A hit walks from the root to a node: the prefix cache says so in the event before.
        event, node = record.event, None
        if self._used is not None and self._used[0] == record.seq - 1:
            node = self._used[1]
            self._add(record, "used", node=node)
        self._add(record, "matched", request=event.request_id, slot=event.slot, len=event.length, node=node)

    def _reused(self, record: Record) -> None:
        event = record.event
        self._add(record, "zero-copy", request=event.request_id, slot=event.slot, len=event.kept_len)

    def _copied(self, record: Record) -> None:
        event = record.event
        owner = self._rows.rows[event.dst].owner
        self._add(record, "copy", request=owner, src=event.src, dst=event.dst, len=event.length)

    def _admitted(self, record: Record) -> None:
        origin = self._rows.rows[record.event.slot].origin
        if origin is not None and origin["kind"] == "miss":
            self._add(record, "miss", request=record.event.request_id, slot=record.event.slot)

    def _held(self, record: Record) -> None:
        self._add(record, "held", request=record.event.request_id, leader=record.event.leader_id)

    def _finished(self, record: Record) -> None:
        event = record.event
        slot = self._steps.slot_of(event.request_id)
        self._add(record, "finished", request=event.request_id, reason=event.reason, slot=slot)

    def _rejected(self, record: Record) -> None:
        self._add(record, "rejected", count=record.event.count, reason=record.event.reason)

    def _freed(self, record: Record) -> None:
        self._add(record, "freed", slot=record.event.slot, len=record.event.kept_len)

    def _truncated(self, record: Record) -> None:
        self._add(record, "cut", slot=record.event.slot, len=record.event.kept_len)

    # --- the radix tree -----------------------------------------------------------------------------------------------

    def _inserted(self, record: Record) -> None:
        event = record.event
        self._edges[event.node_id] = [event.parent_id, event.token_ids]
        self._add(record, "inserted", node=event.node_id, parent=event.parent_id, len=len(event.token_ids))

    def _split(self, record: Record) -> None:
        event, edge = record.event, self._edges[record.event.node_id]
        self._edges[event.upper_id] = [edge[0], edge[1][: event.length]]
        edge[:] = [event.upper_id, edge[1][event.length :]]
        self._add(record, "split", node=event.node_id, upper=event.upper_id, len=event.length)

    def _merged(self, record: Record) -> None:
        node, child = record.event.node_id, record.event.child_id
        self._edges[node][1] += self._edges.pop(child)[1]
        for edge in self._edges.values():
            if edge[0] == child:
                edge[0] = node
        self._add(record, "merged", node=node, child=child)

    def _evicted(self, record: Record) -> None:
        parent, token_ids = self._edges.pop(record.event.node_id)
        self._add(record, "evicted", node=record.event.node_id, parent=parent, text=token_ids)
