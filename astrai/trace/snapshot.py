"""What the engine looked like after some event: slots, radix tree, queues, phase and counters, as plain values.

The engine builds a ``Snapshot`` from its own state and a ``Replayer`` builds one from events; the two must be equal.
A snapshot therefore holds no times, and nothing that follows from something else in it: what follows is a method.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from itertools import chain
from typing import Any, Self, TypeVar

from astrai.trace.events import FINISH_REASONS, FinishReason, Phase


@dataclass(frozen=True, slots=True)
class SlotState:
    """One row of the KV cache. ``request_id`` is its owner, ``None`` where it is free.

    The first ``context_len`` positions hold valid KV. ``node_id`` ends the path that the tree knows of it; 0: none.
    """

    slot: int
    version: int
    request_id: int | None
    context_len: int
    node_id: int
    locked: bool


@dataclass(frozen=True, slots=True)
class NodeState:
    """One node of the radix tree with the tokens of its edge. ``holders`` are slots, in ascending order.

    ``last_used`` is the tick of the last ``PathUsed`` that went through it, 0 before the first.
    """

    node_id: int
    parent_id: int
    token_ids: tuple[int, ...]
    holders: tuple[int, ...]
    last_used: int


@dataclass(frozen=True, slots=True)
class RequestState:
    """One request that waits or runs. While it waits, ``slot`` is ``None`` and the three numbers are 0.

    ``finish_reason`` is set from its end until the cleanup that takes its slot back.
    """

    request_id: int
    prompt_ids: tuple[int, ...]
    output_ids: tuple[int, ...]
    slot: int | None
    version: int
    cached_len: int
    context_len: int
    leader_id: int | None
    finish_reason: FinishReason | None


@dataclass(frozen=True, slots=True)
class Counters:
    """Sums since the engine was made. ``finished`` pairs every reason of ``FINISH_REASONS``, in order, with its count.

    ``decoded_tokens`` are those of the decode phase; each request's first token comes from its prefill and is not
    among them. ``cached_tokens`` sums ``cached_len`` over admissions, ``rejected`` counts refused submits.
    """

    arrived: int = 0
    rejected: int = 0
    finished: tuple[tuple[FinishReason, int], ...] = tuple((reason, 0) for reason in FINISH_REASONS)
    prefilled_tokens: int = 0
    cached_tokens: int = 0
    copied_tokens: int = 0
    decoded_tokens: int = 0
    evicted_nodes: int = 0
    steps: int = 0


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The whole state: ``slots`` in order of their index, ``nodes`` (without the root) and ``requests`` of their id.

    ``waiting`` holds ids in the order of the queue, ``running`` in the order of admission. ``phase`` is ``None``
    between two phases.
    """

    step: int
    phase: Phase | None
    slots: tuple[SlotState, ...]
    nodes: tuple[NodeState, ...]
    waiting: tuple[int, ...]
    running: tuple[int, ...]
    requests: tuple[RequestState, ...]
    counters: Counters

    @property
    def num_slots(self) -> int:
        """Rows of the KV cache."""
        return len(self.slots)

    def request(self, request_id: int) -> RequestState | None:
        """The request, or ``None`` when it neither waits nor runs."""
        return next((request for request in self.requests if request.request_id == request_id), None)

    def locks(self, node: NodeState) -> int:
        """How many locked slots hold a node: above 0 it may not be evicted."""
        return sum(self.slots[slot].locked for slot in node.holders)

    def path(self, node_id: int) -> list[NodeState]:
        """The nodes from below the root down to ``node_id``, both ends included; none for the root itself."""
        by_id = {node.node_id: node for node in self.nodes}
        path: list[NodeState] = []
        while node_id:
            path.append(by_id[node_id])
            node_id = path[-1].parent_id
        return path[::-1]

    def held_ids(self, slot: int) -> tuple[int, ...]:
        """The tokens that the tree says a slot holds."""
        return tuple(chain.from_iterable(node.token_ids for node in self.path(self.slots[slot].node_id)))

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON, which :meth:`from_dict` reads back."""
        return {
            **_values(self),
            "slots": [_values(slot) for slot in self.slots],
            "nodes": [_values(node) for node in self.nodes],
            "requests": [_values(request) for request in self.requests],
            "counters": _values(self.counters),
        }

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        """The inverse of :meth:`to_dict`. Missing and unknown names raise ``KeyError`` and ``TypeError``."""
        return cls(
            step=values["step"],
            phase=values["phase"],
            slots=tuple(_state(SlotState, slot) for slot in values["slots"]),
            nodes=tuple(_state(NodeState, node) for node in values["nodes"]),
            waiting=tuple(values["waiting"]),
            running=tuple(values["running"]),
            requests=tuple(_state(RequestState, request) for request in values["requests"]),
            counters=_state(
                Counters,
                {**values["counters"], "finished": [tuple(pair) for pair in values["counters"]["finished"]]},
            ),
        )


T = TypeVar("T")


def _values(state: Any) -> dict[str, Any]:
    # NOTE: dataclasses.asdict copies token by token, which takes a tenth of a second for a full cache.
    return {field.name: getattr(state, field.name) for field in fields(state)}


def _state(cls: type[T], values: dict[str, Any]) -> T:
    return cls(**{name: tuple(value) if isinstance(value, list) else value for name, value in values.items()})
