"""Small runs of the real engine for the checks of chapter 00."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from astrai.inference.engine import InferenceEngine


def engine_for(**parts: Any) -> InferenceEngine:
    """A small engine that is stepped by hand."""
    import astrai

    return astrai.InferenceEngine(*astrai.load("tiny"), num_slots=4, start=False, **parts)


def run(engine: InferenceEngine, asked: Sequence[dict[str, Any]], max_tokens: int) -> list[Any]:
    """Hand all requests in, step until they have ended, and return their results."""
    from astrai.config import SamplingParams
    from astrai.inference.engine import GenerationRequest

    sampling = SamplingParams(max_tokens=max_tokens)
    streams = [engine.submit(GenerationRequest(sampling=sampling, **one)) for one in asked]
    while engine.scheduler.has_work:
        engine.scheduler.step()
    return [stream.result() for stream in streams]
