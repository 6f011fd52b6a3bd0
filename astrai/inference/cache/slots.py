"""Which rows of the KV cache are free, and how old each hand-out is.

A **slot** is one request's whole row of ``k_cache`` and ``v_cache`` (vLLM and SGLang call a single token position a
slot). The allocator keeps the free rows as the bits of one int and a version per row. It does not know what a row
holds, who owns it or why it is taken.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple, Protocol


class SlotError(RuntimeError):
    """A row was freed twice, taken while owned, or reached through a handle that is no longer valid."""


class Handle(NamedTuple):
    """A row as it was at one hand-out. Once the row is handed out again or cut, the handle is stale."""

    slot: int
    version: int


def slots_in(mask: int) -> Iterator[int]:
    """The positions of the set bits, lowest first. Example: ``list(slots_in(0b1010)) == [1, 3]``.

    Raises:
        ValueError: the mask is negative, as ``~mask`` is: it has ones without end.
    """
    if mask < 0:
        raise ValueError(f"the mask {mask} is negative and has ones without end: instead of ~mask write rows & ~mask")
    while mask:
        lowest = mask & -mask
        yield lowest.bit_length() - 1
        mask ^= lowest


class Slots(Protocol):
    """What the prefix cache asks of an allocator: write your own and pass it as ``InferenceEngine(slots=...)``."""

    @property
    def num_slots(self) -> int: ...
    @property
    def free_mask(self) -> int: ...
    def allocate(self, among: int | None = None) -> Handle: ...
    def free(self, handle: Handle) -> None: ...
    def renew(self, slot: int) -> Handle: ...
    def handle(self, slot: int) -> Handle: ...
    def check(self, handle: Handle) -> None: ...


class SlotAllocator:
    """Free rows as a bitmask: bit ``i`` is set when row ``i`` is free.

    Example:
        >>> slots = SlotAllocator(4)
        >>> slots.allocate(), slots.allocate()
        (Handle(slot=0, version=1), Handle(slot=1, version=1))
        >>> slots.free(Handle(0, 1)); bin(slots.free_mask)
        '0b1101'
    """

    def __init__(self, num_slots: int) -> None:
        if num_slots < 1:
            raise ValueError(f"num_slots is {num_slots}, but must be at least 1")
        self.num_slots = num_slots
        self.free_mask = (1 << num_slots) - 1
        self.versions = [0] * num_slots

    def allocate(self, among: int | None = None) -> Handle:
        """Hand out the lowest free row (of those in the mask ``among``) under a new version."""
        candidates = self.free_mask if among is None else self.free_mask & among
        if not candidates:
            raise SlotError(f"no free slot among {_names(among)}: free are {_names(self.free_mask)}")
        lowest = candidates & -candidates
        self.free_mask ^= lowest
        return self.renew(lowest.bit_length() - 1)

    def free(self, handle: Handle) -> None:
        """Take a row back. Its version stays, so that what it holds can still be found under this handle."""
        self.check(handle)
        if self.free_mask >> handle.slot & 1:
            raise SlotError(f"slot {handle.slot} is free already: two owners would share it")
        self.free_mask |= 1 << handle.slot

    def renew(self, slot: int) -> Handle:
        """Raise the version of a row, which makes all older handles to it stale."""
        self.versions[slot] += 1
        return Handle(slot, self.versions[slot])

    def handle(self, slot: int) -> Handle:
        """The present handle of a row."""
        return Handle(slot, self.versions[slot])

    def check(self, handle: Handle) -> None:
        """Refuse a stale handle."""
        if self.versions[handle.slot] != handle.version:
            raise SlotError(
                f"stale handle: slot {handle.slot} was seen at version {handle.version}, "
                f"but is at version {self.versions[handle.slot]} now and may hold other tokens"
            )


def _names(mask: int | None) -> str:
    return "all" if mask is None else str(list(slots_in(mask)))
