"""The check of exercise 13.2: versions that refuse old handles, alone and below the engine's prefix cache."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING

from astrai.course.handed_in import own_class
from astrai.course.mistakes import Mistake, must_refuse, same

if TYPE_CHECKING:
    from astrai.inference.cache.slots import Handle, SlotAllocator

HAND_OUTS = 300  # more than a counter of eight bits can tell apart


def versions(MyVersions: Callable[[int], SlotAllocator]) -> None:
    """``renew`` and ``check``, alone, then below the prefix cache of an engine."""
    from astrai.inference.cache.slots import Handle

    own_class(MyVersions, "renew", "check")
    slots = MyVersions(3)
    untouched = slots.handle(0)
    first = _renewed(slots, 1)
    _accepts(slots, first, "the handle that renew(1) has just returned")
    second = _renewed(slots, 1)
    if second.version == first.version:
        raise Mistake(f"renew(1) gave version {first.version} twice: an old handle then looks like a new one.")
    if second.version < first.version:
        raise Mistake(
            f"renew(1) lowered the version from {first.version} to {second.version}. It must only ever rise: a number "
            "that comes back makes an old handle look like a new one."
        )
    _refuses(slots, first, "that was good one hand-out ago")
    _accepts(slots, second, "the newest handle of slot 1")
    same(slots.handle(1), second, "slots.handle(1) after renew(1)")
    _accepts(slots, untouched, "the handle of slot 0, when only slot 1 was renewed")
    _refuses(slots, second._replace(version=second.version + 1), "whose version is yet to come")
    last = second
    for count in range(2, HAND_OUTS):
        newest = _renewed(slots, 1)
        if newest.version <= last.version:
            raise Mistake(
                f"After {count} calls of renew(1) the version goes from {last.version} to {newest.version}: an old "
                "handle looks like a new one then. Let it rise without end: Python's integers do not run out."
            )
        last = newest
    # A version above 256, so that it is an int of its own: `is` tells it from an equal one.
    anew = "a handle of the newest version that was made anew (`==` compares numbers, `is` asks for the same object)"
    _accepts(slots, Handle(1, int(str(last.version))), anew)
    _refuses(slots, first, f"that was good {HAND_OUTS - 1} hand-outs ago")
    _names_what_it_saw(slots)
    _at_work(MyVersions)


def _renewed(slots: SlotAllocator, slot: int) -> Handle:
    from astrai.inference.cache.slots import Handle

    handle = slots.renew(slot)
    if not isinstance(handle, Handle):
        said = "nothing: is the return missing?" if handle is None else f"{handle!r}."
        raise Mistake(f"renew({slot}) must return the slot's new handle, Handle({slot}, version), and returns {said}")
    same(handle.slot, slot, f"the slot in the handle that renew({slot}) returns")
    now = slots.handle(slot).version
    if handle.version != now:
        raise Mistake(
            f"renew({slot}) returns a handle of version {handle.version}, but then slot {slot} is at version {now}: "
            f"raise the number in `self.versions[{slot}]`, and return the raised one."
        )
    return handle


def _accepts(slots: SlotAllocator, handle: Handle, what: str) -> None:
    from astrai.inference.cache.slots import SlotError

    try:
        slots.check(handle)
    except SlotError as error:
        raise Mistake(
            f"check refuses {what}, {_in_words(handle)}, which is good.", rows=[("it says", str(error))]
        ) from error


def _refuses(slots: SlotAllocator, handle: Handle, which: str) -> None:
    from astrai.inference.cache.slots import SlotError

    now = slots.handle(handle.slot).version
    what = f"check of a handle {which} ({_in_words(handle)}, while slot {handle.slot} is at version {now})"
    must_refuse(lambda: slots.check(handle), what, SlotError)


def _names_what_it_saw(slots: SlotAllocator) -> None:
    from astrai.inference.cache.slots import SlotError

    old = [slots.renew(2) for _ in range(5)][-1]
    now = slots.renew(2)
    try:
        slots.check(old)
    except SlotError as error:
        wanted = {"the slot": old.slot, "the version seen": old.version, "the one of now": now.version}
        said = re.findall(r"\d+", str(error))
        missing = [f"{name} ({number})" for name, number in wanted.items() if str(number) not in said]
        if missing:
            sentence = f"The SlotError does not say {' and '.join(missing)}: whoever meets it wants to know."
            raise Mistake(sentence, rows=[("it says", str(error) or "nothing at all")]) from error


def _at_work(MyVersions: Callable[[int], SlotAllocator]) -> None:
    """Rows are handed out, freed and cut by the package's prefix cache; each time the older handles must be stale."""
    from astrai.inference.cache.prefix_cache import PrefixCacheManager
    from astrai.inference.cache.radix_tree import RadixTree
    from astrai.inference.cache.slots import SlotError

    for capacity in (None, 4):
        slots = MyVersions(2)
        cache = PrefixCacheManager(slots, RadixTree(), capacity_tokens=capacity)
        old: list[Handle] = []
        for number, prompt in enumerate([(1, 2, 3), (1, 2, 4, 5), (6, 7, 8), (1, 2, 3, 9), (6, 7, 5)]):
            try:
                handle = cache.place(number, cache.match(prompt)).handle
                cache.release(handle, prompt)
                cache.check_integrity()
            except SlotError as error:
                sentence = "On the engine's own prefix cache, your slots refuse a handle that is good."
                raise Mistake(sentence, rows=[("they say", str(error))]) from error
            for stale in old:
                if stale.slot == handle.slot:
                    _refuses(slots, stale, "that was good before the engine handed the slot out again")
            old.append(handle)


def _in_words(handle: Handle) -> str:
    return f"slot {handle.slot} at version {handle.version}"
