"""The source of the training text: the same for the same seed, clean English, and true to what was asked."""

from __future__ import annotations

import re

import pytest

from astrai.training.chats import SUBJECTS, casual, chat, request_story, request_with_words, vocabulary
from astrai.training.evaluate import holds
from astrai.training.skills import calculate, look_up, make_sentence, say, sort
from astrai.training.storyworld import (
    PARTS_OF_ALL,
    Choices,
    draw_world,
    go_on,
    is_held_out,
    plots,
    polish,
    tell,
    without_invented_names,
    words,
)


def test_the_same_seed_gives_the_same_chat() -> None:
    assert chat(7) == chat(7)
    assert len({str(chat(seed)) for seed in range(200)}) > 195


def test_there_are_enough_plots_and_each_can_be_asked_about() -> None:
    told = [plot for name, plot in plots().items() if name not in PARTS_OF_ALL]
    assert len(told) >= 12
    assert all(len(plot.questions) >= 3 and len(plot.steps) >= 4 for plot in told)


@pytest.mark.parametrize("held_out", [False, True])
def test_texts_are_clean_english(held_out: bool) -> None:
    for seed in range(600):
        for message in chat(seed, held_out=held_out):
            text = message["content"]
            assert not re.search(r"[{}|~]|a\(n\)|  | [.,!]|\.\.", text), text
            assert not re.search(r"\b[Aa] [aeio]\w|\b[Aa]n [^aeiou\W]", text), text
            assert text == text.strip() and text
            if message["role"] == "assistant" and text.endswith("."):
                assert not re.search(r"(?<![\"'])[.!?] [a-z]", text), text


def test_every_story_names_hero_friend_thing_and_place() -> None:
    for seed in range(1500):
        choices = Choices(seed)
        story = tell(draw_world(choices), choices)
        world = story.world
        named = (world.hero.name, world.hero.animal, world.friend.name, world.friend.animal)
        assert holds([*named, f"{world.colour} {world.thing}", world.place], story.text), story.text


def test_the_end_of_a_story_belongs_to_it() -> None:
    for seed in range(200):
        choices = Choices(seed)
        story = tell(draw_world(choices), choices)
        text = go_on(story, choices)
        assert story.world.hero.name in text or story.world.friend.name in text


@pytest.mark.parametrize("subject", SUBJECTS)
def test_a_story_holds_what_was_asked_for(subject: str) -> None:
    for seed in range(60):
        turn = request_story(Choices(seed), subject=subject)
        assert turn.required
        assert holds(turn.required, turn.answer), turn
        assert all(word in turn.prompt for word in turn.required)


def test_a_story_with_given_words_holds_them() -> None:
    for seed in range(100):
        turn = request_with_words(Choices(seed))
        assert holds(turn.required, turn.answer), turn


def test_held_out_pairs_are_kept_out_of_training_and_are_all_the_evaluation_asks_for() -> None:
    for seed in range(300):
        for held_out in (False, True):
            world = draw_world(Choices(seed), held_out)
            assert is_held_out(world.hero.animal, world.thing) == held_out
    for animal in words()["animals"]:
        assert any(is_held_out(animal, thing) for thing in words()["things"]), animal


def test_skills_are_right() -> None:
    for seed in range(200):
        numbers = calculate(Choices(seed)).answer.rstrip(".").split(" = ")
        assert eval(numbers[0]) == int(numbers[1]) >= 0
        in_order = sort(Choices(seed)).answer.removeprefix("In order: ").rstrip(".").split(", ")
        assert in_order == sorted(in_order) and len(in_order) >= 3
        said = say(Choices(seed))
        assert f'"{said.answer}"' in said.prompt
        asked = make_sentence(Choices(seed))
        assert holds(asked.required, asked.answer)
        facts = look_up(Choices(seed))
        assert holds(facts.answer.rstrip(".").split()[-1:], facts.prompt)


def test_articles_and_capitals() -> None:
    assert polish("a(n) owl saw a(n) fox. a(n) unicorn came.") == "An owl saw a fox. A unicorn came."
    assert polish('"Whose kite is this?" he asked. he cried.') == '"Whose kite is this?" he asked. He cried.'


def test_a_casual_prompt_keeps_what_must_be_repeated() -> None:
    assert casual("Tell me a story about Mia.") == "tell me a story about Mia"
    assert casual('Say "Fox".') == 'Say "Fox".'


def test_no_list_has_a_word_twice() -> None:
    for name, entries in words().items():
        assert len(set(entries)) == len(entries), name
    assert len(set(vocabulary())) > 280


def test_tokens_are_not_learned_from_invented_names() -> None:
    assert without_invented_names("Karimi met Mia.") == " met Mia."
