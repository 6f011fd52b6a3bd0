"""The checks of decode and of the prefill budget in chapter 10."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from astrai.course.cards import Kind, Run, Table, card, play
from astrai.course.chapters.ch10_yours import in_words, with_own
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
    table = Table(with_own("plan_groups", Scheduler), cards, **settings)
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
        given = scheduler.plan_groups(list(rows))
        if given is None:
            raise Mistake("`plan_groups` returns nothing: is the `return` missing?", actual=given)
        if isinstance(given, dict):
            raise Mistake(
                "`plan_groups` returns a dictionary: its values are the groups, return those.", actual=_named(given)
            )
        try:
            groups = [list(group) for group in given]
        except TypeError:
            groups = [[given]]
    if any(not isinstance(request, Request) for group in groups for request in group):
        sentence = "`plan_groups` must return a list of groups, and each group must be a list of requests."
        raise Mistake(sentence, actual=_named(given))
    return groups


def _named(given: Any) -> Any:
    """The same with a few words for each request, to be read."""
    match given:
        case Request():
            return f"request {given.request_id}"
        case dict():
            return {key: _named(value) for key, value in given.items()}
        case list() | tuple():
            return [_named(item) for item in given]
    return given


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
    if isinstance(number, float):
        raise Mistake(f"{number} is a float, and a budget is a whole number of tokens: `//` divides to one.")
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
