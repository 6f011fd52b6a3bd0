"""A class that was handed in is a class, the learner's, of the right kind, and has the methods that were asked for."""

from __future__ import annotations

from typing import Any

import pytest

from astrai.course.handed_in import own_class
from astrai.course.mistakes import Mistake
from astrai.inference.cache.slots import SlotAllocator


class Mine(SlotAllocator):
    def renew(self, slot: int) -> Any:
        return super().renew(slot)


class MineAgain(Mine):
    """Inherits what its learner wrote before."""


class Given(SlotAllocator):
    def renew(self, slot: int) -> Any:
        return super().renew(slot)


class BuiltUpon(Given):
    """Has nothing of its own."""


@pytest.mark.parametrize("thing", [Mine, MineAgain])
def test_methods_of_the_learners_own_classes_count(thing: type) -> None:
    own_class(thing, "renew", base=SlotAllocator, given=("Given",))


def test_another_method_may_do_as_well() -> None:
    own_class(Mine, "check", instead="renew")


@pytest.mark.parametrize(
    ("thing", "words"),
    [
        (Mine(2), "Give the class itself, by its name and without brackets."),
        (lambda: Mine(2), "Give the class itself"),
        (SlotAllocator, "This SlotAllocator is AstrAI's own: give the class that you wrote."),
        (dict, "dict is no SlotAllocator: begin with `class dict(SlotAllocator):`."),
        (BuiltUpon, "BuiltUpon has no `renew` of its own, so Given answers: is the name spelled right"),
    ],
)
def test_what_is_none_is_told_why(thing: Any, words: str) -> None:
    with pytest.raises(Mistake) as refused:
        own_class(thing, "renew", base=SlotAllocator, given=("Given",))
    assert words in refused.value.sentence


def test_each_method_that_is_missing_is_named() -> None:
    with pytest.raises(Mistake, match="Mine has no `check` of its own, so SlotAllocator answers"):
        own_class(Mine, "renew", "check")
