"""What the checks of chapter 11 run a learner's part on: rows in a tree, a scheduler without a model, an end to loops.

No tensor is needed: what is compared are trees and traces.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import Any

from astrai.config import SamplingParams
from astrai.course.mistakes import Mistake
from astrai.inference.cache.prefix_cache import PrefixCacheManager
from astrai.inference.cache.radix_tree import RadixTree, common_prefix_len
from astrai.inference.cache.slots import Handle, SlotAllocator
from astrai.inference.request import PrefillChunk, Request, Sampled
from astrai.inference.scheduler import InferenceScheduler
from astrai.trace.events import RequestHeld
from astrai.trace.jsonl import Record
from astrai.trace.log import EventLog

Ids = tuple[int, ...]
TREE = RadixTree.__module__
MOST_LINES = 200_000
MOST_STEPS = 300
ENDLESS = "Your code never comes to an end: a loop goes round and round. What changes from one turn to the next?"


class Typist:
    """A runner that writes nothing and always samples token 0."""

    def copy(self, copies: Sequence[Any]) -> None:
        """Nothing to do: there are no rows."""

    def prefill(self, chunks: Sequence[PrefillChunk]) -> list[Sampled | None]:
        """A first token where a prompt is complete."""
        return [Sampled(0) if chunk.end == chunk.request.prompt_len else None for chunk in chunks]

    def decode(self, requests: Sequence[Request]) -> list[Sampled]:
        """A token for each."""
        return [Sampled(0) for _ in requests]


@contextmanager
def bounded(thing: Any, sentence: str) -> Iterator[None]:
    """Raise ``Mistake(sentence)`` inside of a learner's code, or the tree's, when it goes round and round.

    Lines are counted, not seconds: a slow machine is no mistake.
    """
    watched = {"__main__", TREE, getattr(thing, "__module__", None)}
    left = MOST_LINES

    def count(frame: FrameType, event: str, argument: Any) -> Any:
        nonlocal left
        left -= event == "line"
        if left < 0:
            raise Mistake(sentence)
        return count

    def enter(frame: FrameType, event: str, argument: Any) -> Any:
        return count if frame.f_globals.get("__name__") in watched else None

    before = sys.gettrace()
    sys.settrace(enter)
    try:
        yield
    finally:
        sys.settrace(before)


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
    log = EventLog(num_slots)
    cache = PrefixCacheManager(SlotAllocator(num_slots), tree())
    loop = scheduler(Typist(), cache, max_seq_len=64, emit=log.emit, **settings)
    for number, prompt in enumerate(prompts):
        loop.submit(Request(number, prompt, SamplingParams(max_tokens=3)))
        if not together:
            _run_to_the_end(loop)
    _run_to_the_end(loop)
    return log


def _run_to_the_end(loop: InferenceScheduler) -> None:
    last = loop.step_count + MOST_STEPS
    while loop.has_work:
        loop.step()
        if loop.step_count > last:
            stuck = ", ".join(map(str, [*loop.waiting, *loop.running]))
            raise Mistake(
                f"After {MOST_STEPS} steps the request(s) {stuck} are still not done. A request may wait only for "
                f"one that is running: two that wait for each other, or for themselves, wait for ever."
            )


def without_holds(log: EventLog) -> list[Record]:
    """All records but those that say who waits for whom: there may be several to choose from."""
    return [record for record in log.records if not isinstance(record.event, RequestHeld)]
