"""The check of 11.4: the slow answer that the tree is tested against."""

from __future__ import annotations

import operator
import random
from collections.abc import Callable
from typing import Any

from astrai.course.chapters.ch11_runs import Ids, example, longest, random_ids
from astrai.course.mistakes import Mistake, same
from astrai.inference.cache.radix_tree import common_prefix_len

CASES: tuple[tuple[list[Ids], Ids], ...] = (
    ([(1, 2, 3), (1, 2, 4, 5)], (1, 2, 4, 9)),
    ([(1, 2, 4, 5), (1, 2, 3)], (1, 2, 4, 9)),
    ([(1, 9, 3, 4)], (1, 2, 3, 4)),
    ([(2, 1)], (1, 2)),
    ([(1, 2, 3)], (1, 2)),
    ([(1, 2), (7,)], (1, 2, 3)),
    ([(7,), (8,)], (1,)),
    ([(1, 2, 3)], (1, 2, 3)),
)


def longest_prefix(function: Callable[[list[Ids], Ids], int]) -> None:
    """A learner's brute force gives the number of tokens that the best row shares with a prompt."""
    answers = [_asked(function, rows, prompt) for rows, prompt in CASES]
    for wrong, sentence in WRONG_ORACLES.items():
        _not_like_oracle(answers, [wrong(rows, prompt) for rows, prompt in CASES], sentence)
    for (rows, prompt), answer in zip(CASES, answers, strict=True):
        same(answer, longest(rows, prompt), f"longest_prefix({rows}, {prompt})")
    try:
        same(_asked(function, [], (1, 2)), 0, "longest_prefix([], (1, 2)), without any row,")
    except ValueError as error:
        says = [("Python says", f"ValueError: {error}")]
        raise Mistake("An engine that has just started has no rows: the answer is 0 then.", rows=says) from error
    draw = random.Random(4)
    for _ in range(300):
        rows, prompt = [random_ids(draw) for _ in range(draw.randint(1, 5))], random_ids(draw)
        same(_asked(function, rows, prompt), longest(rows, prompt), f"longest_prefix({rows}, {prompt})")


def _asked(function: Callable[[list[Ids], Ids], int], rows: list[Ids], prompt: Ids) -> int:
    """The answer to one case, on a list of its own: the next check must find the rows as they are."""
    handed = list(rows)
    answer = function(handed, prompt)
    if handed != rows:
        raise Mistake("Your function changes the list of rows. It must only look.", expected=rows, actual=handed)
    try:
        number = None if isinstance(answer, bool) else operator.index(answer)  # numpy's numbers count, too
    except TypeError:
        number = None
    if number is None:
        sentence = f"The answer is a number of tokens, and yours is of type {type(answer).__name__}."
        raise Mistake(f"{sentence} {example(rows, prompt)}", expected=longest(rows, prompt), actual=answer)
    return number


def _not_like_oracle(yours: list[int], wrong: list[int], sentence: str) -> None:
    right = [longest(rows, prompt) for rows, prompt in CASES]
    if yours == wrong:
        first = next(i for i, length in enumerate(yours) if length != right[i])
        raise Mistake(f"{sentence} {example(*CASES[first])}", expected=right[first], actual=yours[first])


def _shared(rows: list[Ids], prompt: Ids) -> list[int]:
    return [common_prefix_len(row, prompt) for row in rows]


def _agreeing(row: Ids, prompt: Ids) -> int:
    return sum(a == b for a, b in zip(row, prompt, strict=False))


WRONG_ORACLES: dict[Callable[[list[Ids], Ids], Any], str] = {
    lambda rows, prompt: _shared(rows, prompt)[0]: "Only the first row is looked at. The best of all rows counts.",
    lambda rows, prompt: _shared(rows, prompt)[-1]: "Only the last row counts in the end. The best of all rows does.",
    lambda rows, prompt: min(_shared(rows, prompt)): "This is the worst row's prefix, not the best one's.",
    lambda rows, prompt: sum(_shared(rows, prompt)): "The rows' prefixes are added up. Only one row can be reused.",
    lambda rows, prompt: max(_agreeing(row, prompt) for row in rows): (
        "Tokens that agree after the first difference are counted too. A prefix ends where row and prompt first differ."
    ),
    lambda rows, prompt: max(len(set(row) & set(prompt)) for row in rows): (
        "Tokens are counted wherever they stand. A prefix is about the beginning, in order."
    ),
    lambda rows, prompt: max(len(row) if prompt[: len(row)] == row else 0 for row in rows): (
        "Only a row that agrees as a whole is counted. A row whose first tokens agree has a prefix too."
    ),
}
