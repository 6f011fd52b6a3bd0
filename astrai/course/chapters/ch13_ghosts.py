"""The checks of exercises 13.3 and 13.5: each part in a small situation, then on the real engine with real text."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from astrai.course.chapters.ch13_runs import FOX, FROG, ask, new_engine, told
from astrai.course.handed_in import own_class
from astrai.course.mistakes import Mistake, same

if TYPE_CHECKING:
    from astrai.inference.cache.slots import Handle, SlotAllocator
    from astrai.trace.log import EventLog

HELD = (1, 2, 3, 4, 5)  # tokens in a row


# --- 13.3, notes ------------------------------------------------------------------------------------------------------


def notes(MyNotes: Callable[..., Any]) -> None:
    """``trusts`` on notes of every age, then the story."""
    from astrai.course.ghost import Note
    from astrai.inference.cache.radix_tree import RadixTree
    from astrai.inference.cache.slots import SlotAllocator

    own_class(MyNotes, "trusts")
    slots = SlotAllocator(2)
    reader = MyNotes(slots, RadixTree())
    handle = slots.allocate()
    note = Note(handle, 3)
    _trusts(reader, note, True, "of a row that has not changed hands, and is in use")
    slots.free(handle)
    _trusts(reader, note, True, "of a row that was freed, and still holds what it held")
    again = slots.allocate()
    _trusts(reader, note, False, "of a row that was handed out again, and is in use")
    slots.free(again)
    _trusts(reader, note, False, "of a row that was handed out again, and is free as it was before")
    _trusts(reader, Note(again, 3), True, "that was made after the last hand-out")
    slots.renew(0)
    _trusts(reader, Note(again, 3), False, "of a row that was cut since")
    _story(MyNotes)


def _trusts(reader: Any, note: Any, expected: bool, which: str) -> None:
    from astrai.inference.cache.slots import SlotError

    try:
        answer = reader.trusts(note)
    except SlotError as error:
        sentence = f"trusts lets a SlotError out for a note {which}: it ends the engine. Catch it, and answer `False`."
        raise Mistake(sentence, rows=[("check says", str(error))]) from error
    if answer is None:
        raise Mistake(f"trusts returns nothing (`None`) for a note {which}: on each way through it, return an answer.")
    if isinstance(answer, str):
        sentence = (
            f"trusts returns the text {answer!r}, which counts as true: return `True` or `False`, without quotes."
        )
        raise Mistake(sentence)
    same(bool(answer), expected, f"trusts(note) for a note {which}")


def _story(MyNotes: Callable[..., Any]) -> None:
    from astrai.course.ghost import CheckedNotes
    from astrai.course.parting import same_trace

    same_trace(
        _told_with(MyNotes), _rightly(_told_with, CheckedNotes), what="the story of Ann, Ben and Cleo with your reader"
    )


def _told_with(reader: Callable[..., Any]) -> EventLog:
    """What the engine does in the story with this reader of notes."""
    from astrai.course.ghost import NotesOnArrival

    engine = new_engine(scheduler=NotesOnArrival, prefix_cache=reader)
    ask(engine, FOX)
    ben, cleo = ask(engine, FROG, FOX)
    told("Ben", FROG, ben)
    told("Cleo", FOX, cleo)
    return engine.trace


# --- 13.5, a row that changes hands -----------------------------------------------------------------------------------


def takes_over(Mended: Callable[..., Any]) -> None:
    """``take_over`` on the second of three free rows, then four questions on one row."""
    from astrai.course.parting import same_trace
    from astrai.inference.cache.prefix_cache import PrefixCacheManager
    from astrai.inference.cache.radix_tree import RadixTree
    from astrai.inference.cache.slots import SlotAllocator

    own_class(Mended, "take_over")
    slots, tree = SlotAllocator(3), RadixTree()
    mended = Mended(slots, tree)
    other = mended.place(0, mended.match((6, 7))).handle
    before = mended.place(1, mended.match(HELD)).handle
    mended.release(other, (6, 7))
    mended.release(before, HELD)
    handle, changes = _two_things(mended.take_over(1, 3))
    _is_taken(slots, before)
    same(handle, slots.handle(1), "the handle that take_over(1, 3) returns")
    same(tree.row_ids(1), HELD[:3], "the tokens that row 1 holds in the eyes of the tree after take_over(1, 3)")
    same(tree.version(1), handle.version, "the version at which the tree knows the row after take_over(1, 3)")
    if not changes:
        raise Mistake(
            "take_over cuts the path in the tree, but its list of changes is empty: return what `cut` returned."
        )
    expected = _rightly(_four_questions, PrefixCacheManager)
    same_trace(_four_questions(Mended), expected, what="the run with your row that changes hands")


def _two_things(taken: Any) -> tuple[Handle, Sequence[Any]]:
    """The handle and the changes that ``take_over`` returned."""
    from astrai.inference.cache.slots import Handle
    from astrai.trace.events import Event

    pair = taken if isinstance(taken, tuple | list) and len(taken) == 2 else (None, None)
    if not isinstance(taken, Handle) and isinstance(pair[1], Handle):
        raise Mistake("take_over returns its two things in the wrong order: the handle comes first, then the changes.")
    if isinstance(taken, Handle) or not isinstance(pair[1], tuple | list):
        raise Mistake(f"take_over returns two things, the new handle and the list of changes; yours is {taken!r}.")
    for change in pair[1]:
        if not isinstance(change, Event):
            held = "a list" if isinstance(change, tuple | list) else repr(change)
            raise Mistake(f"The list of changes holds {held}: return the list that `cut` returned, as it is.")
    return pair


def _is_taken(slots: SlotAllocator, before: Handle) -> None:
    if slots.free_mask & 0b010:
        also = ", and another slot is taken in its place" if slots.free_mask != 0b111 else ""
        raise Mistake(f"After take_over(1, 3), slot 1 still counts as free{also}: two requests would share it.")
    if slots.free_mask != 0b101:
        raise Mistake("take_over(1, 3) must take slot 1 and no other, but more than one slot is taken.")
    if slots.handle(1) == before:
        raise Mistake(
            f"take_over leaves slot 1 at version {before.version}: whoever saw it before still takes its handle for "
            "good."
        )


def _four_questions(part: Callable[..., Any]) -> EventLog:
    """What the engine does with this prefix cache when four ask one after the other."""
    engine = new_engine(prefix_cache=part)
    for name, question in (("Ann", FOX), ("Ben", FROG), ("Cleo", FOX), ("Dora", FOX)):
        told(name, question, *ask(engine, question))
        engine.scheduler.check_integrity()
    return engine.trace


@functools.cache
def _rightly(run: Callable[[Any], EventLog], part: Callable[..., Any]) -> EventLog:
    """The run with the package's own part: once is enough."""
    return run(part)
