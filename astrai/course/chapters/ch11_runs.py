"""What the checks of chapter 11 run a learner's part on: rows in a tree, a scheduler without a model.

No tensor is needed: what is compared are trees and traces.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Any

from astrai.config import SamplingParams
from astrai.course.cards import Card, Table
from astrai.course.mistakes import Mistake
from astrai.inference.cache.radix_tree import RadixTree, common_prefix_len
from astrai.inference.cache.slots import Handle
from astrai.inference.request import Request
from astrai.inference.scheduler import InferenceScheduler
from astrai.trace.events import RequestAdmitted, RequestHeld
from astrai.trace.jsonl import Record
from astrai.trace.log import EventLog

Ids = tuple[int, ...]
MOST_STEPS = 300


def grown(make_tree: Callable[[], RadixTree], rows: Sequence[Ids]) -> RadixTree:
    """A tree in which slot ``i`` holds ``rows[i]``."""
    tree = make_tree()
    for slot, row in enumerate(rows):
        tree.insert(Handle(slot, 1), row)
    return tree


def longest(rows: Sequence[Ids], prompt: Ids) -> int:
    """How many tokens of a prompt the best row has, the slow way."""
    return max((common_prefix_len(row, prompt) for row in rows), default=0)


def holders(rows: Sequence[Ids], prompt: Ids, length: int) -> int:
    """The rows that have the first ``length`` tokens of a prompt, as a bitmask."""
    return sum(1 << slot for slot, row in enumerate(rows) if length and row[:length] == prompt[:length])


def example(rows: Sequence[Ids], prompt: Ids) -> str:
    """A case in words."""
    return f"The rows hold {', '.join(map(str, rows))}, and the prompt is {prompt}."


def random_ids(draw: random.Random, longest: int = 6) -> Ids:
    """One to ``longest`` tokens, of three different ones, so that beginnings are shared."""
    return tuple(draw.randrange(1, 4) for _ in range(draw.randint(1, longest)))


def play(
    prompts: Sequence[Ids],
    tree: Callable[[], RadixTree] = RadixTree,
    scheduler: Callable[..., InferenceScheduler] = InferenceScheduler,
    num_slots: int = 8,
    together: bool = True,
    **settings: Any,
) -> EventLog:
    """The trace of a run: prompts that arrive together, or one by one, each with three tokens of answer.

    Raises:
        Mistake: requests are left that never run.
    """
    table = Table(scheduler, [Card(prompt, tokens=3) for prompt in prompts], num_slots, tree=tree, **settings)
    loop, log = table.scheduler, table.log
    for number, prompt in enumerate(prompts):
        loop.submit(Request(number, prompt, SamplingParams(max_tokens=3)))
        if not together:
            _run_to_the_end(loop, log)
    _run_to_the_end(loop, log)
    return log


def events_of(log: EventLog, *kinds: type) -> list[Any]:
    """The events of these kinds, in their order."""
    return [record.event for record in log.records if isinstance(record.event, kinds)]


def _run_to_the_end(loop: InferenceScheduler, log: EventLog) -> None:
    last = loop.step_count + MOST_STEPS
    while loop.has_work:
        try:
            loop.step()
        except AssertionError as error:
            _blame_two_rows(log, error)
            raise
        if loop.step_count > last:
            raise Mistake(_why_stuck(loop, log))
    _blame_two_rows(log)


def _why_stuck(loop: InferenceScheduler, log: EventLog) -> str:
    if not events_of(log, RequestAdmitted, RequestHeld):
        return (
            "No request ever gets a row: `_admit` is never reached. While nothing runs there is no leader, so the "
            "first request must be admitted."
        )
    stuck = ", ".join(map(str, [*loop.waiting, *loop.running]))
    return (
        f"After {MOST_STEPS} steps the request(s) {stuck} are still not done. A request may wait only for one that is "
        f"running: two that wait for each other, or for themselves, wait for ever."
    )


def _blame_two_rows(log: EventLog, error: Exception | None = None) -> None:
    admitted = [event.request_id for event in events_of(log, RequestAdmitted)]
    twice = next((number for number in admitted if admitted.count(number) > 1), None)
    if twice is not None:
        raise Mistake(
            f"Request {twice} got two rows: `_admit` was called twice for it. Once it is admitted, `place` is done."
        ) from error


def without_holds(log: EventLog) -> list[Record]:
    """All records but those that say who waits for whom: there may be several to choose from."""
    return [record for record in log.records if not isinstance(record.event, RequestHeld)]
