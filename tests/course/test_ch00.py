"""Chapter 00 refuses what newcomers really write, names the mistake, and takes every good answer."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
import torch

from astrai.course import catalogue
from astrai.course.catalogue import exercise
from astrai.course.chapters.ch00_messages import RULES, USERS, well_ordered
from astrai.course.chapters.ch00_runs import engine_for, run
from astrai.course.chapters.ch00_share import share_found
from astrai.course.checking import judge
from astrai.course.source import forms
from astrai.inference.request import Sampled
from astrai.inference.sampler import Sampler
from scripts import build_notebooks as build

SOURCE = build.SOURCES / "00_start_here.py"


def loop(choose: Callable[[torch.Tensor], Any]) -> Callable[..., Any]:
    """The loop of the notebook around one line."""
    return lambda logits, requests: [Sampled(choose(row)) for row in logits]


def user(content: str) -> dict[str, str]:
    return {"role": "user", "content": content}


def system(content: str) -> dict[str, str]:
    return {"role": "system", "content": content}


# --- 00.5 -------------------------------------------------------------------------------------------------------------


def only_the_first(logits: torch.Tensor, requests: Any) -> Any:
    for row in logits:
        return [Sampled(int(row.argmax()))]


def from_the_whole(logits: torch.Tensor, requests: Any) -> Any:
    return [Sampled(int(logits.argmax())) for _ in logits]


def right_only_by_hand(logits: torch.Tensor, requests: Any) -> Any:
    return [Sampled(int(row[:300].argmax())) for row in logits]


def never_goes_on(logits: torch.Tensor, requests: Any) -> Any:
    chosen = []
    for row in logits.tolist():
        place, largest = 0, max(row)
        while row[place] < largest:
            place += 0
        chosen.append(Sampled(place))
    return chosen


def stops_in_the_engine(logits: torch.Tensor, requests: Any) -> Any:
    assert logits.shape[1] < 100
    return [Sampled(int(row.argmax())) for row in logits]


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (loop(lambda row: int(row.max())), "comes from the largest number itself, 5.5.*at place 1"),
        (loop(lambda row: row.max()), "comes from the largest number itself"),
        (loop(lambda row: row.argmax()), "must be an `int`, and yours is a `Tensor`"),
        (loop(lambda row: row.numpy().argmax()), "must be an `int`, and yours is a `int64`"),
        (loop(lambda row: int(row.argmin())), "the least likely of all; the most likely is 1"),
        (loop(lambda row: int(row.abs().argmax())), "the least likely of all; the most likely is 2"),
        (loop(lambda row: int(row.argsort()[-2])), "whose number is 2; the largest in the row is 5.5, at place 1"),
        (loop(lambda row: int(row.argmax()) + 1), "whose number is 0; the largest in the row is 5.5"),
        (only_the_first, "For 2 requests your sampler returns 1 token.*inside the loop"),
        (from_the_whole, "the most likely one of request 0: each request has a row of its own"),
        (lambda logits, requests: logits.argmax(-1), "must return a list of `Sampled`, and returns a Tensor"),
        (lambda logits, requests: logits.argmax(-1).tolist(), "Item 0 of your list must be `Sampled"),
        (lambda logits, requests: None, "must `return` the list"),
        (loop(lambda row: ...), "is still `...`"),
        (loop(lambda row: row.argmax), "its brackets are missing, as in `row.argmax\\(\\)`"),
        (loop(lambda row: row.index(max(row))), "Your code stopped in line"),
        (never_goes_on, "does not come to an end: look at the loop"),
        (right_only_by_hand, "goes another way than it should at row"),
        (stops_in_the_engine, "In the engine your sampler stopped request 0"),
        (lambda logits: [Sampled(0)], "It cannot be used in the way that the exercise asks for"),
    ],
)
def test_a_wrong_sampler_is_told_why(wrong: Any, words: str) -> None:
    verdict = judge(exercise("00.5"), wrong)
    assert not verdict.passed and re.search(words, repr(verdict)), verdict


def by_hand(logits: torch.Tensor, requests: Any) -> tuple[Sampled, ...]:
    rows = logits.tolist()
    return tuple(Sampled(row.index(max(row))) for row in rows)


@pytest.mark.parametrize(
    "right",
    [
        loop(lambda row: row.argmax().item()),
        loop(lambda row: int(torch.topk(row, 1).indices[0])),
        loop(lambda row: int(row.softmax(-1).argmax())),
        loop(lambda row: max(enumerate(row.tolist()), key=lambda pair: pair[1])[0]),
        lambda logits, requests: [Sampled(token_id) for token_id in logits.argmax(-1).tolist()],
        by_hand,
        Sampler(),
    ],
)
def test_a_sampler_of_another_style_passes(right: Any) -> None:
    assert judge(exercise("00.5"), right).passed


# --- 00.6 -------------------------------------------------------------------------------------------------------------


MEMORY: list[dict[str, str]] = []


def forgets_to_start_anew(rules: str, name: str, question: str) -> list[dict[str, str]]:
    MEMORY.extend(well_ordered(rules, name, question))
    return list(MEMORY)


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (lambda r, n, q: [system(f"You talk with {n}. {r}"), user(q)], "found 5 tokens.*the rules alone are 45"),
        (
            lambda r, n, q: [system(f"You talk with {n}."), system(r), user(q)],
            "differs from user to user stands before",
        ),
        (lambda r, n, q: [system(f"{n}: {r} You talk with {n}."), user(q)], "Benedict's begin: <|bos|><|system|>Ben"),
        (lambda r, n, q: [user(f"{q} I am {n}. {r}")], "Something that differs from user to user"),
        (lambda r, n, q: [system(r), user(q)], "do not say the name any more"),
        (lambda r, n, q: [system(f"{r} You talk with Ada."), user(q)], "for Benedict do not say the name"),
        (lambda r, n, q: [system(f"You talk with {n}."), user(q)], "rules do not stand in the messages"),
        (lambda r, n, q: [system(r[:50] + f" You talk with {n}. " + r[50:]), user(q)], "whole and as they were"),
        (lambda r, n, q: [system(f"{r} You talk with {n}. {q}")], "question does not stand in a message of the user"),
        (lambda r, n, q: [system(f"{r} You talk with {n}."), {"role": "human", "content": q}], "role 'human'"),
        (lambda r, n, q: f"{r} You talk with {n}. {q}", "must return a list of messages"),
        (lambda r, n, q: [r, n, q], "each a dictionary with a `role` and a `content`"),
        (lambda r, n, q: [{"system": f"{r} {n}"}, {"user": q}], "with a `role` and a `content`"),
        (lambda r, n, q: None, "returns nothing"),
        (forgets_to_start_anew, "also speak of"),
    ],
)
def test_wrong_messages_are_told_why(wrong: Any, words: str) -> None:
    MEMORY.clear()
    verdict = judge(exercise("00.6"), wrong)
    assert not verdict.passed and re.search(words.replace("|", r"\|"), repr(verdict)), verdict


@pytest.mark.parametrize(
    "right",
    [
        lambda r, n, q: [system(r), user(f"I am {n}. {q}")],
        lambda r, n, q: [system(r), system(f"You talk with {n}."), user(q)],
        lambda r, n, q: (system(r + n), user(q)),
        lambda r, n, q: [system(f"{r}\n\nThe user is called {n}."), user(q)],
        lambda r, n, q: [system(r), user(q), system(f"You talk with {n}.")],
        lambda r, n, q: [user(f"{r}\n{n} asks: {q}")],
    ],
)
def test_messages_in_any_order_that_shares_the_rules_pass(right: Any) -> None:
    assert judge(exercise("00.6"), right).passed


def test_what_the_engine_finds_is_what_two_prompts_have_in_common() -> None:
    engine = engine_for()
    for make in (well_ordered, lambda r, n, q: [system(f"You talk with {n}. {r}"), user(q)]):
        made = [make(RULES, name, question) for name, question in USERS]
        ids = [engine.tokenizer.apply_chat_template(one) for one in made]
        found = [run(engine, [{"messages": one}], max_tokens=1)[0].cached_tokens for one in made]
        for number in (1, 2):
            shared = [sum(1 for _ in common(ids[number], ids[earlier])) for earlier in range(number)]
            assert found[number] == max(shared)


def common(one: list[int], other: list[int]) -> Any:
    for a, b in zip(one, other, strict=False):
        if a != b:
            return
        yield a


# --- 00.7 -------------------------------------------------------------------------------------------------------------


def mean_of_rates(results: Any) -> float:
    return sum(one.cached_tokens / one.prompt_tokens for one in results) / len(results)


def total(results: Any, name: str) -> int:
    return sum(getattr(one, name) for one in results)


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (mean_of_rates, "mean of the requests' own shares"),
        (
            lambda rs: total(rs, "cached_tokens") / (total(rs, "prompt_tokens") - total(rs, "cached_tokens")),
            "computed, not",
        ),
        (lambda rs: 100 * share_found(rs), "you count percent"),
        (lambda rs: 1 - share_found(rs), "the share that was computed"),
        (
            lambda rs: total(rs, "cached_tokens") / (total(rs, "prompt_tokens") + total(rs, "completion_tokens")),
            "tokens of the answers too",
        ),
        (lambda rs: sum(one.cached_tokens > 0 for one in rs) / len(rs), "share of requests that found anything"),
        (lambda rs: rs[-1].cached_tokens / rs[-1].prompt_tokens, "the last request alone"),
        (lambda rs: [one.cached_tokens / one.prompt_tokens for one in rs], "yours returns several"),
        (lambda rs: rs[0].cached_tokens / rs[0].prompt_tokens, "the first request alone"),
        (lambda rs: total(rs, "cached_tokens") // total(rs, "prompt_tokens"), "The share is 0 and.*`//` cuts off"),
        (lambda rs: total(rs, "cached_tokens"), "The share is 40 and should be 0.33.*to be divided by all prompt"),
        (lambda rs: total(rs, "prompt_tokens") / total(rs, "cached_tokens"), "the wrong way round"),
        (lambda rs: f"{share_found(rs):.0%}", "A number is asked for, and yours is a text"),
        (lambda rs: f"{share_found(rs):.2f}", "A number is asked for, and yours is a text"),
        (lambda rs: {"share": share_found(rs)}, "must be a number from 0 to 1"),
        (lambda rs: None, "must `return` the share"),
        (lambda rs: total(rs, "cached_length") / total(rs, "prompt_tokens"), "a name that it does not have"),
    ],
)
def test_a_wrong_hit_rate_is_told_why(wrong: Any, words: str) -> None:
    verdict = judge(exercise("00.7"), wrong)
    assert not verdict.passed and re.search(words, repr(verdict)), verdict


def with_a_loop(results: Any) -> float:
    found = asked = 0
    for result in results:
        found += result.cached_tokens
        asked += result.prompt_tokens
    return found / asked


def takes_the_list_apart(results: Any) -> float:
    found = asked = 0
    while results:
        result = results.pop()
        found, asked = found + result.cached_tokens, asked + result.prompt_tokens
    return found / asked


@pytest.mark.parametrize(
    "right",
    [
        with_a_loop,
        takes_the_list_apart,
        lambda rs: round(total(rs, "cached_tokens") / total(rs, "prompt_tokens"), 2),
        lambda rs: torch.tensor([one.cached_tokens for one in rs]).sum() / total(rs, "prompt_tokens"),
    ],
)
def test_a_hit_rate_of_another_style_passes(right: Any) -> None:
    assert judge(exercise("00.7"), right).passed


# --- the notebook -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", ["00.5", "00.6", "00.7"])
def test_the_stub_is_still_open_and_the_solution_passes(number: str) -> None:
    import jupytext

    cells = jupytext.read(SOURCE, fmt="py:percent").cells
    cell = next(cell for cell in cells if number in cell.metadata.get("tags", ()))
    for form, role in zip(forms(cell.source, cell.metadata["tags"]), ("still_open", "passed"), strict=True):
        names: dict[str, Any] = {"__name__": "__main__"}
        exec(form, names)
        made = next(value for name, value in reversed(names.items()) if callable(value) and name != "Sampled")
        assert getattr(judge(exercise(number), made), role), form


def test_the_quiz_uses_no_place_for_the_right_answer_more_than_thrice() -> None:
    places = [question.right for question in catalogue.chapter("00").quiz]
    assert max(map(places.count, places)) <= 3
