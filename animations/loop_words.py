"""What TheWholeLoop says of the events: a sentence for a person who sees them for the first time."""

from __future__ import annotations

from typing import NamedTuple

from astrai.trace import events as e
from astrai.trace.snapshot import Snapshot

REASONS = {
    "stop": "its answer is complete",
    "length": "it is as long as allowed",
    "cancelled": "it was cancelled",
    "timeout": "its time was over",
    "error": "the model failed",
}
BRIEFLY = {
    "cleanup": "Cleanup: ended chats give their slots back.",
    "refill": "Refill: waiting chats get slots.",
    "prefill": "Prefill: prompts are computed.",
    "decode": "Decode: one more token for each.",
}


class News(NamedTuple):
    """``kind`` is what is explained once; ``pause`` how long it rests then, in seconds; ``slot`` where it happened."""

    kind: str
    caption: str
    pause: float
    slot: int | None = None


def told(event: e.Event, now: Snapshot) -> News | None:
    """What is to be said, or nothing. ``now`` is the state after the event."""
    match event:
        case e.RequestArrived():
            return News("arrived", "Cleanup: new chats join the queue.", 2.1)
        case e.RequestHeld(_, leader_id):
            return News("held", f"Chats with the same beginning wait until request {leader_id} has written it.", 2.5)
        case e.SlotReused(slot, kept_len=kept):
            caption = f"Refill: slot {slot} still holds the first {kept} tokens. They are reused in place."
            return News("reused", caption, 2.7, slot)
        case e.PrefixCopied(src, dst=dst, length=length):
            caption = f"Refill: {length} tokens of a shared beginning are copied from slot {src}."
            return News("copied", caption, 2.5, dst)
        case e.RequestAdmitted(request_id, slot, cached_len=0):
            caption = f"Refill: request {request_id} gets slot {slot}. All of its prompt must be computed."
            return News("miss", caption, 2.1, slot)
        case e.Prefilled(request_id, slot, start, end):
            return _prefilled(now.request(request_id).cached_len, slot, start, end)
        case e.TokensDecoded(groups=groups):
            passes = "in one pass" if len(groups) == 1 else f"in {len(groups)} passes"
            return News("decode", f"Decode: each running chat gets one more token, all {passes}.", 2.4)
        case e.RequestFinished(request_id, reason):
            caption = f"Request {request_id} has ended: {REASONS[reason]}."
            request = now.request(request_id)
            return News("finished", caption, 1.3, request.slot if request else None)
        case e.SlotFreed(slot, kept_len=kept):
            memory = " What it holds stays, pale, as a memory." if kept else ""
            return News("freed", f"Cleanup: slot {slot} is free again.{memory}", 2.1, slot)
    return None


def _prefilled(cached_len: int, slot: int, start: int, end: int) -> News:
    if start == 0:
        return News("prefilled", f"Prefill: the first {end} tokens of its prompt are computed in one pass.", 2.1, slot)
    if start == cached_len:
        caption = f"Prefill: only {end - start} tokens are computed. The {start} before them are there."
        return News("rest", caption, 1.7, slot)
    return News("next", f"Prefill: the next {end - start} tokens of a long prompt are computed.", 1.7, slot)


def last_words(now: Snapshot) -> str:
    """What is true at the end of a run."""
    if now.running or now.waiting:
        return f"Here the recording ends: {len(now.running)} running, {len(now.waiting)} waiting."
    finished = dict(now.counters.finished)
    answered = finished["stop"] + finished["length"]
    if not answered:
        return "Here the recording ends."
    start = "All have their answers." if answered == now.counters.arrived else "All have ended."
    memory = " The slots are free, and remember: that is the cache." if now.nodes else " All slots are free."
    return start + memory
