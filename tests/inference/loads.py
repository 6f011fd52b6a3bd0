"""Random loads on a whole engine: who asks for what, when, and who goes away before it is done.

A load is drawn from a seed before anything runs, in steps of the scheduler rather than in seconds, so that the same
load can be given to engines of any setting, and a failure can be run again.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from astrai.config import ModelConfig, SamplingParams
from astrai.inference.engine import GenerationRequest, GenerationResult, GenerationStream, InferenceEngine

BUDGETS = [1, 2, 3, 5, 8, 16, 64, 512]  # prompt tokens per step: 1 computes every prompt token by token


@dataclass(frozen=True)
class Turn:
    """One request of a load, and what its client does."""

    prompt_ids: tuple[int, ...]
    sampling: SamplingParams
    arrives: int  # in this step, or when the turn that it follows has ended, whichever is later
    cancelled_after: int | None = None  # steps
    follows: int | None = None  # the prompt is then the whole of that conversation, and ``prompt_ids``


class Played(NamedTuple):
    """A request that has ended."""

    prompt_ids: tuple[int, ...]
    sampling: SamplingParams
    result: GenerationResult


def random_load(rng: random.Random, config: ModelConfig, count: int) -> list[Turn]:
    """``count`` greedy requests: many prompts begin alike, some continue what another one gave, some are cancelled."""
    room = rng.choice([8, 16, config.max_seq_len - 2])
    stems = [_random_ids(rng, config, room) for _ in range(rng.randint(1, 3))]
    spread = rng.choice([0, 4, 20])  # steps over which they arrive: 0 is a burst
    load: list[Turn] = []
    for index in range(count):
        stem = rng.choice(stems)[: rng.randint(0, room - 1)]
        load.append(
            Turn(
                prompt_ids=(*stem, *_random_ids(rng, config, rng.randint(1, min(8, room - len(stem))))),
                sampling=SamplingParams(max_tokens=rng.choice([0, 1, 2, 3, 4, 6, 8, 8, 12, 100])),
                arrives=rng.randint(0, spread),
                cancelled_after=rng.randint(0, 8) if rng.random() < 0.15 else None,
                follows=rng.randrange(index) if index and rng.random() < 0.2 else None,
            )
        )
    return load


def random_settings(rng: random.Random) -> dict[str, Any]:
    """Settings of an engine, all of which must leave every token as it is."""
    num_slots = rng.choice([1, 2, 3, 4, 6, 8, 16])
    return dict(
        num_slots=num_slots,
        max_running=rng.choice([None, rng.randint(1, num_slots)]),
        capacity_tokens=rng.choice([None, None, 0, 20, 60]),
        prefill_budget=rng.choice(BUDGETS),
        trace_events=rng.choice([16, 200, 65_536]),
        poison=rng.random() < 0.8,
    )


def drive(engine: InferenceEngine, load: Sequence[Turn], after_step: Callable[[], None] = lambda: None) -> list[Played]:
    """Play a load on an engine that was not started, step by step, until all of it has ended."""
    client = _Client(engine, load)
    for step in range(5_000):
        client.act(step)
        if client.has_asked_all and not engine.scheduler.has_work:
            return client.played()
        engine.scheduler.step()
        after_step()
    raise AssertionError(f"still at work after 5,000 steps: {engine.stats()}")


def _random_ids(rng: random.Random, config: ModelConfig, count: int) -> tuple[int, ...]:
    return tuple(rng.randrange(config.vocab_size) for _ in range(count))


class _Client:
    """All clients of a load: submits and cancels when the time has come."""

    def __init__(self, engine: InferenceEngine, load: Sequence[Turn]) -> None:
        self.engine, self.load = engine, load
        self.prompts: dict[int, tuple[int, ...]] = {}
        self.streams: dict[int, GenerationStream] = {}
        self.submitted: dict[int, int] = {}  # in which step

    @property
    def has_asked_all(self) -> bool:
        return len(self.streams) == len(self.load)

    def act(self, step: int) -> None:
        for index, turn in enumerate(self.load):
            if index in self.streams:
                if turn.cancelled_after is not None and step == self.submitted[index] + turn.cancelled_after:
                    self.streams[index].cancel()
            elif step >= turn.arrives and (turn.follows is None or self._has_ended(turn.follows)):
                self._submit(index, step)

    def played(self) -> list[Played]:
        return [
            Played(self.prompts[index], turn.sampling, self.streams[index].result(timeout=0))
            for index, turn in enumerate(self.load)
        ]

    def _submit(self, index: int, step: int) -> None:
        turn, before = self.load[index], ()
        if turn.follows is not None:
            before = (*self.prompts[turn.follows], *self.streams[turn.follows].result(timeout=0).token_ids)
        prompt_ids = (*before, *turn.prompt_ids)[: self.engine.max_seq_len - 1]
        self.prompts[index], self.submitted[index] = prompt_ids, step
        self.streams[index] = self.engine.submit(GenerationRequest(prompt_ids, sampling=turn.sampling))

    def _has_ended(self, index: int) -> bool:
        return index in self.streams and self.streams[index].output.ending is not None
