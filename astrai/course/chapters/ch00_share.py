"""The check of 00.7: the share of all prompt tokens that was found in the cache."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from astrai.course.chapters.ch00_messages import RULES, USERS, well_ordered
from astrai.course.chapters.ch00_runs import engine_for, run
from astrai.course.mistakes import Mistake, same

CLOSE = 0.006  # so that a share rounded to two digits passes, and no other formula does


def share_found(results: Sequence[Any]) -> float:
    """The share of all prompt tokens that was found in the cache, from 0 to 1."""
    return sum(result.cached_tokens for result in results) / sum(result.prompt_tokens for result in results)


def hit_rate(yours: Callable[..., Any]) -> None:
    """Results whose share is computed by hand, then those of a real run, beside the engine's own figure."""
    for sizes in (((25, 5, 5), (10, 9, 7), (85, 26, 30)), ((40, 10, 3),), ((40, 0, 3), (70, 0, 2))):
        results = [_result(number, *size) for number, size in enumerate(sizes)]
        _look_at_share(yours(list(results)), results)  # a list of their own: they may take it apart
    engine = engine_for()
    chats = [{"messages": well_ordered(RULES, name, question)} for name, question in USERS]
    results = [run(engine, [chat], max_tokens=4)[0] for chat in chats]
    value = yours(list(results))
    _look_at_share(value, results)
    same(float(value), engine.stats().hit_rate, "the share, beside the engine's own count,", tolerance=CLOSE)


def _look_at_share(value: Any, results: Sequence[Any]) -> None:
    if value is None:
        raise Mistake("Your function returns nothing: it must `return` the share.")
    if isinstance(value, list | tuple):
        raise Mistake("One number is asked for, for all requests together, and yours returns several.", actual=value)
    if isinstance(value, str):
        raise Mistake(
            "A number is asked for, and yours is a text. How it is printed is the next cell's business.", actual=value
        )
    try:
        share = float(value)
    except (TypeError, ValueError):
        raise Mistake("The share must be a number from 0 to 1.", actual=value) from None
    right = share_found(results)
    if abs(share - right) <= CLOSE:
        return
    rows = [("prompt, cached", ", ".join(f"{one.prompt_tokens}, {one.cached_tokens}" for one in results))]
    why = next((words for words, wrong in _wrong_shares(results) if abs(share - wrong) <= CLOSE), "")
    raise Mistake(f"The share is {share:g} and should be {right:g}{why}.", rows=rows)


def _wrong_shares(results: Sequence[Any]) -> list[tuple[str, float]]:
    prompt, cached = sum(one.prompt_tokens for one in results), sum(one.cached_tokens for one in results)
    rates = [one.cached_tokens / one.prompt_tokens for one in results]
    return [
        (": `//` cuts off what stands behind the point, divide by `/`", float(cached // prompt)),
        (": those are the tokens that were found, to be divided by all prompt tokens", float(cached)),
        (": you divide the wrong way round, the prompt tokens by those that were found", prompt / max(1, cached)),
        (": you count percent, and a share goes from 0 to 1", 100 * cached / prompt),
        (
            ": that is the mean of the requests' own shares, in which a short prompt counts as much as a long one",
            sum(rates) / len(rates),
        ),
        (": you divide by the tokens that were computed, not by all prompt tokens", cached / max(1, prompt - cached)),
        (": that is the share that was computed, not the one that was found", 1 - cached / prompt),
        (
            ": you count the tokens of the answers too, and nobody looks for those in the cache",
            cached / (prompt + sum(one.completion_tokens for one in results)),
        ),
        (
            ": that is the share of requests that found anything, and tokens are asked for",
            sum(one.cached_tokens > 0 for one in results) / len(results),
        ),
        (": that is the last request alone", rates[-1]),
        (": that is the first request alone", rates[0]),
    ]


def _result(number: int, prompt_len: int, cached_len: int, answer_len: int) -> Any:
    from astrai.inference.engine import GenerationResult

    return GenerationResult(number, "", (5,) * answer_len, "length", "", prompt_len, cached_len, (), (), ())
