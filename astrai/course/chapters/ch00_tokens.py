"""The check of 00.5: a sampler that takes the most likely token."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from astrai.course.chapters.ch00_runs import engine_for, run
from astrai.course.mistakes import Mistake

LOGITS = (
    [0.5, 5.5, 0.0, 2.0, -1.0, 1.0],
    [-3.0, -2.5, -0.5, -4.0, -1.0, -2.0],
    [7.0, 1.0, 7.5, 3.0, 4.0, 9.0],
)
PROMPTS = ("Once upon a time", "Once upon a time, a fox")


def sampler(most_likely: Callable[..., Any]) -> None:
    """Small numbers by hand first, then a run of the engine beside the same run with the package's sampler."""
    import torch

    from astrai.config import SamplingParams
    from astrai.course.parting import same_trace
    from astrai.inference.request import Request

    logits = torch.tensor(LOGITS)
    for count in (1, 2, 3):
        requests = [Request(number, (1, 2), SamplingParams(max_tokens=8)) for number in range(count)]
        _look_at_tokens(most_likely(logits[:count].clone(), requests), LOGITS[:count])
    runs = []
    for one in (most_likely, None):
        engine = engine_for(sampler=one)
        _look_at_ends(run(engine, [{"prompt": prompt} for prompt in PROMPTS], max_tokens=12))
        runs.append(engine)
    yours, expected = runs
    same_trace(yours.trace, expected.trace, "the run with your sampler", decode=expected.tokenizer.decode)


def _look_at_tokens(made: Any, rows: Sequence[Sequence[float]]) -> None:
    if made is None:
        raise Mistake("Your sampler returns nothing: it must `return` the list of tokens.")
    if not isinstance(made, list | tuple):
        raise Mistake(f"Your sampler must return a list of `Sampled`, and returns a {type(made).__name__}.")
    if len(made) != len(rows):
        raise Mistake(
            f"For {len(rows)} requests your sampler returns {len(made)} token{'s' * (len(made) != 1)}: it must be one "
            "for each. Does `return` stand inside the loop?"
        )
    for number, (one, row) in enumerate(zip(made, rows, strict=True)):
        if not hasattr(one, "token_id"):
            raise Mistake(f"Item {number} of your list must be `Sampled(...)` around the token's id.", actual=one)
        _look_at_token(one.token_id, number, rows, [f"{value:g}" for value in row])


def _look_at_token(token_id: Any, number: int, rows: Sequence[Sequence[float]], shown: list[str]) -> None:
    if token_id is ...:
        raise Mistake("`token_id` is still `...`: put what it should be in the place of the dots.")
    if callable(token_id):
        raise Mistake(
            "Your token's id is a method that was not called: its brackets are missing, as in `row.argmax()`."
        )
    row = list(rows[number])
    best = row.index(max(row))
    about = [("its row", ", ".join(shown))]
    if token_id in (max(row), int(max(row))) and token_id != best:
        raise Mistake(
            f"Request {number} gets {token_id}: that comes from the largest number itself, {max(row):g}. What is "
            f"asked is where it stands: at place {best}.",
            rows=about,
        )
    if type(token_id) is not int:
        kind = type(token_id).__name__
        raise Mistake(f"The id of a token must be an `int`, and yours is a `{kind}`: put `int(...)` around it.")
    if token_id == best:
        return
    raise Mistake(f"Request {number} gets token {token_id}, {_why_not(token_id, row, rows[0], best)}.", rows=about)


def _why_not(token_id: int, row: list[float], first: Sequence[float], best: int) -> str:
    if not 0 <= token_id < len(row):
        return f"but a row has the places 0 to {len(row) - 1}: look at one row at a time"
    if row is not first and first[token_id] == max(first):
        return "the most likely one of request 0: each request has a row of its own"
    if row[token_id] == min(row):
        return f"the least likely of all; the most likely is {best}"
    return f"whose number is {row[token_id]:g}; the largest in the row is {max(row):g}, at place {best}"


def _look_at_ends(results: Sequence[Any]) -> None:
    for result in results:
        if result.finish_reason == "error":
            rows = [("the engine says", result.error)]
            raise Mistake(f"In the engine your sampler stopped request {result.request_id}.", rows=rows)
