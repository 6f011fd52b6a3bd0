"""The scheduler's own state as a ``Snapshot``: the other side of the truth test.

A replay of the trace must give the same snapshot. Nothing here reads the trace.
"""

from __future__ import annotations

from itertools import chain

from astrai.inference.cache.radix_tree import RadixNode
from astrai.inference.cache.slots import slots_in
from astrai.inference.request import Request
from astrai.inference.scheduler import InferenceScheduler
from astrai.trace.events import FINISH_REASONS
from astrai.trace.snapshot import Counters, NodeState, RequestState, SlotState, Snapshot


def take_snapshot(scheduler: InferenceScheduler) -> Snapshot:
    """The state between two events. Call it on the loop's thread, or while the loop does not run."""
    nodes = sorted(scheduler.cache.tree.nodes.items())
    requests = sorted(chain(scheduler.waiting.items(), scheduler.running.items()))
    return Snapshot(
        step=scheduler.step_count,
        phase=scheduler.phase,
        slots=_slot_states(scheduler),
        nodes=tuple(_node_state(node) for _, node in nodes if node.parent is not None),
        waiting=tuple(scheduler.waiting),
        running=tuple(scheduler.running),
        requests=tuple(_request_state(request) for _, request in requests),
        counters=Counters(
            finished=tuple((reason, scheduler.finished[reason]) for reason in FINISH_REASONS),
            evicted_nodes=scheduler.cache.tree.num_evicted,
            steps=scheduler.step_count,
            **scheduler.totals,
        ),
    )


def _slot_states(scheduler: InferenceScheduler) -> tuple[SlotState, ...]:
    slots, tree = scheduler.cache.slots, scheduler.cache.tree
    owners = {request.slot: request for request in scheduler.running.values()}
    states = []
    for slot in range(slots.num_slots):
        owner, end = owners.get(slot), tree.end_node(slot)
        states.append(
            SlotState(
                slot=slot,
                version=slots.handle(slot).version,
                request_id=owner.request_id if owner else None,
                context_len=owner.context_len if owner else end.end,
                node_id=end.node_id,
                locked=bool(tree.locked >> slot & 1),
            )
        )
    return tuple(states)


def _node_state(node: RadixNode) -> NodeState:
    assert node.parent is not None
    holders = tuple(slots_in(node.holders))
    return NodeState(node.node_id, node.parent.node_id, node.token_ids, holders, node.last_used)


def _request_state(request: Request) -> RequestState:
    return RequestState(
        request_id=request.request_id,
        prompt_ids=request.prompt_ids,
        output_ids=tuple(request.output_ids),
        slot=request.slot,
        version=request.version,
        cached_len=request.cached_len,
        context_len=request.context_len,
        leader_id=request.leader_id,
        finish_reason=request.ending.reason if request.ending else None,
    )
