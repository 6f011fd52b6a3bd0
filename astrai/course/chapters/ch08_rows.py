"""The check of exercise 08.6: which free row is handed out."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any, NamedTuple

from astrai.course.chapters.ch08_runs import small_run
from astrai.course.handed_in import own_class
from astrai.course.mistakes import Mistake
from astrai.course.parting import same_trace
from astrai.inference.cache.slots import SlotAllocator

GIVEN = ("AskingCache", "LowestFree", "BlankThenOldest")  # in the notebook
Choose = Callable[[int, int, int, list[int]], Any]


class Rows(NamedTuple):
    """What ``choose_row`` is told: three masks, and when each row was last used."""

    free: int
    holding: int
    held_twice: int
    last_used: list[int]


def chooser(MyCache: Any) -> None:
    """Their choice of a row: rule by rule, at random against a sort, and in an engine."""
    from astrai.inference.cache.prefix_cache import PrefixCacheManager

    own_class(MyCache, "choose_row", base=PrefixCacheManager, begin="AskingCache", given=GIVEN)
    choose = _made(MyCache).choose_row
    _blank_first(choose)
    _held_twice_next(choose)
    _oldest_last(choose)
    _rows_at_random(choose)
    same_trace(small_run(prefix_cache=MyCache), small_run(), "an engine on your cache")


def _made(kind: Any) -> Any:
    from astrai.inference.cache.radix_tree import RadixTree

    return kind(SlotAllocator(4), RadixTree())


def _blank_first(choose: Choose) -> None:
    rows = Rows(free=0b1100, holding=0b1011, held_twice=0, last_used=[9, 8, 0, 7])  # a mask of row 2 is no row: 4
    _expect(choose, rows, 2, "row 2 is free and blank")
    told = "It takes row 0, which remembers a chat, although rows 1, 2 and 3 are blank."
    rows = Rows(free=0b1111, holding=0b0001, held_twice=0, last_used=[9, 0, 0, 0])
    _expect(choose, rows, 1, "rows 1, 2 and 3 are blank, and the lowest of them should be taken", {0: told})
    rows = Rows(free=0b0011, holding=0b0111, held_twice=0, last_used=[2, 4, 9, 0])
    _expect(choose, rows, 0, "row 3 is blank but not free, so of the free rows 0 and 1 the older should be taken")
    rows = Rows(free=0b1110, holding=0b0111, held_twice=0b0110, last_used=[9, 1, 2, 0])
    _expect(choose, rows, 3, "rows 1 and 2 are held twice, but row 3 is blank, and a blank row goes first")


def _held_twice_next(choose: Choose) -> None:
    told = (
        "It takes row 0, the oldest, and with it the only copy of its tokens. Rows 1 and 2 are held twice: if one of "
        "them goes, nothing is forgotten."
    )
    rows = Rows(free=0b1111, holding=0b1111, held_twice=0b0110, last_used=[1, 9, 8, 2])
    _expect(choose, rows, 2, "rows 1 and 2 are held twice, and row 2 of them was used longest ago", {0: told})
    rows = Rows(free=0b1001, holding=0b1111, held_twice=0b0110, last_used=[7, 1, 2, 3])
    _expect(choose, rows, 3, "rows 1 and 2 are held twice but not free, so of rows 0 and 3 the older should be taken")


def _oldest_last(choose: Choose) -> None:
    why = "no row is blank or held twice, so the one used longest ago should go"
    told = (
        "It takes row 2, the one used last, and row 1 was used longest ago: smaller numbers in `last_used` are earlier."
    )
    _expect(choose, Rows(0b1111, 0b1111, 0, [5, 3, 9, 4]), 1, why, {2: told})
    _expect(choose, Rows(0b1101, 0b1111, 0, [5, 3, 9, 4]), 3, f"{why}; row 1 is older, but not free")
    _expect(choose, Rows(0b1010, 0b1111, 0, [1, 7, 2, 7]), 1, f"{why}, and the lower where two are equal")


def _rows_at_random(choose: Choose) -> None:
    chance = random.Random(6)
    for _ in range(300):
        count = chance.randint(1, 70)
        free = chance.getrandbits(count) or 1
        holding = chance.choice([(1 << count) - 1, chance.getrandbits(count)])
        held_twice = chance.getrandbits(count) & holding & chance.choice([0, -1])
        last_used = [chance.randint(1, 9) if holding >> row & 1 else 0 for row in range(count)]
        worth = {
            row: (holding >> row & 1, not held_twice >> row & 1, last_used[row], row)
            for row in range(count)
            if free >> row & 1
        }
        rows = Rows(free, holding, held_twice, last_used)
        _expect(choose, rows, min(worth, key=worth.__getitem__), "by the three rules, then by age, then by number")


def _expect(choose: Choose, rows: Rows, expected: int, why: str, told: dict[int, str] | None = None) -> None:
    """Ask for a row. ``told`` are sentences for certain wrong rows."""
    row = choose(rows.free, rows.holding, rows.held_twice, list(rows.last_used))
    asked = [(name, f"{value}" if name == "last_used" else f"{value:#06b}") for name, value in rows._asdict().items()]
    if not isinstance(row, int) or isinstance(row, bool):
        raise Mistake(f"`choose_row` should return the number of a row, and returns {row!r}.", rows=asked)
    if row == expected:
        return
    sentence = f"It takes row {row} and should take row {expected}: {why}."
    if row < 0 or not rows.free >> row & 1:
        is_mask = row == 1 << expected and row >= len(rows.last_used)
        hint = f" {row:#b} is a mask; the row is the place of its bit." if is_mask else ""
        sentence = f"It takes row {row}, which is not free: {why}.{hint}"
    raise Mistake((told or {}).get(row, sentence), expected=expected, actual=row, rows=asked)
