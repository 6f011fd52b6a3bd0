"""Planted defects for the chapter on slot versions and its film: what if the engine trusted what it once saw.

AstrAI looks for a prefix in the moment in which it hands a slot out, so nothing that it saw can grow old before it is
used. Here, and only here, something can. ``NotesOnArrival`` has each request look when it arrives and make a note;
``BelievedNotes`` goes by such a note whatever has happened since (``CheckedNotes`` does not). ``TakesOver`` hands a row
on as if nobody but its new owner knew of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from astrai.inference.cache.prefix_cache import Placement, PrefixCacheManager
from astrai.inference.cache.radix_tree import Match
from astrai.inference.cache.slots import Handle, SlotAllocator, SlotError, slots_in
from astrai.inference.scheduler import InferenceScheduler
from astrai.trace.events import Event, PrefixMatched, SlotReused


class Note(NamedTuple):
    """What a request saw when it arrived: the row of ``handle`` holds the first ``length`` tokens of its prompt."""

    handle: Handle
    length: int


class NotesOnArrival(InferenceScheduler):
    """Planted: a request's prefix is looked up when it arrives. Its cache must take notes."""

    cache: BelievedNotes

    def cleanup(self) -> None:
        """As in the package; then each request that has just joined the queue has a look."""
        super().cleanup()
        for request in self.waiting.values():
            self.cache.note_down(request.request_id, request.prompt_ids)


class BelievedNotes(PrefixCacheManager):
    """Planted: a note is believed, whatever has happened since it was made."""

    def __init__(self, *parts: Any, **settings: Any) -> None:
        super().__init__(*parts, **settings)
        self.notes: dict[int, Note] = {}  # by request

    def note_down(self, request_id: int, prompt_ids: Sequence[int]) -> None:
        """Keep what is there now, unless this request has its note already."""
        match = self.match(prompt_ids)
        if match.length and request_id not in self.notes:
            slot = next(slots_in(match.holders))
            self.notes[request_id] = Note(self.slots.handle(slot), match.length)

    def trusts(self, note: Note) -> bool:
        """Whether to go by a note."""
        return True

    def place(self, request_id: int, match: Match) -> Placement:
        """A row for a request: by its note, or by ``match``, which is what the cache holds now."""
        note = self.notes.get(request_id)
        if note is None or not self.trusts(note):
            return super().place(request_id, match)
        handle = self.slots.allocate(among=1 << note.handle.slot)
        changes = self.tree.use(self.tree.end_node(handle.slot))
        changes.append(PrefixMatched(request_id, note.length, *note.handle))
        changes.append(SlotReused(*handle, request_id, note.length))
        changes += self.tree.cut(handle, note.length) + self.tree.lock(handle.slot)
        return Placement(handle, note.length, None, changes)


class CheckedNotes(BelievedNotes):
    """A note is believed if its row has not been handed out or cut since."""

    def trusts(self, note: Note) -> bool:
        """Whether the row is as it was."""
        try:
            self.slots.check(note.handle)
        except SlotError:
            return False
        return True


class TakesOver(PrefixCacheManager):
    """Planted: a free row that holds the beginning of a prompt is taken over as it stands."""

    slots: SlotAllocator

    def take_over(self, slot: int, length: int) -> tuple[Handle, list[Event]]:
        """Make a free row the property of a request that needs its first ``length`` tokens."""
        self.slots.free_mask ^= 1 << slot
        return self.slots.handle(slot), []

    def place(self, request_id: int, match: Match) -> Placement:
        """A row for a request: a free one that holds the match if there is one, else as in the package."""
        rows = list(slots_in(match.holders & self.slots.free_mask))
        if not rows:
            return super().place(request_id, match)
        changes = self.tree.use(match.node)
        changes.append(PrefixMatched(request_id, match.length, *self.slots.handle(rows[0])))
        handle, taken = self.take_over(rows[0], match.length)
        changes.append(SlotReused(*handle, request_id, match.length))
        changes += [*taken, *self.tree.lock(rows[0])]
        return Placement(handle, match.length, None, changes)
