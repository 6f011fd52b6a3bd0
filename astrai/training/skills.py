"""Small skills with one right answer, small talk, and what lies outside of the little world.

The skills that copy come first in training: see ``astrai.training.trainer``.
"""

from __future__ import annotations

from astrai.training.phrases import Turn, a, join, phrases
from astrai.training.storyworld import Choices, World, draw_world, polish, words


def some_words(choices: Choices, count: int) -> list[str]:
    """Different nouns and colours."""
    lists = words()
    return choices.distinct(lists["animals"] + lists["things"] + lists["others"] + lists["colours"], count)


def say(choices: Choices, count: int | None = None) -> Turn:
    """Repeat what stands in quotation marks, to the letter: words or a sentence."""
    text = (", " if choices.chance(0.5) else " ").join(some_words(choices, count or choices.choose((1, 2, 3, 4, 5, 6))))
    if count is None and choices.chance(0.3):
        text = sentence(choices, draw_world(choices)).rstrip(".")
    return Turn(choices.choose(phrases()["say"]).format(x=text), text)


def say_back(choices: Choices) -> Turn:
    """Repeat what stands after a colon."""
    text = (", " if choices.chance(0.7) else " ").join(some_words(choices, choices.choose((2, 3, 4, 5, 6))))
    return Turn(choices.choose(phrases()["say_back"]).format(x=text), f"You said: {text}.")


def sort(choices: Choices) -> Turn:
    """Three words or four in alphabetical order."""
    chosen = some_words(choices, choices.choose((3, 4)))
    prompt = choices.choose(phrases()["sort"]).format(x=", ".join(chosen))
    return Turn(prompt, f"In order: {', '.join(sorted(chosen))}.")


def calculate(choices: Choices) -> Turn:
    """A sum or a difference of single digits."""
    left, right = choices.choose(range(10)), choices.choose(range(10))
    if choices.chance(0.5):
        left, right = max(left, right), min(left, right)
        task, result = f"{left} - {right}", left - right
    else:
        task, result = f"{left} + {right}", left + right
    return Turn(choices.choose(("What is {x}?", "How much is {x}?", "{x} = ?")).format(x=task), f"{task} = {result}.")


SENTENCES = (
    "{hero} the {animal} has a(n) {colour} {thing}.",
    "The {animal} found a(n) {colour} {thing} {at}.",
    "A(n) {animal} named {hero} sat {at} with a(n) {colour} {thing}.",
    "{hero} the {animal} lost a(n) {colour} {thing} {at}.",
    "The {animal} gave the {colour} {thing} to {friend}.",
)


def sentence(choices: Choices, world: World) -> str:
    """One sentence of the world, with its animal, colour and thing."""
    return world.fill(choices.choose(SENTENCES), choices)


def make_sentence(choices: Choices) -> Turn:
    """One sentence that holds the words asked for."""
    world = draw_world(choices)
    asked = [world.hero.animal, world.colour, world.thing] if choices.chance(0.5) else [world.hero.animal, world.thing]
    asked = choices.distinct(asked, len(asked))
    prompt = choices.choose(phrases()["sentence"]).format(x=join(asked))
    return Turn(prompt, sentence(choices, world), required=tuple(asked))


def look_up(choices: Choices) -> Turn:
    """Two facts or three, and a question about one of them."""
    lists, count = words(), choices.choose((2, 3))
    names = choices.distinct(lists["girls"] + lists["boys"], count)
    things, colours = choices.distinct(lists["things"], count), choices.distinct(lists["colours"], count)
    facts = [f"{n} has {a(c)} {t}." for n, c, t in zip(names, colours, things, strict=True)]
    name, colour, thing = choices.choose(list(zip(names, colours, things, strict=True)))
    question, answer = choices.choose(
        (
            (f"Who has the {thing}?", f"{name} has the {thing}."),
            (f"What does {name} have?", f"{name} has {a(colour)} {thing}."),
            (f"What colour is the {thing}?", f"The {thing} is {colour}."),
        )
    )
    return Turn(" ".join([*facts, question]), answer)


def small_talk(choices: Choices) -> Turn:
    """Greetings, thanks, and who are you."""
    prompts, answers = choices.choose(phrases()["fixed"])
    return Turn(choices.choose(prompts), choices.choose(answers))


def unknown(choices: Choices) -> Turn:
    """A question about the world outside, and a polite refusal."""
    lists = phrases()
    prompt = choices.choose(lists["unknown"]).format(
        x=choices.choose(lists["unknown_places"]), y=choices.choose(lists["unknown_topics"])
    )
    return Turn(polish(prompt), choices.choose(lists["unknown_answer"]))


def drill_turn(choices: Choices) -> Turn:
    """A turn of the first lessons: mostly two to seven words to repeat, which makes copying form."""
    return say(choices, choices.choose((2, 3, 4, 5, 6, 7))) if choices.chance(0.6) else copying_turn(choices)


COPYING = (say, say_back, make_sentence, look_up)


def copying_turn(choices: Choices) -> Turn:
    """A short turn whose answer is mostly found in the prompt: what a model has to learn first."""
    return choices.choose(COPYING, (4, 2, 3, 3))(choices)
