"""What a learner hands in where a class is asked for: a class, theirs, and with the methods that they were to write."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from astrai.course.mistakes import Mistake

PACKAGE = "astrai."


def own_class(
    thing: Any,
    *methods: str,
    base: type = object,
    begin: str = "",
    given: Collection[str] = (),
    instead: str = "",
) -> None:
    """Make sure that each of ``methods`` was written by the learner, in this class or in a base class of theirs.

    Otherwise what is inherited would pass the check, or fail it, in their place. The class must derive from ``base``;
    ``begin`` is the class that it is told to begin with, where that is another one. ``given`` are names of classes
    that the notebook brings along, and ``instead`` is a method that does as well.

    Raises:
        Mistake: it is no class, the package's own, of another base, or one of the methods is not theirs.
    """
    if not isinstance(thing, type):
        raise Mistake("Give the class itself, by its name and without brackets.", actual=thing)
    if thing.__module__.startswith(PACKAGE):
        raise Mistake(f"This {thing.__name__} is AstrAI's own: give the class that you wrote.")
    if not issubclass(thing, base):
        name, wanted = thing.__name__, begin or base.__name__
        raise Mistake(f"{name} is no {wanted}: begin with `class {name}({wanted}):`.")
    for method in methods:
        if not any(_is_theirs(thing, name, given) for name in (method, instead)):
            raise Mistake(
                f"{thing.__name__} has no `{method}` of its own, so {_owner(thing, method).__name__} answers: is the "
                f"name spelled right, and does it stand indented in the class?",
                rows=[("its own methods", ", ".join(key for key, value in vars(thing).items() if callable(value)))],
            )


def _owner(thing: type, method: str) -> type:
    """The class that the method comes from; where there is none, the one that would be asked for it."""
    assert thing.__base__ is not None
    return next((base for base in thing.__mro__ if method in vars(base)), thing.__base__)


def _is_theirs(thing: type, method: str, given: Collection[str]) -> bool:
    owner = _owner(thing, method)
    is_given = owner is not thing and owner.__name__ in given
    return method in vars(owner) and owner is not object and not owner.__module__.startswith(PACKAGE) and not is_given
