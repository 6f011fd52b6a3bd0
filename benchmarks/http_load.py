"""Many clients at once, good ones and bad ones, and what each must get: the text that its prompt gives alone.

Some clients go away in the middle and some read slowly. Prompts are kept only if no two tokens tie anywhere on the way,
since the order in which a batch adds numbers may decide a tie either way.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from astrai.config import SamplingParams
from astrai.inference.engine import GenerationRequest, InferenceEngine
from benchmarks.sse import Answer, Ask

TIE = 1e-3  # two log-probabilities that are nearer than this count as the same
CHARACTERS = ["mouse", "fox", "bear", "mole", "hen", "camel", "little owl", "old goat", "snail", "kind wolf"]
THINGS = ["kite", "red hat", "silver bell", "lantern", "boat", "pot of honey", "drum", "key", "blue umbrella", "map"]
OPENINGS = [
    "Once upon a time",
    "Tell me a story about a {who}.",
    "One morning, a {who} found a {what}.",
    "There was a {who} who wanted a {what}. One day, the {who} went to the market and",
    "The {who} lost a {what} in the snow. A {who} and a {who} came by, and they all looked for it. Then",
]


@dataclass(frozen=True, slots=True)
class Solo:
    """A request and what it gives when nothing else runs."""

    path: str
    body: dict[str, Any]
    text: str
    finish_reason: str


def prompts(rng: random.Random) -> Iterable[tuple[str, int]]:
    """Prompts of mixed lengths without end, with the most tokens that each may get."""
    while True:
        opening = rng.choice(OPENINGS)
        yield opening.format(who=rng.choice(CHARACTERS), what=rng.choice(THINGS)), rng.choice([4, 8, 16, 32, 64, 96])


def solos(engine: InferenceEngine, model: str, candidates: Iterable[tuple[str, int]], count: int) -> list[Solo]:
    """The first ``count`` candidates that never come to a tie, chats and completions in turn, each computed alone."""
    found: dict[tuple[str, str, int], Solo] = {}
    for prompt, max_tokens in candidates:
        is_chat = len(found) % 2 == 0
        path = "/v1/chat/completions" if is_chat else "/v1/completions"
        messages = [{"role": "user", "content": prompt}]
        given: dict[str, Any] = {"messages": messages} if is_chat else {"prompt": prompt}
        sampling = SamplingParams(max_tokens=max_tokens, logprobs=2)
        result = engine.generate_with_request(GenerationRequest(**given, sampling=sampling))
        assert result.finish_reason in ("stop", "length"), result.error
        if all(best[1] - second[1] > TIE for best, second in result.top_logprobs):
            body = {"model": model, **given, "max_tokens": max_tokens, "temperature": 0, "stream": True}
            found[path, prompt, max_tokens] = Solo(path, body, result.text, result.finish_reason)
        if len(found) == count:
            break
    return list(found.values())


@dataclass(frozen=True, slots=True)
class Client:
    """One stream of a load, and what it must give."""

    solo: Solo
    ask: Ask

    @property
    def kind(self) -> str:
        """``leaves``, ``slow`` or ``stays``."""
        if self.ask.leaves_after is not None:
            return "leaves"
        return "slow" if self.ask.reads_slowly_for else "stays"

    def complaint(self, answer: Answer) -> str | None:
        """What is wrong with the answer, if anything."""
        if self.kind == "leaves" and not answer.status:
            return None
        if answer.status != 200 or answer.error:
            return f"status {answer.status}, error {answer.error}"
        if self.kind == "leaves":
            return None if self.solo.text.startswith(answer.text) else f"{answer.text!r} is not how the story begins"
        if not (answer.is_whole and answer.has_done):
            return f"cut short: {answer.text!r}"
        if (answer.text, answer.finish_reason) != (self.solo.text, self.solo.finish_reason):
            return f"{answer.text!r} ({answer.finish_reason}) instead of {self.solo.text!r} ({self.solo.finish_reason})"
        return None


def crowd(
    solo: Sequence[Solo], count: int, seed: int, leaving: float = 0.1, slow: float = 0.05, slow_for: float = 2.0
) -> list[Client]:
    """``count`` clients; of these the shares that leave and that read slowly are exact, who it is is drawn."""
    rng = random.Random(seed)
    num_leaving, num_slow = round(count * leaving), round(count * slow)
    kinds = ["leaves"] * num_leaving + ["slow"] * num_slow + ["stays"] * (count - num_leaving - num_slow)
    rng.shuffle(kinds)
    return [_client(rng, rng.choice(solo), kind, slow_for) for kind in kinds]


def _client(rng: random.Random, solo: Solo, kind: str, slow_for: float) -> Client:
    if kind == "leaves":
        leaves_after = rng.choice([0, 1, rng.randrange(1_000), rng.randrange(10_000)])
        return Client(solo, Ask(solo.path, solo.body, leaves_after, is_rude=rng.random() < 0.5))
    if kind == "slow":  # with much to read, so that it does not all fit into what the kernel keeps
        is_chat = "messages" in solo.body
        logprobs = {"logprobs": True, "top_logprobs": 20} if is_chat else {"logprobs": 20}
        return Client(solo, Ask(solo.path, {**solo.body, **logprobs, "n": 4}, reads_slowly_for=slow_for))
    return Client(solo, Ask(solo.path, solo.body))


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a crowd."""

    kinds: Counter[str]
    complaints: list[str]

    @classmethod
    def of(cls, clients: Sequence[Client], answers: Sequence[Answer]) -> Outcome:
        """One answer a client."""
        pairs = list(zip(clients, answers, strict=True))
        complaints = [f"{client.kind}: {said}" for client, answer in pairs if (said := client.complaint(answer))]
        return cls(Counter(client.kind for client in clients), complaints)
