"""Static batching, the rule that continuous batching replaced, as a scheduler of the engine; and what slots did."""

from __future__ import annotations

from itertools import groupby

from astrai.inference.scheduler import InferenceScheduler
from astrai.trace import events as e
from astrai.trace.log import EventLog

Work = dict[int, dict[int, tuple[str, int]]]  # by step, then by slot: what it did for which request


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
    """What each slot did in each step."""
    work: Work = {}
    for step, records in groupby(log.records, key=lambda record: record.step):
        for record in records:
            match record.event:
                case e.TokensDecoded(request_ids=request_ids, slots=slots):
                    for request_id, slot in zip(request_ids, slots, strict=True):
                        work.setdefault(step, {}).setdefault(slot, ("decode", request_id))
                case e.Prefilled(request_id=request_id, slot=slot):
                    work.setdefault(step, {})[slot] = ("prefill", request_id)
    return work
