"""Small runs on cards, for checks: the real scheduler and cache, and a model that reads its answers off the cards."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from astrai.config import SamplingParams
from astrai.course.mistakes import Mistake
from astrai.inference.cache.prefix_cache import PrefixCacheManager
from astrai.inference.cache.radix_tree import PrefixTree, RadixTree
from astrai.inference.cache.slots import SlotAllocator, Slots
from astrai.inference.request import PrefillChunk, Request, Sampled
from astrai.inference.scheduler import InferenceScheduler
from astrai.trace.events import PrefixCopied
from astrai.trace.log import EventLog

Kind = Callable[..., InferenceScheduler]
Run = tuple[tuple["Card", ...], dict[str, Any]]  # the cards, and the settings of ``play``
EOS = 1
MOST_STEPS = 100


@dataclass(frozen=True, slots=True)
class Card:
    """One request: the step in which it arrives, its prompt, its number of tokens, and when its client cancels."""

    prompt: tuple[int, ...]
    tokens: int
    step: int = 1
    cancelled: int | None = None


def card(first: int, length: int, tokens: int, step: int = 1, cancelled: int | None = None) -> Card:
    """A card whose prompt begins with the token ``first``, so that no two prompts share a beginning."""
    return Card(tuple(range(first, first + length)), tokens, step, cancelled)


class CardRunner:
    """Computes nothing: request ``i`` gets made-up tokens, and EOS as the last one that its card allows."""

    def __init__(self, cards: Sequence[Card]) -> None:
        self.cards = cards

    def copy(self, copies: Sequence[PrefixCopied]) -> None:
        """Nothing to do."""

    def prefill(self, chunks: Sequence[PrefillChunk]) -> list[Sampled | None]:
        """The first token of each prompt that is complete."""
        return [self._next(chunk.request) if chunk.end == chunk.request.prompt_len else None for chunk in chunks]

    def decode(self, requests: Sequence[Request]) -> list[Sampled]:
        """The next token of each."""
        return [self._next(request) for request in requests]

    def _next(self, request: Request) -> Sampled:
        count = len(request.output_ids) + 1
        is_last = count >= self.cards[request.request_id].tokens
        return Sampled(EOS if is_last else 1000 * (request.request_id + 1) + count)


class Table:
    """A scheduler at work on cards, one phase after the other. Its parts can be a learner's, as an engine's can."""

    def __init__(
        self,
        kind: Kind,
        cards: Sequence[Card],
        num_slots: int,
        *,
        slots: Callable[[int], Slots] = SlotAllocator,
        tree: Callable[[], PrefixTree] = RadixTree,
        prefix_cache: Callable[..., PrefixCacheManager] = PrefixCacheManager,
        max_seq_len: int = 64,
        **settings: Any,
    ) -> None:
        self.cards = cards
        self.log = EventLog(num_slots)
        self.scheduler = kind(
            CardRunner(cards),
            prefix_cache(slots(num_slots), tree()),
            max_seq_len=max_seq_len,
            eos_ids=(EOS,),
            emit=self.log.emit,
            **settings,
        )

    def steps(self) -> Iterator[InferenceScheduler]:
        """Deal the cards of each step and begin it; whoever asks runs the four phases before asking on.

        Raises:
            Mistake: it comes to no end.
        """
        scheduler = self.scheduler
        last = max(max(card.step, card.cancelled or 0) for card in self.cards)
        for step in range(1, last + MOST_STEPS):
            for number, card in enumerate(self.cards):
                if card.step == step:
                    scheduler.submit(Request(number, card.prompt, SamplingParams(max_tokens=50)))
                if card.cancelled == step:
                    scheduler.cancel(number)
            scheduler.start_step()
            yield scheduler
            if step >= last and not scheduler.has_work:
                return
        steps, left = scheduler.step_count, f"waiting: {list(scheduler.waiting)}, running: {list(scheduler.running)}"
        raise Mistake(f"After {steps} steps there are still requests that have not ended ({left}).")


def play(kind: Kind, cards: Sequence[Card], num_slots: int, **settings: Any) -> EventLog:
    """The whole run."""
    table = Table(kind, cards, num_slots, **settings)
    for scheduler in table.steps():
        scheduler.cleanup()
        scheduler.refill()
        scheduler.prefill()
        scheduler.decode()
    return table.log


def shared_len(one: Sequence[int], other: Sequence[int]) -> int:
    """How many tokens two prompts share at their beginning, counted one by one."""
    count = 0
    with suppress(IndexError):
        while one[count] == other[count]:
            count += 1
    return count
