"""One moment of a run as plain JSON, made from a snapshot and from how the rows came to hold what they hold::

    {"seq": 812,                  # events so far
     "step": 41, "phase": "prefill" | null, "row_len": 1024 | null,   # positions that a row can hold
     "slots": [{"version": 3, "owner": 7 | null, "len": 120, "locked": true, "node": 12,
                "runs": [["copied", 38, 7, 12], ["prefill", 52, 7, 12], ["decode", 120, 7, 13]],   # see rows.py
                "origin": {"kind": "copy", "len": 38, "src": 0, "src_version": 1, "request": 7, "step": 12, "seq": 90},
                "ids": [5, 88, ...]}],           # tokens in the row: only in slots that were asked for
     "nodes": {"12": {"parent": 0, "text": "Once upon", "len": 23, "holders": [0, 2], "locked": true, "used": 14}},
     "waiting": [9, 10], "running": [7, 8],      # in the queue's order, in that of admission
     "requests": {"7": {"status": "decode", "slot": 2, "prompt": 52, "cached": 38, "len": 120, "out": 69,
                        "leader": null, "reason": null, "text": "the last characters it gave"}},
     "counters": {"arrived": 9, "finished": {"stop": 3, ...}, ...},   # as in trace.snapshot.Counters
     "news": [...]}                              # see news.py

A request is ``waiting``, ``held`` (its leader is in prefill), in ``prefill``, in ``decode``, or ``done`` (it has ended
and its row is taken back in the next cleanup). The root of the tree, node 0, is not listed.
"""

from __future__ import annotations

from itertools import chain
from typing import Any

from astrai.trace.snapshot import Counters, NodeState, RequestState, SlotState, Snapshot
from astrai.widgets.data.rows import Row
from astrai.widgets.data.texts import Texts


def slots_json(now: Snapshot, rows: list[Row]) -> list[dict[str, Any]]:
    """Each row of the cache, without ``ids``."""
    return [
        {
            "version": slot.version,
            "owner": slot.request_id,
            "len": slot.context_len,
            "locked": slot.locked,
            "node": slot.node_id,
            "runs": [list(run) for run in row.runs],
            "origin": None if row.origin is None else dict(row.origin),
        }
        for slot, row in zip(now.slots, rows, strict=True)
    ]


def add_ids(slots: list[dict[str, Any]], now: Snapshot, wanted: slice) -> None:
    """Put in ``ids``: those of a row's owner, or for a free row those that the tree says it holds."""
    requests = {request.request_id: request for request in now.requests}
    nodes = {node.node_id: node for node in now.nodes}
    for slot in now.slots[wanted]:
        owner = requests[slot.request_id] if slot.request_id is not None else None
        ids = [*owner.prompt_ids, *owner.output_ids] if owner else _path_ids(slot, nodes)
        slots[slot.slot]["ids"] = ids[: slot.context_len]


def _path_ids(slot: SlotState, nodes: dict[int, NodeState]) -> list[int]:
    path, node_id = [], slot.node_id
    while node_id:
        path.append(nodes[node_id].token_ids)
        node_id = nodes[node_id].parent_id
    return list(chain.from_iterable(reversed(path)))


def nodes_json(now: Snapshot, texts: Texts) -> dict[str, dict[str, Any]]:
    """The radix tree without its root."""
    locked = {slot.slot for slot in now.slots if slot.locked}
    return {
        str(node.node_id): {
            "parent": node.parent_id,
            "text": text,
            "len": len(node.token_ids),
            "holders": list(node.holders),
            "locked": not locked.isdisjoint(node.holders),
            "used": node.last_used,
        }
        for node, text in zip(now.nodes, texts.edges(now.nodes), strict=True)
    }


def requests_json(now: Snapshot, texts: Texts) -> dict[str, dict[str, Any]]:
    """Those that wait and those that run, by id."""
    by_id = {request.request_id: request for request in now.requests}
    return {
        str(request.request_id): {
            "status": _status(request, by_id),
            "slot": request.slot,
            "prompt": len(request.prompt_ids),
            "cached": request.cached_len,
            "len": request.context_len,
            "out": len(request.output_ids),
            "leader": request.leader_id,
            "reason": request.finish_reason,
            "text": text,
        }
        for request, text in zip(now.requests, texts.tails(now.requests), strict=True)
    }


def _status(request: RequestState, requests: dict[int, RequestState]) -> str:
    if request.slot is None:
        leader = requests.get(request.leader_id) if request.leader_id is not None else None
        return "held" if leader is not None and _is_prefilling(leader) else "waiting"
    if request.finish_reason is not None:
        return "done"
    return "decode" if request.output_ids else "prefill"


def _is_prefilling(request: RequestState) -> bool:
    return request.finish_reason is None and request.context_len < len(request.prompt_ids)


def counters_json(counters: Counters) -> dict[str, Any]:
    """The sums, with ``finished`` by reason."""
    values = {name: getattr(counters, name) for name in Counters.__slots__}
    return values | {"finished": dict(counters.finished)}
