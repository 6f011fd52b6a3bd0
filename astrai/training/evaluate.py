"""Scores a model on prompts that its training text never held: ``python -m astrai.training.evaluate``.

Stories are asked for with pairs of animal and thing that training leaves out, and all seeds differ from those of
training. Each row of the table is a share of answers that are right by a rule; no one judges style. Greedy decoding.
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import torch

from astrai.model.checkpoint import load
from astrai.model.transformer import Transformer
from astrai.tokenizer import Tokenizer
from astrai.training.chats import follow_up, request_any_story, request_story, story_turn
from astrai.training.phrases import Turn
from astrai.training.sample import answer as reply
from astrai.training.sample import greedy
from astrai.training.skills import calculate, look_up, make_sentence, say, sort
from astrai.training.storyworld import Choices

FIRST_SEED = -1_000_000  # training counts upwards from its seed times 1,000,000,007
SAMPLE_SEED = -9_000_000
MAX_TOKENS = 250


class Row(NamedTuple):
    """One line of the table."""

    name: str
    right: int
    asked: int


class Case(NamedTuple):
    """A conversation and whether an answer to it is right."""

    messages: list[dict[str, str]]
    is_right: Callable[[str], bool]


def holds(words: Sequence[str], text: str) -> bool:
    """Whether every one of ``words`` stands in ``text`` as a whole word."""
    return all(re.search(rf"\b{re.escape(word)}\b", text) for word in words)


def ask(turn: Turn) -> list[dict[str, str]]:
    """The conversation that has only the prompt of ``turn``."""
    return [{"role": "user", "content": turn.prompt}]


def word_case(choices: Choices) -> Case:
    """A story about given things holds their words."""
    turn = request_story(choices, held_out=True)
    return Case(ask(turn), lambda text: holds(turn.required, text))


def animal_case(choices: Choices) -> Case:
    """A story about an animal is about that animal."""
    turn = request_story(choices, held_out=True, subject="animal")
    return Case(ask(turn), lambda text: holds(turn.required, text))


def sentence_case(choices: Choices) -> Case:
    """A sentence holds the words asked for."""
    turn = make_sentence(choices)
    return Case(ask(turn), lambda text: holds(turn.required, text))


def question_case(choices: Choices) -> Case:
    """A question about a story that the source told, in the words of the source."""
    first = request_any_story(choices, held_out=True)
    assert first.story is not None
    question, answer = choices.choose(first.story.questions)
    messages = [*ask(first), {"role": "assistant", "content": first.answer}, {"role": "user", "content": question}]
    return Case(messages, lambda text: text == answer)


def next_case(choices: Choices) -> Case:
    """What comes after a story names somebody or something of it."""
    first = request_story(choices, held_out=True)
    assert first.story is not None
    turn = follow_up(first.story, choices, held_out=True)
    while turn.prompt in {question for question, _ in first.story.questions}:
        turn = follow_up(first.story, choices, held_out=True)
    world = first.story.world
    messages = [*ask(first), {"role": "assistant", "content": first.answer}, {"role": "user", "content": turn.prompt}]
    anything = (world.hero.name, world.hero.animal, world.thing)
    is_new = turn.story is not None and not turn.required
    return Case(messages, lambda text: is_new or any(holds([word], text) for word in anything))


def exact_case(skill: Callable[[Choices], Turn]) -> Callable[[Choices], Case]:
    """A skill whose answer is right to the letter or not at all."""

    def case(choices: Choices) -> Case:
        turn = skill(choices)
        return Case(ask(turn), lambda text: text == turn.answer)

    return case


def four_words(choices: Choices) -> Turn:
    """Four random words, to be repeated."""
    return say(choices, count=4)


CASES: dict[str, Callable[[Choices], Case]] = {
    "story holds all requested words": word_case,
    "story is about the animal": animal_case,
    "sentence holds the words": sentence_case,
    "question about a story": question_case,
    "goes on with the same story": next_case,
    "repeats four words exactly": exact_case(four_words),
    "looks up one of several facts": exact_case(look_up),
    "sorts three or four words": exact_case(sort),
    "adds and subtracts digits": exact_case(calculate),
}


def evaluate(model: Transformer, tokenizer: Tokenizer, prompts: int = 100) -> list[Row]:
    """One row for each kind of prompt, then the share of all answers that ended by themselves."""
    rows: list[Row] = []
    ended = 0
    for kind, (name, make) in enumerate(CASES.items()):
        cases = [make(Choices(FIRST_SEED - 100_000 * kind - index)) for index in range(prompts)]
        ids = greedy(model, tokenizer, [tokenizer.apply_chat_template(case.messages) for case in cases], MAX_TOKENS)
        right = sum(case.is_right(tokenizer.decode(answer)) for case, answer in zip(cases, ids, strict=True))
        ended += sum(len(answer) < MAX_TOKENS for answer in ids)
        rows.append(Row(name, right, prompts))
    return [*rows, Row("ends by itself", ended, prompts * len(CASES))]


def samples(model: Transformer, tokenizer: Tokenizer, count: int) -> str:
    """The first ``count`` held-out requests and what the model makes of them: nothing is picked."""
    lines = []
    for index in range(count):
        turn = story_turn(Choices(SAMPLE_SEED - index), held_out=True)
        lines.append(f"> **{turn.prompt}**\n>\n> {reply(model, tokenizer, ask(turn))}")
    return "\n\n".join(lines)


def table(rows: Sequence[Row]) -> str:
    """The rows as a Markdown table."""
    lines = ["| held-out, greedy | right | of | share |", "|---|---:|---:|---:|"]
    lines += [f"| {row.name} | {row.right} | {row.asked} | {row.right / row.asked:.0%} |" for row in rows]
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> int:
    """The command: print the table, and write it as JSON when asked."""
    parser = argparse.ArgumentParser(prog="astrai evaluate", description=__doc__.splitlines()[0])
    parser.add_argument("model", nargs="?", default="tiny", help="a folder, or the name of a bundled model")
    parser.add_argument("--prompts", type=int, default=100, help="of each kind")
    parser.add_argument("--samples", type=int, default=0, help="show as many answers")
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--json", type=Path, help="write the rows here, too")
    options = parser.parse_args(argv)
    if options.threads:
        torch.set_num_threads(options.threads)
    model, tokenizer = load(options.model)
    rows = evaluate(model, tokenizer, options.prompts)
    print(table(rows))
    if options.samples:
        print(f"\n{samples(model, tokenizer, options.samples)}")
    if options.json:
        result = {"model": options.model, "rows": [row._asdict() for row in rows]}
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
