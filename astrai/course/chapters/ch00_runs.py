"""Small runs of the real engine for the cells and the checks of chapter 00."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from astrai.course.measuring import in_turn

if TYPE_CHECKING:
    from astrai.inference.engine import GenerationResult, InferenceEngine


def engine_for(**parts: Any) -> InferenceEngine:
    """A small engine that is stepped by hand."""
    import astrai

    return astrai.InferenceEngine(*astrai.load("tiny"), num_slots=4, start=False, **parts)


def run(engine: InferenceEngine, asked: Sequence[dict[str, Any]], max_tokens: int) -> list[GenerationResult]:
    """Hand all requests in, step until they have ended, and return their results."""
    from astrai.config import SamplingParams
    from astrai.inference.engine import GenerationRequest

    sampling = SamplingParams(max_tokens=max_tokens)
    streams = [engine.submit(GenerationRequest(sampling=sampling, **one)) for one in asked]
    while engine.scheduler.has_work:
        engine.scheduler.step()
    return [stream.result() for stream in streams]


def three_users(
    engine: InferenceEngine, make_messages: Callable[..., Any], rules: str, questions: Sequence[str]
) -> list[GenerationResult]:
    """Ada, Ben and Clara, one after the other, on an engine that is stepped by hand. Prints what was found of each."""
    results = []
    for name, question in zip(("Ada", "Ben", "Clara"), questions, strict=True):
        (result,) = run(engine, [{"messages": make_messages(rules, name, question)}], max_tokens=9)
        print(f"{name:<6} {result.cached_tokens:>3} of {result.prompt_tokens} found in the cache")
        results.append(result)
    return results


def first_token_ms(engines: Sequence[InferenceEngine], prompt_ids: Sequence[int], rounds: int = 10) -> list[float]:
    """Milliseconds to the first token of a prompt on each engine: the fastest of ``rounds``, after one to warm up.

    The engines, which are stepped by hand, are asked in turn, on one thread: what disturbs one disturbs the other.
    """
    asked = {number: partial(_ttft, engine, prompt_ids) for number, engine in enumerate(engines)}
    return [1000 * min(times[1:]) for times in in_turn(asked, rounds + 1).values()]


def _ttft(engine: InferenceEngine, prompt_ids: Sequence[int]) -> float:
    (result,) = run(engine, [{"prompt": prompt_ids}], max_tokens=1)
    assert result.ttft is not None
    return result.ttft
