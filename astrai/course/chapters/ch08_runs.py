"""What the checks of chapter 08 share: a small run of the engine, and an end for loops that have none."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from astrai.course.mistakes import Mistake

MOST_LINES = 400_000  # of the learner's own code in one check: a right answer takes a tenth of it
TURNS = ((1, 2, 3), (1, 2, 3, 5, 5, 5), (4,), (6, 7), (1, 2, 3, 5, 6), (8, 9), (4, 4))  # prompts of the small run


class Endless(BaseException):
    """The learner's code does not end. Not an ``Exception``: nothing on the way shall take it for its own."""


def small_run(**parts: Any) -> Any:
    """The trace of a few short chats on three rows of a tiny random model, two of them always at once."""
    from astrai.config import ModelConfig, SamplingParams
    from astrai.inference.engine import GenerationRequest, InferenceEngine
    from astrai.model.transformer import Transformer

    config = ModelConfig(
        vocab_size=16,
        hidden_size=8,
        num_layers=1,
        num_heads=2,
        num_kv_heads=1,
        head_dim=4,
        intermediate_size=8,
        max_seq_len=32,
    )
    engine = InferenceEngine(Transformer.random(config, seed=8), num_slots=3, start=False, **parts)
    for number, prompt in enumerate(TURNS):
        engine.submit(GenerationRequest(prompt=list(prompt), sampling=SamplingParams(max_tokens=3)))
        while number % 2 and engine.scheduler.has_work:
            engine.scheduler.step()
    while engine.scheduler.has_work:
        engine.scheduler.step()
    return engine.trace


@contextmanager
def ending(thing: Any) -> Iterator[None]:
    """Stop the learner's code after very many lines: a loop that never ends would freeze the notebook."""
    module, left = getattr(thing, "__module__", None), MOST_LINES

    def count(frame: FrameType, event: str, argument: Any) -> Any:
        nonlocal left
        left -= 1
        if left < 0:
            raise Endless(frame.f_lineno)
        return count

    def watch(frame: FrameType, event: str, argument: Any) -> Any:
        return count if frame.f_globals.get("__name__") == module else None

    before = sys.gettrace()
    sys.settrace(watch)
    try:
        yield
    except Endless as error:
        raise Mistake(
            f"Your code does not come to an end: look at the loop around line {error}. Does what it waits for ever "
            "come true?"
        ) from None
    finally:
        sys.settrace(before)
