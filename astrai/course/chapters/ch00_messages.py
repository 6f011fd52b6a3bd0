"""The check of 00.6: messages in which what all users share comes first, so that the cache finds it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from astrai.course.chapters.ch00_runs import engine_for, run
from astrai.course.mistakes import Mistake

RULES = (
    "You are a kind storyteller. Use simple words. Your stories are about animals, things and places. A story has a "
    "hero and a friend. Every story has a happy end. Never be rude. Keep your answers short."
)
USERS = (("Ada", "Tell me a story."), ("Benedict", "Do you know a fox?"), ("Cleo", "What is the last word?"))
NAME = "`make_messages`"


def well_ordered(rules: str, name: str, question: str) -> list[dict[str, str]]:
    """Messages in which what all users share comes first."""
    return [
        {"role": "system", "content": f"{rules} You talk with {name}."},
        {"role": "user", "content": question},
    ]


def messages(make_messages: Callable[..., Any]) -> None:
    """What the messages say, then what the engine finds of them in its cache."""
    made = [make_messages(RULES, name, question) for name, question in USERS]
    for one, (name, question) in zip(made, USERS, strict=True):
        _look_at_messages(one, name, question)
    engine = engine_for()
    tokenizer = engine.tokenizer
    rules_len = len(tokenizer.encode(RULES))
    results = [run(engine, [{"messages": one}], max_tokens=1)[0] for one in made]
    for number in (1, 2):
        found, name = results[number].cached_tokens, USERS[number][0]
        if found < rules_len:
            beginnings = [tokenizer.apply_chat_template(one)[: found + 8] for one in (made[number - 1], made[number])]
            texts = [tokenizer.decode(ids, skip_special=False) for ids in beginnings]
            raise Mistake(
                f"Of the messages for {name} the engine found {found} tokens in its cache, and the rules alone are "
                f"{rules_len}. Something that differs from user to user stands before the end of the rules.",
                rows=[(f"{USERS[number - 1 + i][0]}'s begin", text) for i, text in enumerate(texts)],
            )


def _look_at_messages(made: Any, name: str, question: str) -> None:
    if made is None:
        raise Mistake(f"{NAME} returns nothing: it must `return` the list of messages.")
    is_chat = isinstance(made, list | tuple) and all(isinstance(one, dict) for one in made) and len(made) > 0
    if not is_chat or not all(isinstance(one.get(key), str) for one in made for key in ("role", "content")):
        raise Mistake(
            f"{NAME} must return a list of messages, each a dictionary with a `role` and a `content`.", actual=made
        )
    if unknown := {one["role"] for one in made} - {"system", "user", "assistant"}:
        raise Mistake(f"A message has the role {min(unknown)!r}; there are system, user and assistant.")
    if not any(RULES in one["content"] for one in made):
        raise Mistake("The rules do not stand in the messages, whole and as they were given.", actual=made)
    said = " ".join(one["content"] for one in made)
    if name not in said:
        raise Mistake(f"The messages for {name} do not say the name any more: the model should know it.", actual=made)
    for other, _ in USERS:
        if other != name and other in said:
            raise Mistake(f"The messages for {name} also speak of {other}: that is another user.", actual=made)
    if not any(question in one["content"] for one in made if one["role"] == "user"):
        raise Mistake("The question does not stand in a message of the user.", actual=made)
