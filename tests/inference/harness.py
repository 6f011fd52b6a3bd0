"""A whole scheduler over a scripted runner, checked after every step."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from astrai.config import SamplingParams
from astrai.inference.cache.prefix_cache import PrefixCacheManager
from astrai.inference.cache.radix_tree import RadixTree
from astrai.inference.cache.slots import SlotAllocator, slots_in
from astrai.inference.request import Ending, Request, Sampled, Sink
from astrai.inference.scheduler import InferenceScheduler
from astrai.inference.witness import take_snapshot
from astrai.trace.events import Event
from astrai.trace.replay import Replayer
from tests.inference.scripted import ScriptedRunner, reference


class Collector(Sink):
    """Keeps what it is given; can be told to raise at its n-th token, or to report a stop string there."""

    def __init__(self, raise_at: int | None = None, stop_at: int | None = None) -> None:
        self.tokens: list[int] = []
        self.endings: list[Ending] = []
        self.raise_at, self.stop_at = raise_at, stop_at

    def on_token(self, sampled: Sampled) -> bool:
        assert not self.endings, "a token after the end"
        self.tokens.append(sampled.token_id)
        if len(self.tokens) == self.raise_at:
            raise RuntimeError("planted failure in a callback")
        return len(self.tokens) == self.stop_at

    def on_end(self, ending: Ending) -> None:
        self.endings.append(ending)


class Harness:
    """Submit requests, step, and check every promise of cache, scheduler and trace on the way."""

    def __init__(
        self,
        num_slots: int = 4,
        max_seq_len: int = 32,
        vocab_size: int = 50,
        capacity_tokens: int | None = None,
        prefix_cache: bool = True,
        **settings: Any,
    ) -> None:
        self.now = 0.0
        self.max_seq_len, self.vocab_size = max_seq_len, vocab_size
        self.events: list[Event] = []
        self.replayer = Replayer(num_slots)
        self.runner = ScriptedRunner(num_slots, max_seq_len, vocab_size)
        self.cache = PrefixCacheManager(SlotAllocator(num_slots), RadixTree(), capacity_tokens, prefix_cache)
        self.scheduler = InferenceScheduler(
            self.runner, self.cache, max_seq_len=max_seq_len, emit=self._emit, clock=lambda: self.now, **settings
        )
        self.requests: list[Request] = []

    def _emit(self, event: Event) -> None:
        self.events.append(event)
        self.replayer.apply(event)

    def submit(
        self,
        prompt_ids: Sequence[int],
        max_tokens: int = 4,
        sink: Collector | None = None,
        deadline: float | None = None,
        **sampling: Any,
    ) -> Request:
        params = SamplingParams(max_tokens=max_tokens, **sampling)
        request = Request(len(self.requests), tuple(prompt_ids), params, sink or Collector(), deadline)
        self.scheduler.submit(request)
        self.requests.append(request)
        return request

    def step(self, times: int = 1) -> None:
        for _ in range(times):
            self.scheduler.step()
            self.now += 1
            self.check()

    def run(self, limit: int = 5000) -> None:
        """Step until nothing is left to do."""
        for _ in range(limit):
            if not self.scheduler.has_work:
                return
            self.step()
        raise AssertionError(f"still at work after {limit} steps: {take_snapshot(self.scheduler)}")

    def check(self) -> None:
        """The invariants, the truth test, and that each row's tokens are what the tree says."""
        self.scheduler.check_integrity()
        assert self.replayer.snapshot() == take_snapshot(self.scheduler)
        for slot in slots_in(self.cache.tree.holding):
            held = self.cache.tree.row_ids(slot)
            assert tuple(self.runner.rows[slot][: len(held)]) == held, f"slot {slot} does not hold {held}"

    def of_type(self, *types: type) -> list[Any]:
        return [event for event in self.events if isinstance(event, types)]

    def expected(self, request: Request) -> list[int]:
        """What the request gives when it runs alone and to its end."""
        stop_ids = {*request.sampling.stop_ids, *(() if request.sampling.ignore_eos else self.scheduler.eos_ids)}
        return reference(
            request.prompt_ids, request.sampling.max_tokens, self.max_seq_len, self.vocab_size, tuple(stop_ids)
        )

    def check_outputs(self) -> None:
        """Every request ended once, and what it gave is what it gives alone, or the beginning of that."""
        for request in self.requests:
            sink, expected = request.sink, self.expected(request)
            assert isinstance(sink, Collector) and sink.endings == [request.ending], f"{request}: {sink.endings}"
            assert sink.tokens == request.output_ids
            if request.ending.reason == "length" or (request.ending.reason == "stop" and sink.stop_at is None):
                assert request.output_ids == expected, f"{request} should have given {expected}"
            else:
                assert request.output_ids == expected[: len(request.output_ids)]
