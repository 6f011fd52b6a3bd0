"""What a picture must say, found in the dullest way: position by position, and with a pass over all events."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

from astrai.trace import events as e
from astrai.trace.jsonl import Record
from astrai.trace.snapshot import Counters, Snapshot

Position = tuple[str, int | None, int]  # kind, request, step in which it was written


class Positions:
    """For each position of each row: how it came there, for whom, when, and which token it is."""

    def __init__(self, base: Snapshot) -> None:
        self.how: list[list[Position]] = [[("kept", s.request_id, base.step)] * s.context_len for s in base.slots]
        self.tokens: list[list[int]] = []
        self.prompts = {request.request_id: request.prompt_ids for request in base.requests}
        self.last = {request.request_id: request.output_ids[-1:] for request in base.requests}
        self.owners: dict[int, int] = {}
        for slot in base.slots:
            owner = base.request(slot.request_id) if slot.request_id is not None else None
            ids = (*owner.prompt_ids, *owner.output_ids) if owner else base.held_ids(slot.slot)
            self.tokens.append(list(ids[: slot.context_len]))

    def apply(self, record: Record) -> None:
        step = record.step
        match record.event:
            case e.RequestArrived(request_id, prompt_ids):
                self.prompts[request_id] = prompt_ids
            case e.SlotAllocated(slot, request_id=request_id):
                self.owners[slot] = request_id
                self._cut(slot, 0)
            case e.SlotReused(slot, request_id=request_id, kept_len=kept):
                self.owners[slot] = request_id
                self._cut(slot, kept)
                self.how[slot] = [("reused", request_id, step)] * kept
            case e.PrefixCopied(src=src, dst=dst, length=length):
                self.how[dst] = [("copied", self.owners[dst], step)] * length
                self.tokens[dst] = self.tokens[src][:length]
            case e.Prefilled(request_id, slot, start, end):
                for position in range(start, end):
                    self.how[slot].append(("prefill", request_id, step))
                    self.tokens[slot].append(self.prompts[request_id][position])
            case e.FirstTokenSampled(request_id, token_id):
                self.last[request_id] = (token_id,)
            case e.TokensDecoded(request_ids, slots, _, token_ids):
                for request_id, slot, token_id in zip(request_ids, slots, token_ids, strict=True):
                    self.how[slot].append(("decode", request_id, step))
                    self.tokens[slot].extend(self.last[request_id])
                    self.last[request_id] = (token_id,)
            case e.SlotFreed(slot, kept_len=kept) | e.SlotTruncated(slot, kept_len=kept):
                self._cut(slot, kept)

    def _cut(self, slot: int, length: int) -> None:
        del self.how[slot][length:], self.tokens[slot][length:]


def positions_of(runs: list[list[Any]]) -> list[Position]:
    """What runs say, position by position."""
    positions: list[Position] = []
    for kind, end, request_id, step in runs:
        start = len(positions)
        assert end > start, f"an empty run in {runs}"
        positions += [(kind, request_id, step + (at - start if kind == "decode" else 0)) for at in range(start, end)]
    return positions


def steps_of(records: list[Record]) -> dict[int, list[int]]:
    """The ``steps`` of a timeline, by the number of the step."""
    steps: dict[int, list[int]] = {}
    for record in records:
        row = steps.get(record.step)
        match record.event:
            case e.StepStarted(step):
                steps[step] = [0, 0, 0, 0, 0, 0, 0, round(1000 * (record.time - records[0].time))]
            case e.PhaseEnded(phase, seconds) if row:
                row[("cleanup", "refill", "prefill", "decode").index(phase)] = round(seconds * 1e6)
            case e.Prefilled(start=start, end=end) if row:
                row[4] += end - start
            case e.TokensDecoded(request_ids, groups=groups) if row:
                row[5], row[6] = len(request_ids), len(groups)
    return steps


def lives_of(records: list[Record]) -> dict[int, dict[str, Any]]:
    """The ``requests`` of a timeline of a whole run, by id."""
    lives: dict[int, dict[str, Any]] = {}
    found: dict[int, str] = {}
    behind: dict[int, int] = {}
    for record in records:
        step, at = record.step, round(1000 * (record.time - records[0].time), 1)
        match record.event:
            case e.RequestArrived(request_id, prompt_ids):
                lives[request_id] = dict(
                    id=request_id, arrived=step, t_arrived=at, prompt=len(prompt_ids), held=None, held_to=None,
                    admitted=None,
                    slot=None, cached=0, origin=None, first=None, t_first=None, ended=None, t_ended=None, reason=None,
                    out=0,
                )  # fmt: skip
            case e.RequestHeld(request_id):
                lives[request_id].update(held=step, held_to=None)
                behind[request_id] = record.event.leader_id
            case e.SlotAllocated(slot):
                found[slot] = "miss"
            case e.PrefixCopied(dst=slot):
                found[slot] = "copy"
            case e.SlotReused(slot):
                found[slot] = "zero-copy"
            case e.RequestAdmitted(request_id, slot, cached_len=cached):
                lives[request_id].update(admitted=step, slot=slot, cached=cached, origin=found[slot])
            case e.FirstTokenSampled(request_id):
                lives[request_id].update(first=step, t_first=at, out=1)
            case e.TokensDecoded(request_ids):
                for request_id in request_ids:
                    lives[request_id]["out"] += 1
            case e.RequestFinished(request_id, reason):
                lives[request_id].update(ended=step, t_ended=at, reason=reason)
        for request_id, leader_id in behind.items():
            life, leader = lives[request_id], lives[leader_id]
            is_over = leader["first"] is not None or leader["ended"] is not None
            if is_over and life["held_to"] is None and life["admitted"] is None and life["ended"] is None:
                life["held_to"] = step
    return lives


def check_against_snapshot(state: dict[str, Any], now: Snapshot) -> None:
    """Every fact that a snapshot has is in the state, in its own words."""
    assert (state["step"], state["phase"]) == (now.step, now.phase)
    assert [(slot["version"], slot["owner"], slot["len"], slot["node"], slot["locked"]) for slot in state["slots"]] == [
        (s.version, s.request_id, s.context_len, s.node_id, s.locked) for s in now.slots
    ]
    assert {
        (int(key), node["parent"], node["len"], tuple(node["holders"]), node["used"], node["locked"])
        for key, node in state["nodes"].items()
    } == {(n.node_id, n.parent_id, len(n.token_ids), n.holders, n.last_used, now.locks(n) > 0) for n in now.nodes}
    assert (state["waiting"], state["running"]) == (list(now.waiting), list(now.running))
    assert {
        (int(key), r["slot"], r["prompt"], r["cached"], r["len"], r["out"], r["leader"], r["reason"])
        for key, r in state["requests"].items()
    } == {
        (
            r.request_id, r.slot, len(r.prompt_ids), r.cached_len, r.context_len, len(r.output_ids), r.leader_id,
            r.finish_reason,
        )
        for r in now.requests
    }  # fmt: skip
    expected = {field.name: getattr(now.counters, field.name) for field in fields(Counters)}
    assert state["counters"] == expected | {"finished": dict(now.counters.finished)}
    assert all(request["status"] == status_of(now, int(key)) for key, request in state["requests"].items())


def status_of(now: Snapshot, request_id: int) -> str:
    request = now.request(request_id)
    if request_id in now.waiting:
        leader = now.request(request.leader_id) if request.leader_id in now.running else None
        writes = leader and not leader.finish_reason and leader.context_len < len(leader.prompt_ids)
        return "held" if writes else "waiting"
    if request.finish_reason:
        return "done"
    return "decode" if request.output_ids else "prefill"
