"""The check of exercise 08.4: the bitmask allocator."""

from __future__ import annotations

import random
from typing import Any

from astrai.course.chapters.ch08_runs import small_run
from astrai.course.handed_in import own_class
from astrai.course.mistakes import Mistake, must_refuse, same
from astrai.course.parting import same_trace
from astrai.inference.cache.slots import Handle, SlotAllocator, SlotError, slots_in


def allocator(MyAllocator: Any) -> None:
    """Their allocator: by hand, refusals, at random against a set of rows, and in an engine."""
    own_class(MyAllocator, "allocate", "free")
    _new(MyAllocator(4))
    _place_of_a_bit(MyAllocator(8))
    _hands_out(MyAllocator(4))
    _among(MyAllocator(4))
    _takes_back(MyAllocator(4))
    for num_slots in (1, 8, 100):
        _at_random(MyAllocator(num_slots), SlotAllocator(num_slots))
    same_trace(small_run(slots=MyAllocator), small_run(), "an engine on your allocator")


def _new(slots: Any) -> None:
    mask = getattr(slots, "free_mask", None)
    if mask is None:
        raise Mistake("A new allocator has no `free_mask`: set `self.free_mask` in `__init__`.")
    if not isinstance(mask, int) or isinstance(mask, bool):
        raise Mistake("`free_mask` should be a whole number, the bits of which are the rows.", actual=mask)
    if mask != 0b1111:
        raise Mistake(
            f"A new allocator of 4 rows has the free_mask {mask:#b} and should have 0b1111: a 1 for each row.",
            expected="0b1111",
            actual=f"{mask:#b}",
        )


def _place_of_a_bit(slots: Any) -> None:
    """Of row 2: its bit (4), the bit_length of that (3) and its place (2) are three numbers. Of row 0 they are not."""
    handle = slots.allocate(among=0b100)
    given = handle[0] if isinstance(handle, tuple) and handle else None
    start = f"`allocate(among=0b100)` gives row {given} and should give row 2"
    if given == 4:
        raise Mistake(f"{start}: 4 is the bit itself, and its place is `bit.bit_length() - 1`.")
    if given == 3:
        raise Mistake(
            f"{start}: one too high. 0b100 has the bit_length 3; the bit of row 0, 0b1, has the bit_length 1."
        )


def _hands_out(slots: Any) -> None:
    for row in range(4):
        handle = slots.allocate()
        if not isinstance(handle, tuple) or len(handle) != 2:
            raise Mistake(
                f"`allocate()` returns {handle!r}; return `self.renew(row)`, which is the row's new handle.",
                expected=Handle(row, 1),
                actual=handle,
            )
        if handle[0] != row:
            raise Mistake(_wrong_row(handle[0], row), expected=row, actual=handle[0])
        same(tuple(handle), Handle(row, 1), f"the handle of the first hand-out of row {row} (slot, version)")
        left = 0b1111 & ~((2 << row) - 1)
        if slots.free_mask != left:
            raise Mistake(
                f"After row {row} was handed out, free_mask is {slots.free_mask:#b} and should be {left:#b}: the bit "
                "of that row, and only it, goes out.",
                expected=f"{left:#b}",
                actual=f"{slots.free_mask:#b}",
            )
    must_refuse(slots.allocate, "`allocate()` when no row is free", SlotError)


def _wrong_row(given: Any, row: int) -> str:
    start = f"with rows {row} to 3 free, `allocate()` gives row {given} and should give row {row}"
    if given == 3:
        return f"{start}: that is the highest free row, not the lowest."
    return f"{start}, the lowest."


def _among(slots: Any) -> None:
    for mask, row in ((0b1100, 2), (0b1001, 0)):
        given = slots.allocate(among=mask)[0]
        if given != row:
            raise Mistake(
                f"`allocate(among={mask:#06b})` gives row {given} and should give row {row}: the lowest row that is "
                "free and in that mask.",
                expected=row,
                actual=given,
            )
    what = "`allocate(among=0b0101)`, when rows 1 and 3 are free and neither of them is asked for,"
    must_refuse(lambda: slots.allocate(among=0b0101), what, SlotError)
    what = "`allocate(among=0)`, which means no row at all (only `None` means any row),"
    must_refuse(lambda: slots.allocate(among=0), what, SlotError)
    _mask_is(slots, 0b1010, "after two hand-outs that were refused")


def _takes_back(slots: Any) -> None:
    handles = [slots.allocate() for _ in range(4)]
    _is_taken_back(slots, handles[2])
    _mask_is(slots, 0b0100, "with all four rows taken and row 2 given back")
    what = "freeing row 2 a second time"
    must_refuse(lambda: slots.free(handles[2]), what, SlotError)
    _mask_is(slots, 0b0100, "after a second `free` of row 2 that was refused")
    _is_taken_back(slots, handles[0])
    _mask_is(slots, 0b0101, "with rows 0 and 2 given back")
    again = slots.allocate()
    same(tuple(again), Handle(0, 2), "the handle of row 0 when it is handed out again (slot, version)")
    what = "freeing row 0 with the handle of its former owner (keep the line `self.check(handle)`)"
    must_refuse(lambda: slots.free(handles[0]), what, SlotError)


def _is_taken_back(slots: Any, handle: Handle) -> None:
    try:
        slots.free(handle)
    except SlotError as error:
        raise Mistake(
            f"`free` refuses row {handle[0]}, which is taken and may be given back: a 1 in `free_mask` means free.",
            rows=[("Python says", f"SlotError: {error}")],
        ) from error


def _mask_is(slots: Any, mask: int, when: str) -> None:
    if slots.free_mask != mask:
        expected, actual = f"{mask:#06b}", f"{slots.free_mask:#06b}"
        raise Mistake(f"{when}, free_mask is {actual} and should be {expected}.", expected=expected, actual=actual)


def _at_random(slots: Any, package: SlotAllocator) -> None:
    """A few hundred moves, next to the package's allocator and a plain set of free rows."""
    num_slots, chance = package.num_slots, random.Random(package.num_slots)
    free, owned = set(range(num_slots)), list[Handle]()
    for move in range(200):
        what = f"move {move} of a run at random on {num_slots} rows"
        if chance.random() < 0.75:
            among = chance.choice([None, chance.getrandbits(num_slots)])
            rows = [row for row in free if among is None or among >> row & 1]
            if not rows:
                action = f"`allocate` when no row that was asked for is free ({what})"
                must_refuse(lambda among=among: slots.allocate(among=among), action, SlotError)  # type: ignore[misc]
                continue
            handle = slots.allocate(among=among)
            same(handle[0], min(rows), f"{what}: the row from `allocate`")
            same(tuple(handle), tuple(package.allocate(among=among)), f"{what}: the handle from `allocate`")
            free.remove(handle[0])
            owned.append(Handle(*handle))
        elif owned:
            handle = owned.pop(chance.randrange(len(owned)))
            slots.free(handle)
            package.free(handle)
            free.add(handle.slot)
        same(set(slots_in(slots.free_mask)), free, f"{what}: the free rows")
