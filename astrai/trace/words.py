"""Events in words: one short sentence for each, the same in the terminal, the notebooks and the pictures' labels.

It knows the events and nothing else: whoever wants text instead of token ids hands in a ``decode``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from astrai.trace import events as e

Decode = Callable[[Sequence[int]], str]
FINE_PRINT = (e.PathHeld, e.PathLocked, e.PathUnlocked, e.PathUsed)  # what a first reading of a trace can do without


def describe(event: e.Event, decode: Decode | None = None) -> str:
    """Say what happened; ``decode`` turns token ids into text, without it the ids are shown.

    Example:
        >>> describe(e.PrefixCopied(src=0, src_version=3, dst=2, dst_version=1, length=40))
        'slot 0 v3 -> slot 2 v1: the first 40 positions were copied'
    """
    show = decode or _ids
    match event:
        case e.RequestArrived() | e.RequestsRejected() | e.RequestHeld() | e.RequestAdmitted() | e.RequestFinished():
            return _request(event, show)
        case e.NodeInserted() | e.NodeSplit() | e.NodeMerged() | e.NodeEvicted() | e.PathHeld() | e.PathUsed():
            return _tree(event, show)
        case e.PathLocked(slot):
            return f"slot {slot}: what it holds may not be evicted"
        case e.PathUnlocked(slot):
            return f"slot {slot}: what it holds may be evicted again"
        case e.StepStarted() | e.PhaseStarted() | e.PhaseEnded() | e.Prefilled():
            return _loop(event)
        case e.FirstTokenSampled(request_id, token_id):
            return f"request {request_id}: first token {show((token_id,))}"
        case e.TokensDecoded():
            return _decoded(event, show)
        case _:
            return _slot(event)


def _ids(token_ids: Sequence[int]) -> str:
    shown = " ".join(map(str, token_ids[:12]))
    return f"[{shown} ...]" if len(token_ids) > 12 else f"[{shown}]"


def tokens(count: int) -> str:
    """``1 token``, ``2 tokens``, ``1,024 tokens``."""
    return "1 token" if count == 1 else f"{count:,} tokens"


def _request(event: e.Event, show: Decode) -> str:
    match event:
        case e.RequestArrived(request_id, prompt_ids):
            return f"request {request_id}: joined the queue with {tokens(len(prompt_ids))} {show(prompt_ids)}"
        case e.RequestsRejected(count, reason):
            return f"{count} submit{'s' * (count != 1)} refused: {reason}"
        case e.RequestHeld(request_id, leader_id):
            return f"request {request_id}: waits for the prefix that request {leader_id} is writing"
        case e.RequestAdmitted(request_id, slot, version, cached_len):
            found = f"{tokens(cached_len)} found in the cache" if cached_len else "nothing found in the cache"
            return f"request {request_id}: owns slot {slot} v{version}, {found}"
        case e.RequestFinished(request_id, reason, message):
            return f"request {request_id}: ended with {reason}{': ' * bool(message)}{message}"
    raise ValueError(f"no words for {event!r}")


def _slot(event: e.Event) -> str:
    match event:
        case e.PrefixMatched(request_id, length, slot, version):
            return f"request {request_id}: its first {tokens(length)} are held by slot {slot} v{version}"
        case e.SlotAllocated(slot, version, request_id):
            return f"slot {slot} v{version}: handed to request {request_id}, to be written from its start"
        case e.SlotReused(slot, version, request_id, kept_len):
            return f"slot {slot} v{version}: handed to request {request_id} with {tokens(kept_len)} kept (zero-copy)"
        case e.PrefixCopied(src, src_version, dst, dst_version, length):
            moved = f"the first {length:,} positions were copied"
            return f"slot {src} v{src_version} -> slot {dst} v{dst_version}: {moved}"
        case e.SlotTruncated(slot, version, kept_len):
            return f"slot {slot} v{version}: cut to {tokens(kept_len)} to make room"
        case e.SlotFreed(slot, version, kept_len):
            return f"slot {slot} v{version}: free, {tokens(kept_len)} stay in the cache"
    raise ValueError(f"no words for {event!r}")


def _tree(event: e.Event, show: Decode) -> str:
    match event:
        case e.NodeInserted(node_id, parent_id, token_ids):
            return f"node {node_id}: added below node {parent_id} with {tokens(len(token_ids))} {show(token_ids)}"
        case e.NodeSplit(node_id, upper_id, length):
            return f"node {node_id}: split, its first {length} moved to node {upper_id} above it"
        case e.NodeMerged(node_id, child_id):
            return f"node {node_id}: took over its only child, node {child_id}"
        case e.NodeEvicted(node_id):
            return f"node {node_id}: evicted, since no slot holds it"
        case e.PathHeld(slot, version, node_id):
            return f"slot {slot} v{version}: holds the path to node {node_id}"
        case e.PathUsed(node_id, tick):
            return f"node {node_id}: its path was used at tick {tick}"
    raise ValueError(f"no words for {event!r}")


def _loop(event: e.Event) -> str:
    match event:
        case e.StepStarted(step):
            return f"step {step} began"
        case e.PhaseStarted(phase):
            return f"{phase} began"
        case e.PhaseEnded(phase, seconds):
            return f"{phase} ended after {seconds * 1000:.2f} ms"
        case e.Prefilled(request_id, slot, start, end):
            where = f"slot {slot}, positions {start} to {end - 1}"
            return f"request {request_id}: {tokens(end - start)} computed into {where}"
    raise ValueError(f"no words for {event!r}")


def _decoded(event: e.TokensDecoded, show: Decode) -> str:
    pairs = zip(event.request_ids, event.token_ids, strict=True)
    rows = ", ".join(f"request {request_id} {show((token_id,))}" for request_id, token_id in pairs)
    return (
        f"{tokens(len(event.token_ids))} in {len(event.groups)} forward pass{'es' * (len(event.groups) != 1)}: {rows}"
    )
