"""The checks of decode and of the prefill budget in chapter 10."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from astrai.course.chapters.ch10_cards import Kind, Run, Table, card, in_words, play
from astrai.course.mistakes import Mistake
from astrai.inference.request import Request
from astrai.inference.scheduler import InferenceScheduler
from astrai.trace.events import FirstTokenSampled, Prefilled, RequestArrived
from astrai.trace.log import EventLog

GROUPS: Run = (
    (card(10, 3, 6), card(20, 3, 6), card(30, 5, 6), card(40, 7, 4), card(50, 2, 5, 2), card(60, 4, 3, 3)),
    {"num_slots": 6, "decode_policy": "grouped"},
)
LONG_ID, LONG = 2, 600  # the request with the long prompt, and its tokens; 0 and 1 are streams that run
MOST_TOKENS, MOST_STEPS = 100, 8  # what is promised to the streams, and to the prompt


def plan_groups(Scheduler: Kind) -> None:
    """The groups of each step of a run, then what each request was given."""
    cards, settings = GROUPS
    table = Table(Scheduler, cards, **settings)
    for scheduler in table.steps():
        scheduler.cleanup()
        scheduler.refill()
        scheduler.prefill()
        rows = [request for request in scheduler.running.values() if request.is_decoding]
        if rows:
            _look_at_groups(_planned(scheduler, rows), rows, scheduler.step_count)
        scheduler.decode()


def _planned(scheduler: Any, rows: list[Request]) -> list[list[Request]]:
    with in_words("plan_groups"):
        groups = scheduler.plan_groups(list(rows))
        try:
            groups = [list(group) for group in groups]
        except TypeError:
            groups = [[groups]]
    if any(not isinstance(request, Request) for group in groups for request in group):
        raise Mistake("`plan_groups` must return a list of groups, and each group must be a list of requests.")
    return groups


def _look_at_groups(groups: list[list[Request]], rows: list[Request], step: int) -> None:
    def mistake(sentence: str) -> Mistake:
        def told(some: Sequence[Sequence[Request]]) -> str:
            named = (", ".join(f"{r.request_id} at {r.context_len}" for r in group) for group in some)
            return "; ".join(f"[{names}]" for names in named) or "none"

        by_hand = [[r for r in rows if r.context_len == at] for at in dict.fromkeys(r.context_len for r in rows)]
        return Mistake(sentence, rows=[("expected (request at position)", told(by_hand)), ("yours", told(groups))])

    times = Counter(request.request_id for group in groups for request in group)
    for request in rows:
        if not times[request.request_id]:
            raise mistake(
                f"In step {step} request {request.request_id} is in no group and gets no token: each request must get "
                f"one in every step, whatever position it is at."
            )
        if times[request.request_id] > 1:
            raise mistake(
                f"In step {step} request {request.request_id} is in more than one group: it would be fed twice."
            )
    at: dict[int, int] = {}
    for index, group in enumerate(groups):
        if not group:
            raise mistake(f"In step {step} one of your groups is empty: that is a forward of nothing.")
        positions = {request.context_len for request in group}
        if len(positions) > 1:
            raise mistake(
                f"In step {step} requests at the positions {', '.join(map(str, sorted(positions)))} share a group: "
                f"in position-grouped decoding one forward has one position."
            )
        if at.setdefault(group[0].context_len, index) != index:
            raise mistake(
                f"In step {step} two groups are at position {group[0].context_len}: those requests can share one "
                f"forward, and a forward is what costs time."
            )


def budget(number: Any) -> None:
    """A prefill budget that keeps both promises, tried out on cards."""
    if isinstance(number, bool) or not isinstance(number, int):
        raise Mistake("A budget is a whole number of tokens.", actual=number)
    if number < 1:
        raise Mistake(f"A budget of {number} tokens computes nothing, so no prompt would ever be ready.")
    largest, steps = _stall(_long_beside_streams(number))
    if largest > MOST_TOKENS:
        raise Mistake(
            f"With a budget of {number:,} a stream waits while {largest:,} prompt tokens are computed, and at most "
            f"{MOST_TOKENS} are allowed: take a smaller one."
        )
    if steps > MOST_STEPS:
        raise Mistake(
            f"With a budget of {number:,} the long prompt has its first token only in its step {steps}, and at most "
            f"{MOST_STEPS} are allowed: take a larger one."
        )


def _long_beside_streams(number: int) -> EventLog:
    cards = (card(10, 3, 40), card(20, 3, 40), card(1000, LONG, 3, 3))
    return play(InferenceScheduler, cards, 3, max_seq_len=LONG + 64, prefill_budget=number)


def _stall(log: EventLog) -> tuple[int, int]:
    """The most tokens of the long prompt that one step computed, and the steps from its arrival to its first token."""
    computed: Counter[int] = Counter()
    arrived = first = 0
    for record in log.records:
        match record.event:
            case RequestArrived(request_id) if request_id == LONG_ID:
                arrived = record.step
            case Prefilled(request_id, start=start, end=end) if request_id == LONG_ID:
                computed[record.step] += end - start
            case FirstTokenSampled(request_id) if request_id == LONG_ID:
                first = record.step
    return max(computed.values()), first - arrived + 1
