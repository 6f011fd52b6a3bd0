"""A small world and how to tell of it: who lives there, what they own, what happens to them and why.

First a :class:`World` is drawn (hero, friend, a thing with its colour, a place), then one of the plots of ``plots.txt``
is told in it, and the questions that can be asked about it have known answers. All texts are written for this project.
``astrai.training.chats`` turns stories into conversations; this module knows nothing of turns or tokens.
"""

from __future__ import annotations

import json
import random
import re
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

Option = TypeVar("Option")
HERE = Path(__file__).parent
HELD_OUT_SHARE = 12  # one pair of animal and thing in so many is kept for the evaluation
INVENTED_NAMES = 0.06
STEP_SEPARATOR = " | "


class Choices:
    """Every random decision of a text, made in one place and fixed by the seed."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)

    def choose(self, options: Sequence[Option], weights: Sequence[float] | None = None) -> Option:
        """One of ``options``, each as likely as its weight (all alike without)."""
        return self._random.choices(options, weights)[0]

    def chance(self, probability: float) -> bool:
        """True with this probability."""
        return self.choose((True, False), (probability, 1 - probability))

    def distinct(self, options: Sequence[Option], count: int) -> list[Option]:
        """``count`` different ones of ``options``, in random order."""
        left = list(options)
        chosen = []
        for _ in range(count):
            chosen.append(self.choose(left))
            left.remove(chosen[-1])
        return chosen


@cache
def words() -> dict[str, Any]:
    """The word lists of ``words.json``: animals, things, colours, names, places and so on."""
    return json.loads((HERE / "words.json").read_text(encoding="utf-8"))


class Step(NamedTuple):
    """One step of a plot: the ways to tell it, and whether it may be left out."""

    forms: tuple[str, ...]
    optional: bool


class Plot(NamedTuple):
    """The steps of a story and the (question, answer) pairs about it."""

    steps: tuple[Step, ...]
    questions: tuple[tuple[str, str], ...]


@cache
def plots() -> dict[str, Plot]:
    """What ``plots.txt`` holds, by name; :data:`PARTS_OF_ALL` are no plots but belong to all of them."""
    found: dict[str, Plot] = {}
    for section in (HERE / "plots.txt").read_text(encoding="utf-8").split("\n== ")[1:]:
        name, *lines = section.strip().splitlines()
        steps: list[Step] = []
        questions: list[tuple[str, str]] = []
        for line in filter(None, lines):
            forms = tuple(form.removeprefix("~").strip() for form in line.removeprefix("?").split(STEP_SEPARATOR))
            if line[0] == "?":
                questions.append((forms[0], forms[1]))
            else:
                steps.append(Step(forms, optional=line[0] == "~"))
        found[name] = Plot(tuple(steps), tuple(questions))
    return found


PARTS_OF_ALL = ("opening", "happy ending", "next", "title")


@dataclass(frozen=True)
class Character:
    """Somebody in a story."""

    name: str
    animal: str
    is_girl: bool

    @property
    def pronouns(self) -> tuple[str, str, str]:
        """Subject, object and possessive: she, her, her."""
        return ("she", "her", "her") if self.is_girl else ("he", "him", "his")


@dataclass(frozen=True)
class World:
    """Everything that a story may mention, before anything happens."""

    hero: Character
    friend: Character
    thing: str
    colour: str
    place: str
    home: str
    adjective: str
    food: str

    def fill(self, template: str, choices: Choices) -> str:
        """``template`` with its placeholders filled, articles and capital letters put right."""
        at = f"{words()['places'][self.place]} the {self.place}"
        he, him, his = self.hero.pronouns
        friend_he, friend_him, friend_his = self.friend.pronouns
        text = template.format(
            hero=self.hero.name, animal=self.hero.animal, he=he, him=him, his=his,
            friend=self.friend.name, friend_animal=self.friend.animal, fhe=friend_he, fhim=friend_him, fhis=friend_his,
            thing=self.thing, colour=self.colour, place=f"the {self.place}", at=at, to=f"to the {self.place}",
            home=self.home, adj=self.adjective, food=self.food, day=choices.choose(words()["days"]),
        )  # fmt: skip
        return polish(text)


def polish(text: str) -> str:
    """Choose "a" or "an" where "a(n)" stands, and begin sentences with a capital letter."""
    text = re.sub(r"\b([Aa])\(n\)(?= (\w+))", lambda m: m[1] + ("n" if starts_with_vowel(m[2]) else ""), text)
    return re.sub(r"(^|[.!?] )([a-z])", lambda match: match[1] + match[2].upper(), text)


def starts_with_vowel(word: str) -> bool:
    """Whether "an" goes before ``word`` ("unicorn" begins with a vowel letter, but not with a vowel)."""
    return word[0].lower() in "aeiou" and not word.startswith("uni")


def is_held_out(animal: str, thing: str) -> bool:
    """Whether the pair is never a hero and thing of the training text, so that the evaluation can ask for it."""
    return zlib.crc32(f"{animal} {thing}".encode()) % HELD_OUT_SHARE == 0


def draw_character(choices: Choices, not_animal: str = "", not_name: str = "", animal: str = "") -> Character:
    """A character; neither the animal nor the name that is given as taken."""
    is_girl = choices.chance(0.5)
    names = [name for name in words()["girls" if is_girl else "boys"] if name != not_name]
    kinds = [kind for kind in words()["animals"] if kind != not_animal]
    name = invent_name(choices) if choices.chance(INVENTED_NAMES) else choices.choose(names)
    return Character(name, animal or choices.choose(kinds), is_girl)


def invent_name(choices: Choices) -> str:
    """A name of two syllables or three that is in no list: learners ask for their own."""
    syllables = [choices.choose(words()["syllables"]) for _ in range(choices.choose((2, 3)))]
    return "".join(syllables).capitalize()


def without_invented_names(text: str) -> str:
    """The text for learning tokens from: invented names should stay in pieces, so that copying pieces is practised."""
    syllable = "|".join(words()["syllables"])
    return re.sub(rf"\b(?i:{syllable})(?:{syllable}){{1,2}}\b", "", text)


def draw_world(choices: Choices, held_out: bool = False, hero: Character | None = None) -> World:
    """A world whose pair of animal and thing is held out, or is not."""
    hero = hero or draw_character(choices)
    return World(
        hero=hero,
        friend=draw_character(choices, not_animal=hero.animal, not_name=hero.name),
        thing=choices.choose([thing for thing in words()["things"] if is_held_out(hero.animal, thing) == held_out]),
        colour=choices.choose(words()["colours"]),
        place=choices.choose(list(words()["places"])),
        home=choices.choose(words()["homes"]),
        adjective=choices.choose(words()["adjectives"]),
        food=choices.choose(words()["foods"]),
    )


class Story(NamedTuple):
    """A story as it was told, with the world that it happened in and the questions it answers."""

    world: World
    text: str
    questions: tuple[tuple[str, str], ...]


GENERAL_QUESTIONS = (
    ("Who is the story about?", "The story is about {hero} the {animal}."),
    ("What animal is {hero}?", "{hero} is a(n) {animal}."),
    ("What animal is {friend}?", "{friend} is a(n) {friend_animal}."),
    ("What is the name of the {animal}?", "The name of the {animal} is {hero}."),
    ("What is the name of the {friend_animal}?", "The name of the {friend_animal} is {friend}."),
    ("What colour is the {thing}?", "The {thing} is {colour}."),
    ("What color was the {thing}?", "The {thing} was {colour}."),
    ("What colour was the {thing}?", "The {thing} was {colour}."),
    ("Who is {friend}?", "{friend} is a(n) {friend_animal} in the story."),
    ("Who is {hero}?", "{hero} is the {animal} in the story."),
)


def tell(world: World, choices: Choices, adjective_told: bool = False) -> Story:
    """One plot, drawn by chance, told in ``world``. ``adjective_told`` makes the opening name the hero's character."""
    parts = plots()
    plot = parts[choices.choose([name for name in parts if name not in PARTS_OF_ALL])]
    openings = [form for form in parts["opening"].steps[0].forms if "{adj}" in form or not adjective_told]
    forms = [choices.choose(openings)]
    for step in plot.steps:
        if not (step.optional and choices.chance(0.5)):
            forms.append(choices.choose(step.forms))
    if choices.chance(0.6):
        forms.append(choices.choose(parts["happy ending"].steps[0].forms))
    questions = tuple(
        (world.fill(question, choices), world.fill(answer, choices))
        for question, answer in GENERAL_QUESTIONS + plot.questions
    )
    return Story(world, " ".join(world.fill(form, choices) for form in forms), questions)


def go_on(story: Story, choices: Choices) -> str:
    """What happened next, in two sentences or three."""
    return story.world.fill(choices.choose(plots()["next"].steps[0].forms), choices)


def entitle(story: Story, choices: Choices) -> str:
    """A title for the story."""
    return story.world.fill(choices.choose(plots()["title"].steps[0].forms), choices)
