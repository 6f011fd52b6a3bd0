"""What a check says: the first difference between what a learner made and what it should be, in one sentence.

Arrays are compared by shape, dtype and value; numpy is imported when the first one is compared.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence, Set
from typing import Any, NoReturn

NOTHING: Any = object()  # stands for "was not given": None is a value that a learner may well return
LONGEST = 200  # characters of a value that are shown


class Mistake(Exception):
    """The first thing that is wrong, in a sentence that a beginner understands.

    ``expected`` and ``actual`` are the two values, where there are two; ``rows`` are further (name, value) lines.
    """

    def __init__(
        self,
        sentence: str,
        *,
        expected: Any = NOTHING,
        actual: Any = NOTHING,
        rows: Sequence[tuple[str, str]] = (),
    ) -> None:
        if sentence.split(" ", 1)[0] in ("a", "an", "in", "the", "your"):
            sentence = sentence[0].upper() + sentence[1:]
        super().__init__(sentence)
        values = (("expected", expected), ("yours", actual))
        self.sentence = sentence
        self.rows = (*((name, shorten(value)) for name, value in values if value is not NOTHING), *rows)


def same(actual: Any, expected: Any, what: str, *, tolerance: float = 0.0) -> None:
    """Make sure that what a learner made equals what is expected; numbers may differ by ``tolerance``.

    Takes numbers, text, lists, tuples, dictionaries and sets, nested as one likes, and arrays of numpy and torch.
    Lists and tuples count as the same kind.

    Raises:
        Mistake: naming ``what`` and the first difference.

    Example:
        >>> same([1, 2, 3], [1, 2, 4], "the list of rows")
        Traceback (most recent call last):
        ...
        astrai.course.mistakes.Mistake: In the list of rows, [2] is 3 and should be 4.
    """
    if hasattr(expected, "dtype") or hasattr(actual, "dtype"):
        from astrai.course.arrays import same_array

        same_array(actual, expected, what, tolerance)
    else:
        _same(actual, expected, what, "", tolerance)


def must_refuse(action: Callable[[], Any], what: str, kind: type[Exception] = Exception) -> None:
    """Make sure that ``action`` raises an exception of ``kind``. An exercise that is still open raises on.

    Raises:
        Mistake: it raised nothing, or something else. ``what`` names the action, such as "freeing a row twice".

    Example:
        >>> must_refuse(lambda: [].pop(), "taking from an empty list", IndexError)
    """
    name = "an exception" if kind is Exception else _with_article(kind.__name__)
    try:
        result = action()
    except NotImplementedError:
        raise
    except kind:
        return
    except Exception as error:
        raise Mistake(
            f"{what} must raise {name}, and raises {_with_article(type(error).__name__)}.",
            rows=[("Python says", f"{type(error).__name__}: {error}")],
        ) from error
    raise Mistake(f"{what} must raise {name}, and raises none: it returned {shorten(result)}.")


def shorten(value: Any) -> str:
    """A value as text, cut where it gets too long to read.

    Example:
        >>> shorten("ab" * 1000)[-10:]
        'bababa ...'
    """
    text = value if isinstance(value, str) and "\n" in value else repr(value)
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 4]} ..."


def differ(what: str, at: str, actual: Any, expected: Any, rest: str = "") -> NoReturn:
    """Say that ``what`` has the wrong value at the place ``at``, such as ``[2]["slot"]``."""
    where = f"in {what}, {at}" if at else what
    sentence = f"{where} is {shorten(actual)} and should be {shorten(expected)}{rest}."
    raise Mistake(sentence, expected=expected, actual=actual)


def _same(actual: Any, expected: Any, what: str, at: str, tolerance: float) -> None:
    if hasattr(expected, "dtype"):
        same(actual, expected, f"{what}{at}", tolerance=tolerance)
    elif isinstance(expected, Mapping) and isinstance(actual, Mapping):
        _same_keys(set(actual), set(expected), what, at, "key")
        for key, value in expected.items():
            _same(actual[key], value, what, f"{at}[{key!r}]", tolerance)
    elif isinstance(expected, Set) and isinstance(actual, Set):
        _same_keys(actual, expected, what, at, "item")
    elif isinstance(expected, list | tuple) and isinstance(actual, list | tuple):
        _same_items(actual, expected, what, at, tolerance)
    elif not _equal(actual, expected, tolerance):
        differ(what, at, actual, expected, f" (a difference of up to {tolerance:g} is allowed)" if tolerance else "")


def _same_items(actual: Sequence[Any], expected: Sequence[Any], what: str, at: str, tolerance: float) -> None:
    for index, (one, other) in enumerate(zip(actual, expected, strict=False)):
        _same(one, other, what, f"{at}[{index}]", tolerance)
    if len(actual) != len(expected):
        many = "too many" if len(actual) > len(expected) else "too few"
        count = f"{what}{at}: {len(actual)} items where {len(expected)} should be"
        raise Mistake(f"{count}, {many}; the others agree.", expected=expected, actual=actual)


def _same_keys(actual: Set[Any], expected: Set[Any], what: str, at: str, kind: str) -> None:
    missing, extra = sorted(expected - actual, key=repr), sorted(actual - expected, key=repr)
    if missing:
        raise Mistake(f"{what}{at}: the {kind} {shorten(missing[0])} is missing.", expected=expected, actual=actual)
    if extra:
        sentence = f"{what}{at}: the {kind} {shorten(extra[0])} does not belong there."
        raise Mistake(sentence, expected=expected, actual=actual)


def _equal(actual: Any, expected: Any, tolerance: float) -> bool:
    if isinstance(expected, float) and isinstance(actual, int | float):
        return math.isclose(actual, expected, rel_tol=0, abs_tol=tolerance) or (
            actual != actual and expected != expected
        )
    if tolerance and isinstance(expected, int) and isinstance(actual, int | float):
        return abs(actual - expected) <= tolerance
    return isinstance(actual, bool) == isinstance(expected, bool) and bool(actual == expected)


def _with_article(name: str) -> str:
    return f"{'an' if name[0] in 'AEIOU' else 'a'} {name}"
