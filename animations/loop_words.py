"""What TheWholeLoop says of the events: a sentence for a person who sees them for the first time."""

from __future__ import annotations

from typing import NamedTuple

from astrai.trace import events as e

REASONS = {"stop": "the model ended it", "length": "it is as long as allowed", "cancelled": "the client left"}


class News(NamedTuple):
    """``kind`` is what is explained once; ``pause`` how long it rests then, in seconds."""

    kind: str
    caption: str
    pause: float


def told(event: e.Event) -> News | None:
    """What is to be said, or nothing."""
    match event:
        case e.RequestArrived():
            return News("arrived", "Cleanup: new chats join the queue.", 2.1)
        case e.RequestHeld(_, leader_id):
            caption = f"Chats with the same beginning wait a step, until request {leader_id} has written it."
            return News("held", caption, 2.5)
        case e.SlotReused(slot, kept_len=kept):
            caption = f"Refill: slot {slot} still holds the first {kept} tokens. They are reused in place."
            return News("reused", caption, 2.7)
        case e.PrefixCopied(src, length=length):
            return News("copied", f"Refill: {length} tokens of a shared beginning are copied from slot {src}.", 2.5)
        case e.RequestAdmitted(request_id, slot, cached_len=0):
            caption = f"Refill: request {request_id} gets slot {slot}. Nothing is cached for it yet."
            return News("miss", caption, 2.1)
        case e.Prefilled(start=0, end=end):
            return News("prefilled", f"Prefill: the first {end} tokens of its prompt are computed in one pass.", 2.1)
        case e.Prefilled(start=start, end=end):
            caption = f"Prefill: only {end - start} tokens are computed. The {start} before them are there."
            return News("rest", caption, 1.7)
        case e.RequestFinished(request_id, reason):
            return News("finished", f"Request {request_id} has ended: {REASONS.get(reason, reason)}.", 1.3)
        case e.SlotFreed(slot):
            return News("freed", f"Cleanup: slot {slot} is free again. What it holds stays, pale, as a memory.", 2.1)
    return None
