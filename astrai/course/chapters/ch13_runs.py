"""The story of the fox and the frog on the real engine, for the checks of chapter 13."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from astrai.course.mistakes import Mistake

if TYPE_CHECKING:
    from astrai.inference.engine import InferenceEngine

FOX, FROG = "Tell me a story about a fox.", "Tell me a story about a frog."
MOST_STEPS = 100  # a question takes 17


@functools.cache
def model() -> tuple[Any, Any]:
    import astrai

    return astrai.load("tiny")


def new_engine(**parts: Any) -> InferenceEngine:
    from astrai.inference.engine import InferenceEngine

    return InferenceEngine(*model(), num_slots=1, start=False, **parts)


@functools.cache
def _alone(question: str) -> str:
    """What a fresh engine answers, which remembers nobody."""
    return ask(new_engine(), question)[0]


def ask(engine: InferenceEngine, *questions: str, max_tokens: int = 16) -> Sequence[str]:
    """The first sentence of each answer (it has 16 tokens), all asked at once."""
    from astrai.config import SamplingParams
    from astrai.inference.engine import GenerationRequest

    chats = [[{"role": "user", "content": text}] for text in questions]
    sampling = SamplingParams(max_tokens=max_tokens)
    streams = [engine.submit(GenerationRequest(messages=chat, sampling=sampling)) for chat in chats]
    for _ in range(MOST_STEPS):
        if engine.scheduler.has_work:
            engine.scheduler.step()
    if engine.scheduler.has_work:
        raise Mistake(f"After {MOST_STEPS} steps the engine still has no answer to {questions}.")
    return [stream.result().text for stream in streams]


def told(name: str, question: str, answer: str) -> None:
    """Make sure that the answer is what the question gets on a fresh engine."""
    if answer != _alone(question):
        asked = question.split()[-1].rstrip(".")
        raise Mistake(
            f"On the real engine {name} asks for a {asked} and reads what is not meant for {name}.",
            expected=_alone(question),
            actual=answer,
        )
