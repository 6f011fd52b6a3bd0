"""What can happen in the engine, each as a small fact in the past tense.

Everything that is drawn, replayed, tested or filmed comes from a stream of these. They hold ints, floats, strings and
tuples of them, never a tensor or an object, so a trace can be written as JSON lines and read anywhere. They know
nothing of when they happened: the log stamps that.

``token_ids`` are vocabulary ids; a *slot* is a request's row of the KV cache; a *version* rises whenever a row is
handed out or cut. ``node_id`` 0 is the root of the radix tree.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, Literal

Phase = Literal["cleanup", "refill", "prefill", "decode"]
FinishReason = Literal["stop", "length", "cancelled", "timeout", "error"]
PHASES: tuple[Phase, ...] = ("cleanup", "refill", "prefill", "decode")
FINISH_REASONS: tuple[FinishReason, ...] = ("stop", "length", "cancelled", "timeout", "error")


class Event:
    """Base of all events."""

    __slots__ = ()


# --- requests ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class RequestArrived(Event):
    """A request joined the end of ``waiting``. ``sampling`` holds the (name, value) pairs that differ from defaults."""

    request_id: int
    prompt_ids: tuple[int, ...]
    sampling: tuple[tuple[str, Any], ...]


@dataclass(frozen=True, slots=True)
class RequestsRejected(Event):
    """So many submits were refused since the last step (``reason``: ``"queue full"`` or ``"invalid"``)."""

    count: int
    reason: str


@dataclass(frozen=True, slots=True)
class RequestHeld(Event):
    """A waiting request lets others pass, since its leader is writing a prefix that both share."""

    request_id: int
    leader_id: int


@dataclass(frozen=True, slots=True)
class RequestAdmitted(Event):
    """A request moved from ``waiting`` to ``running`` and owns a slot; ``cached_len`` tokens need no computing."""

    request_id: int
    slot: int
    version: int
    cached_len: int


@dataclass(frozen=True, slots=True)
class RequestFinished(Event):
    """A request ended. If it ran, it owns its slot until the next cleanup. ``message`` tells what an error was."""

    request_id: int
    reason: FinishReason
    message: str


# --- slots ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class PrefixMatched(Event):
    """The first ``length`` tokens of a prompt were found in the row (``slot``, ``version``)."""

    request_id: int
    length: int
    slot: int
    version: int


@dataclass(frozen=True, slots=True)
class SlotAllocated(Event):
    """A row was handed out, to be written from its start. What it still held is forgotten."""

    slot: int
    version: int
    request_id: int


@dataclass(frozen=True, slots=True)
class SlotReused(Event):
    """Zero-copy: a row was handed out as it is, with its first ``kept_len`` tokens valid for the new owner."""

    slot: int
    version: int
    request_id: int
    kept_len: int


@dataclass(frozen=True, slots=True)
class PrefixCopied(Event):
    """The first ``length`` positions of row ``src`` were copied to the same positions of row ``dst``."""

    src: int
    src_version: int
    dst: int
    dst_version: int
    length: int


@dataclass(frozen=True, slots=True)
class SlotTruncated(Event):
    """A free row was cut to its first ``kept_len`` tokens, to make room."""

    slot: int
    version: int
    kept_len: int


@dataclass(frozen=True, slots=True)
class SlotFreed(Event):
    """A row lost its owner. Its first ``kept_len`` tokens stay: that is the prefix cache."""

    slot: int
    version: int
    kept_len: int


# --- the radix tree ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class NodeInserted(Event):
    """A leaf was added below ``parent_id`` with these tokens on its edge."""

    node_id: int
    parent_id: int
    token_ids: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class NodeSplit(Event):
    """The first ``length`` tokens of a node moved into a new node ``upper_id``, which became its parent."""

    node_id: int
    upper_id: int
    length: int


@dataclass(frozen=True, slots=True)
class NodeMerged(Event):
    """A node took over the tokens and the children of its only child, which no longer exists."""

    node_id: int
    child_id: int


@dataclass(frozen=True, slots=True)
class NodeEvicted(Event):
    """A leaf that no row holds any more was detached from its parent."""

    node_id: int


@dataclass(frozen=True, slots=True)
class PathHeld(Event):
    """The row (``slot``, ``version``) now holds exactly the path from the root to ``node_id``."""

    slot: int
    version: int
    node_id: int


@dataclass(frozen=True, slots=True)
class PathLocked(Event):
    """What this row holds, now and as it grows, may not be evicted."""

    slot: int


@dataclass(frozen=True, slots=True)
class PathUnlocked(Event):
    """What this row holds may be evicted again."""

    slot: int


@dataclass(frozen=True, slots=True)
class PathUsed(Event):
    """All nodes from the root to ``node_id`` were used at ``tick`` (the clock of the LRU order)."""

    node_id: int
    tick: int


# --- the loop ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class StepStarted(Event):
    """One turn of the loop began; steps count from 1."""

    step: int


@dataclass(frozen=True, slots=True)
class PhaseStarted(Event):
    """One of the four phases began."""

    phase: Phase


@dataclass(frozen=True, slots=True)
class PhaseEnded(Event):
    """A phase ended after so many seconds."""

    phase: Phase
    seconds: float


@dataclass(frozen=True, slots=True)
class Prefilled(Event):
    """The prompt's tokens at positions ``start`` to ``end`` (exclusive) were computed and written."""

    request_id: int
    slot: int
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class FirstTokenSampled(Event):
    """The logits of the last prompt token gave the first output token."""

    request_id: int
    token_id: int


@dataclass(frozen=True, slots=True)
class TokensDecoded(Event):
    """One decode phase: row ``slots[i]`` fed its last token at ``positions[i]`` and sampled ``token_ids[i]``.

    ``groups`` are the sizes of the forward passes that computed the rows, in order; the tuples list the rows in it.
    """

    request_ids: tuple[int, ...]
    slots: tuple[int, ...]
    positions: tuple[int, ...]
    token_ids: tuple[int, ...]
    groups: tuple[int, ...]


EVENT_TYPES: dict[str, type[Event]] = {
    name: value
    for name, value in list(globals().items())
    if isinstance(value, type) and issubclass(value, Event) and value is not Event
}
FIELD_NAMES: dict[str, tuple[str, ...]] = {
    name: tuple(f.name for f in fields(cls))  # type: ignore[arg-type]
    for name, cls in EVENT_TYPES.items()
}


def to_json(event: Event) -> dict[str, Any]:
    """The event as plain values, its type under ``"event"``."""
    name = type(event).__name__
    return {"event": name, **{field: getattr(event, field) for field in FIELD_NAMES[name]}}


def from_json(values: dict[str, Any]) -> Event:
    """The inverse of :func:`to_json`; extra keys (the log's stamps) are ignored, unknown events refused by name."""
    name = values["event"]
    if name not in EVENT_TYPES:
        raise ValueError(f"unknown event {name!r}: this trace was written by another version of astrai")
    return EVENT_TYPES[name](**{field: _tuples(values[field]) for field in FIELD_NAMES[name]})


def _tuples(value: Any) -> Any:
    return tuple(_tuples(item) for item in value) if isinstance(value, list) else value
