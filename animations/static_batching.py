"""Static batching, the rule that continuous batching replaced, as a scheduler of the engine; and what slots did."""

from __future__ import annotations

from itertools import groupby

from astrai.inference.scheduler import InferenceScheduler
from astrai.trace import events as e
from astrai.trace.log import EventLog
from astrai.trace.replay import Replayer

Work = dict[int, dict[int, tuple[str, int]]]  # by step, then by slot that has an owner: what it did for which request


class StaticScheduler(InferenceScheduler):
    """Fills its slots once, and again only when all requests of the batch have ended."""

    is_forming = False

    def refill(self) -> None:
        """Admit requests into an empty batch, and those that were held back while it formed."""
        if self.is_forming or not self.running:
            super().refill()
            held = any(request.leader_id is not None for request in self.waiting.values())
            self.is_forming = held and self.can_admit()


def work_of(log: EventLog) -> Work:
    """What each slot did in each step for its owner: ``prefill``, ``decode``, or only ``owned``."""
    view = log.view()
    replayer, work = Replayer.from_snapshot(view.base, view.first_seq), {}
    for step, records in groupby(view.records, key=lambda record: record.step):
        done: dict[int, str] = {}
        for record in records:
            replayer.apply(record.event)
            match record.event:
                case e.TokensDecoded(slots=slots):
                    done = dict.fromkeys(slots, "decode") | done
                case e.Prefilled(slot=slot):
                    done[slot] = "prefill"
        owned = {slot.slot: slot.request_id for slot in replayer.snapshot().slots if slot.request_id is not None}
        if owned:
            work[step] = {slot: (done.get(slot, "owned"), request_id) for slot, request_id in owned.items()}
    return work


def answers(log: EventLog) -> dict[int, list[int]]:
    """The tokens that each request got."""
    got: dict[int, list[int]] = {}
    for record in log.records:
        match record.event:
            case e.RequestArrived(request_id):
                got[request_id] = []
            case e.FirstTokenSampled(request_id, token_id):
                got[request_id].append(token_id)
            case e.TokensDecoded(request_ids=request_ids, token_ids=token_ids):
                for request_id, token_id in zip(request_ids, token_ids, strict=True):
                    got[request_id].append(token_id)
    return got
