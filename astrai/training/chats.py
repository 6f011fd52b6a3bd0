"""Conversations set in the storyworld: requests, questions and small skills, each with the answer that is right.

A *turn* is what the user says and what the model should answer. :func:`chat` strings turns together into one
conversation of 1 to 6 turns, the same for the same seed; ``phrases.json`` holds the wording. It knows no tokens.
"""

from __future__ import annotations

from collections.abc import Callable

from astrai.training.phrases import Turn, a, join, phrases
from astrai.training.skills import calculate, copying_turn, small_talk, sort, unknown
from astrai.training.storyworld import Choices, Story, World, draw_world, entitle, go_on, tell, words

CASUAL = 0.1
TURN_COUNTS = (1, 2, 3, 4, 5, 6)
TURN_WEIGHTS = (3, 3, 3, 2, 1, 1)


# What a request names, how often, and what must then be in the story.
SUBJECTS: dict[str, tuple[float, Callable[[World], tuple[str, tuple[str, ...]]]]] = {
    "animal": (4.0, lambda w: (a(w.hero.animal), (w.hero.animal,))),
    "animal, colour, thing": (
        3.0,
        lambda w: (f"{a(w.hero.animal)} and {a(w.colour)} {w.thing}", (w.hero.animal, f"{w.colour} {w.thing}")),
    ),
    "animal, thing": (1.5, lambda w: (f"{a(w.hero.animal)} and {a(w.thing)}", (w.hero.animal, w.thing))),
    "colour, thing": (1.0, lambda w: (f"{a(w.colour)} {w.thing}", (f"{w.colour} {w.thing}",))),
    "thing": (0.5, lambda w: (a(w.thing), (w.thing,))),
    "named": (1.5, lambda w: (f"{a(w.hero.animal)} named {w.hero.name}", (w.hero.animal, w.hero.name))),
    "hero": (0.5, lambda w: (f"{w.hero.name} the {w.hero.animal}", (w.hero.animal, w.hero.name))),
    "two animals": (
        1.5,
        lambda w: (f"{a(w.hero.animal)} and {a(w.friend.animal)}", (w.hero.animal, w.friend.animal)),
    ),
    "place": (
        1.0,
        lambda w: (f"{a(w.hero.animal)} {words()['places'][w.place]} the {w.place}", (w.hero.animal, w.place)),
    ),
    "adjective": (0.7, lambda w: (f"{a(w.adjective)} {w.hero.animal}", (w.adjective, w.hero.animal))),
    "named, colour, thing": (
        0.8,
        lambda w: (
            f"{a(w.hero.animal)} named {w.hero.name} and {a(w.colour)} {w.thing}",
            (w.hero.animal, w.hero.name, f"{w.colour} {w.thing}"),
        ),
    ),
}


def request_story(choices: Choices, held_out: bool = False, subject: str | None = None) -> Turn:
    """A request for a story about given things, and the story. ``subject`` is a key of :data:`SUBJECTS`."""
    world = draw_world(choices, held_out)
    subject = subject or choices.choose(list(SUBJECTS), [weight for weight, _ in SUBJECTS.values()])
    asked, required = SUBJECTS[subject][1](world)
    story = tell(world, choices, adjective_told=subject == "adjective")
    return Turn(choices.choose(phrases()["story"]).format(x=asked), story.text, story, required)


def request_with_words(choices: Choices, held_out: bool = False) -> Turn:
    """A request for a story that holds three words."""
    world = draw_world(choices, held_out)
    asked = choices.distinct((world.hero.animal, world.thing, world.place), 3)
    story = tell(world, choices)
    return Turn(choices.choose(phrases()["with_words"]).format(x=join(asked)), story.text, story, tuple(asked))


def request_any_story(choices: Choices, held_out: bool = False, phrase: str = "any_story") -> Turn:
    """A request that leaves the choice to the storyteller."""
    story = tell(draw_world(choices, held_out), choices)
    return Turn(choices.choose(phrases()[phrase]), story.text, story)


def request_same_hero(story: Story, choices: Choices, held_out: bool = False) -> Turn:
    """A request for another story about the hero of the last one."""
    hero = story.world.hero
    another = tell(draw_world(choices, held_out, hero), choices)
    prompt = choices.choose(phrases()["same_hero"]).format(hero=hero.name, animal=hero.animal)
    return Turn(prompt, another.text, another, (hero.name, hero.animal))


def follow_up(story: Story, choices: Choices, held_out: bool = False) -> Turn:
    """What one may say after a story."""
    kind = choices.choose(("question", "next", "title", "another", "same hero"), (5, 2, 1.5, 0.7, 1.2))
    if kind == "question":
        return Turn(*choices.choose(story.questions))
    if kind == "next":
        return Turn(choices.choose(phrases()["next"]), go_on(story, choices))
    if kind == "title":
        answer = choices.choose(phrases()["title_answer"]).format(x=entitle(story, choices))
        return Turn(choices.choose(phrases()["title"]), answer)
    if kind == "another":
        return request_any_story(choices, held_out, "another")
    return request_same_hero(story, choices, held_out)


def short_turn(choices: Choices) -> Turn:
    """A turn that needs no story."""
    skills = (copying_turn, sort, calculate, small_talk, unknown)
    return choices.choose(skills, (3, 0.7, 1, 2, 1.5))(choices)


def story_turn(choices: Choices, held_out: bool = False) -> Turn:
    """A request for a story, of whatever kind."""
    kinds = (request_story, request_with_words, request_any_story)
    return choices.choose(kinds, (10, 0.8, 1))(choices, held_out)


def turns(choices: Choices, copying: float = 0.12, held_out: bool = False) -> list[Turn]:
    """The turns of one conversation. ``copying`` is the share of those that only practise to copy."""
    count = choices.choose(TURN_COUNTS, TURN_WEIGHTS)
    if choices.chance(copying):
        return [copying_turn(choices) for _ in range(count)]
    chosen: list[Turn] = []
    story: Story | None = None
    for _ in range(count):
        if choices.chance(0.2):
            turn = short_turn(choices)
        else:
            turn = story_turn(choices, held_out) if story is None else follow_up(story, choices, held_out)
        story = turn.story or story
        chosen.append(turn._replace(prompt=casual(turn.prompt)) if choices.chance(CASUAL) else turn)
    return chosen


def casual(prompt: str) -> str:
    """The prompt as typed in a hurry; what is to be said letter by letter stays as it is."""
    return prompt if '"' in prompt or ":" in prompt else prompt[0].lower() + prompt[1:].rstrip(".!? ")


def chat(seed: int, copying: float = 0.12, held_out: bool = False) -> list[dict[str, str]]:
    """One conversation as messages of ``role`` and ``content``, some with a system message in front."""
    choices = Choices(seed)
    messages = []
    if choices.chance(0.12):
        rules = choices.distinct(phrases()["system"], choices.choose((1, 1, 2, 3, 5, 8)))
        messages.append({"role": "system", "content": " ".join(rules)})
    for turn in turns(choices, copying, held_out):
        messages.append({"role": "user", "content": turn.prompt})
        messages.append({"role": "assistant", "content": turn.answer})
    return messages


def vocabulary() -> list[str]:
    """The words that should be single tokens: nouns, names, colours, places."""
    lists = words()
    nouns = ("animals", "things", "colours", "girls", "boys", "adjectives", "foods", "others")
    return [word for name in nouns for word in lists[name]] + list(lists["places"])
