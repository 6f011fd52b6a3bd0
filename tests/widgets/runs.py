"""Runs of the real scheduler to draw: one over a scripted runner with everything in it, one of the bundled model.

Only the clock is made up, so that the same run has the same times on any machine.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from functools import cache
from typing import Any, NamedTuple

import astrai
from astrai.config import SamplingParams
from astrai.inference.cache.prefix_cache import PrefixCacheManager
from astrai.inference.cache.radix_tree import RadixTree
from astrai.inference.cache.slots import SlotAllocator
from astrai.inference.engine import GenerationRequest, InferenceEngine
from astrai.inference.inbox import QueueFullError
from astrai.inference.request import Request
from astrai.inference.scheduler import InferenceScheduler
from astrai.trace.events import Event, PhaseEnded, PhaseStarted, Prefilled, TokensDecoded
from astrai.trace.log import EventLog
from astrai.widgets.data.texts import Decode
from tests.inference.scripted import ScriptedRunner

NAMES = "Mia Tom Ada Ben said went home ran sat sang saw found lost gave took"
THINGS = "the a fox hen boat kite moon star tree house river stone apple bread small big red blue old new happy sad"
OTHERS = "and but so then one two three day night . , ! ?"
WORDS = [*NAMES.split(), *THINGS.split(), *OTHERS.split(), "\n"]
VOCABULARY = len(WORDS)


def words(ids: Sequence[int]) -> str:
    """Text of the ids of a scripted run."""
    return "".join(f" {WORDS[token_id]}" for token_id in ids)


class Clock:
    """Seconds that pass as work is done: 20 microseconds an event, 50 a prefilled token, 90 a decoded one and so on."""

    def __init__(self) -> None:
        self.now = 100.0
        self._phase_began = 0.0

    def __call__(self) -> float:
        return self.now

    def emit_to(self, log: EventLog) -> Any:
        """An ``emit`` that lets time pass, and gives phases the seconds that have passed."""

        def emit(event: Event) -> None:
            self.now += 20e-6
            match event:
                case PhaseStarted():
                    self._phase_began = self.now
                case Prefilled(start=start, end=end):
                    self.now += 50e-6 * (end - start)
                case TokensDecoded(slots=slots):
                    self.now += 400e-6 + 90e-6 * len(slots)
                case PhaseEnded():
                    event = replace(event, seconds=self.now - self._phase_began)
            log.emit(event)

        return emit


class ScriptedRun:
    """A real scheduler over rows of tokens, and clients that come, go on with their chats, and go away.

    Prompts share their beginnings; ``capacity_tokens`` and the number of slots make it forget. Everything that is drawn
    by chance comes from ``seed``.
    """

    def __init__(
        self,
        seed: int = 0,
        *,
        num_slots: int = 6,
        row_len: int = 96,
        capacity_tokens: int | None = 160,
        capacity: int = 1 << 20,
        load: float = 0.3,
        enabled: bool = True,
        **settings: Any,
    ) -> None:
        self.random = random.Random(seed)
        self.row_len = row_len
        self.load = load
        self.clock = Clock()
        header = {"engine_config": {"max_seq_len": row_len}}
        self.log = EventLog(num_slots, capacity, self.clock, header)
        self.runner = ScriptedRunner(num_slots, row_len, VOCABULARY)
        self.scheduler = InferenceScheduler(
            self.runner,
            PrefixCacheManager(SlotAllocator(num_slots), RadixTree(), capacity_tokens, enabled),
            max_seq_len=row_len,
            emit=self.clock.emit_to(self.log),
            clock=self.clock,
            **{"prefill_budget": 24, "max_waiting": 6, "eos_ids": (VOCABULARY - 1,), **settings},
        )
        self.requests: list[Request] = []
        self._stems = [self._ids(length) for length in (30, 30, 18)]

    def step(self) -> None:
        """Clients act, then the loop turns once."""
        if self.random.random() < self.load:
            for _ in range(self.random.choice((1, 1, 1, 2, 4))):
                self._ask()
        if self.requests and self.random.random() < 0.04:
            self.scheduler.cancel(self.random.choice(self.requests[-8:]).request_id)
        if self.random.random() < 0.01:
            self.runner.fail_next = {self.random.choice(("copy", "prefill", "decode"))}
        self.scheduler.step()

    def _ask(self) -> None:
        ended = [request for request in self.requests[-12:] if request.is_finished]
        kind = self.random.random()
        if kind < 0.25 and ended:  # the next turn of a chat
            before = self.random.choice(ended)
            prompt = (*before.prompt_ids, *before.output_ids, *self._ids(self.random.randint(1, 6)))
        elif kind < 0.4 and self.requests:  # the same again
            prompt = self.random.choice(self.requests[-12:]).prompt_ids
        elif kind < 0.85:
            prompt = (*self.random.choice(self._stems), *self._ids(self.random.randint(1, 12)))
        else:
            prompt = self._ids(self.random.randint(1, 40))
        deadline = self.clock() + 0.02 if self.random.random() < 0.05 else None
        with suppress(QueueFullError):
            self.submit(tuple(prompt[: self.row_len - 1]), self.random.choice((0, 1, 3, 8, 20, 40)), deadline)

    def submit(self, prompt_ids: tuple[int, ...], max_tokens: int = 8, deadline: float | None = None) -> Request:
        """One more request; ids count from 0."""
        request = Request(len(self.requests), prompt_ids, SamplingParams(max_tokens=max_tokens), deadline=deadline)
        self.scheduler.submit(request)
        self.requests.append(request)
        return request

    def _ids(self, count: int) -> tuple[int, ...]:
        return tuple(self.random.randrange(VOCABULARY) for _ in range(count))


def scripted_log(seed: int = 0, steps: int = 300, **settings: Any) -> EventLog:
    """The log of a :class:`ScriptedRun`. ``words`` decodes it.

    With ``capacity`` (of the log, in events) below the length of the run, its beginning has left the ring.
    """
    run = ScriptedRun(seed, **settings)
    for _ in range(steps):
        run.step()
    return run.log


def busy_log(num_slots: int, row_len: int, steps: int = 60, seed: int = 0) -> EventLog:
    """Many long rows, all in use or remembered: as full as a picture can get. ``words`` decodes it."""
    return scripted_log(
        seed,
        steps,
        num_slots=num_slots,
        row_len=row_len,
        capacity_tokens=None,
        load=1.0,
    )


# --- the bundled model ------------------------------------------------------------------------------------------------


class Story(NamedTuple):
    """A log, and the function that turns its tokens into text."""

    log: EventLog
    decode: Decode


RULES = "You are Astra, a little storyteller. Use simple words. Every story has a happy end."
QUESTIONS = ("Tell me a story about a fox.", "Tell me a story about a kite.", "Tell me a story about a fox and a boat.")


@cache
def story_log() -> Story:
    """Three chats with one system message arrive together; when all have ended, each goes on with a second question.

    Made once in a test session; change nothing in it.
    """
    model, tokenizer = astrai.load("tiny")
    engine = InferenceEngine(model, tokenizer, num_slots=4, start=False)
    clock = Clock()
    log = EventLog(4, clock=clock, header=engine.trace.header)
    engine.scheduler.emit = clock.emit_to(log)
    chats = [[{"role": "system", "content": RULES}, {"role": "user", "content": text}] for text in QUESTIONS]
    for chat, answer in zip(chats, _answers(engine, chats, max_tokens=60), strict=True):
        chat += [{"role": "assistant", "content": answer}, {"role": "user", "content": "What happened then?"}]
    _answers(engine, chats, max_tokens=24)
    return Story(log, lambda ids: tokenizer.decode(ids, skip_special=False))


def _answers(engine: InferenceEngine, chats: Sequence[list[dict[str, str]]], max_tokens: int) -> list[str]:
    sampling = SamplingParams(max_tokens=max_tokens)
    streams = [engine.submit(GenerationRequest(messages=chat, sampling=sampling)) for chat in chats]
    while engine.scheduler.has_work:
        engine.scheduler.step()
    return [stream.result(timeout=0).text for stream in streams]
