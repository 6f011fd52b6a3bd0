"""The checks of exercises 13.3 and 13.5: each part in a small situation, then on the real engine with real text."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from astrai.course.mistakes import Mistake, same

if TYPE_CHECKING:
    from astrai.inference.cache.slots import Handle, SlotAllocator
    from astrai.inference.engine import InferenceEngine

FOX, FROG = "Tell me a story about a fox.", "Tell me a story about a frog."
HELD = (1, 2, 3, 4, 5)  # tokens in a row
MOST_STEPS = 100  # a question takes 17


# --- 13.3, notes ------------------------------------------------------------------------------------------------------


def notes(MyNotes: Callable[..., Any]) -> None:
    """``trusts`` on notes of every age, then the story."""
    from astrai.course.ghost import Note
    from astrai.inference.cache.radix_tree import RadixTree
    from astrai.inference.cache.slots import SlotAllocator

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
    same(bool(answer), expected, f"trusts(note) for a note {which}")


def _story(MyNotes: Callable[..., Any]) -> None:
    from astrai.course.ghost import CheckedNotes, NotesOnArrival
    from astrai.course.parting import same_trace

    logs = []
    for reader in (MyNotes, CheckedNotes):
        engine = new_engine(scheduler=NotesOnArrival, prefix_cache=reader)
        ask(engine, FOX)
        ben, cleo = ask(engine, FROG, FOX)
        logs.append(engine.trace)
        _told("Ben", FROG, ben)
        _told("Cleo", FOX, cleo)
    same_trace(*logs, what="the story of Ann, Ben and Cleo with your reader")


# --- 13.5, a row that changes hands -----------------------------------------------------------------------------------


def takes_over(Mended: Callable[..., Any]) -> None:
    """``take_over`` on the second of three free rows, then four questions on one row."""
    from astrai.inference.cache.radix_tree import RadixTree
    from astrai.inference.cache.slots import SlotAllocator

    slots, tree = SlotAllocator(3), RadixTree()
    mended = Mended(slots, tree)
    other = mended.place(0, mended.match((6, 7))).handle
    before = mended.place(1, mended.match(HELD)).handle
    mended.release(other, (6, 7))
    mended.release(before, HELD)
    taken = mended.take_over(1, 3)
    if not isinstance(taken, tuple) or len(taken) != 2 or not isinstance(taken[1], list):
        raise Mistake(f"take_over returns two things, the new handle and the list of changes; yours is {taken!r}.")
    handle, changes = taken
    _is_taken(slots, before)
    same(handle, slots.handle(1), "the handle that take_over(1, 3) returns")
    same(tree.row_ids(1), HELD[:3], "the tokens that row 1 holds in the eyes of the tree after take_over(1, 3)")
    same(tree.version(1), handle.version, "the version at which the tree knows the row after take_over(1, 3)")
    if not changes:
        raise Mistake(
            "take_over cuts the path in the tree, but its list of changes is empty: return what `cut` returned."
        )
    _four_questions(Mended)


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


def _four_questions(Mended: Callable[..., Any]) -> None:
    from astrai.course.parting import same_trace
    from astrai.inference.cache.prefix_cache import PrefixCacheManager

    logs = []
    for part in (Mended, PrefixCacheManager):
        engine = new_engine(prefix_cache=part)
        for name, question in (("Ann", FOX), ("Ben", FROG), ("Cleo", FOX), ("Dora", FOX)):
            _told(name, question, *ask(engine, question))
            engine.scheduler.check_integrity()
        logs.append(engine.trace)
    same_trace(*logs, what="the run with your row that changes hands")


# --- the real engine --------------------------------------------------------------------------------------------------


@functools.cache
def model() -> tuple[Any, Any]:
    import astrai

    return astrai.load("tiny")


def new_engine(**parts: Any) -> InferenceEngine:
    from astrai.inference.engine import InferenceEngine

    return InferenceEngine(*model(), num_slots=1, start=False, **parts)


@functools.cache
def _alone(question: str) -> str:
    """What a fresh engine answers, which remembers nobody."""
    return ask(new_engine(), question)[0]


def ask(engine: InferenceEngine, *questions: str) -> Sequence[str]:
    """The first sentence of each answer, all asked at once."""
    from astrai.config import SamplingParams
    from astrai.inference.engine import GenerationRequest

    chats = [[{"role": "user", "content": text}] for text in questions]
    sampling = SamplingParams(max_tokens=16)
    streams = [engine.submit(GenerationRequest(messages=chat, sampling=sampling)) for chat in chats]
    for _ in range(MOST_STEPS):
        if engine.scheduler.has_work:
            engine.scheduler.step()
    if engine.scheduler.has_work:
        raise Mistake(f"After {MOST_STEPS} steps the engine still has no answer to {questions}.")
    return [stream.result().text for stream in streams]


def _told(name: str, question: str, answer: str) -> None:
    if answer != _alone(question):
        asked = question.split()[-1].rstrip(".")
        raise Mistake(
            f"On the real engine {name} asks for a {asked} and reads what is not meant for {name}.",
            expected=_alone(question),
            actual=answer,
        )
