"""Where a new request finds its prefix, which row it gets, and what is forgotten for it.

The manager joins the allocator (who owns a row), the tree (what rows hold) and the order of forgetting. It knows
neither tensors nor queues, and it emits nothing: it returns what changed. A row that was freed keeps its tokens: the
free rows are the prefix cache.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from astrai.inference.cache.radix_tree import Match, PrefixTree
from astrai.inference.cache.slots import Handle, Slots, slots_in
from astrai.trace.events import Event, PrefixCopied, PrefixMatched, SlotAllocated, SlotFreed, SlotReused, SlotTruncated


class Placement(NamedTuple):
    """The row that a request got, how much of its prompt is in it already, and the copy that must be made first."""

    handle: Handle
    cached_len: int
    copy: PrefixCopied | None
    changes: list[Event]


class PrefixCacheManager:
    """Match, place, commit and release rows.

    Args:
        capacity_tokens: how many distinct tokens the tree may hold before the least recently used leaves of free
            rows are cut; ``None`` for no limit but the rows.
        enabled: ``False`` forgets each row as it is freed.
    """

    def __init__(
        self, slots: Slots, tree: PrefixTree, capacity_tokens: int | None = None, enabled: bool = True
    ) -> None:
        self.slots = slots
        self.tree = tree
        self.capacity_tokens = capacity_tokens
        self.enabled = enabled

    def match(self, prompt_ids: Sequence[int]) -> Match:
        """The longest prefix found, short of the last token: that one is always computed, for its logits."""
        return self.tree.match_prefix(prompt_ids[:-1])

    def can_place(self) -> bool:
        """Whether there is a free row."""
        return bool(self.slots.free_mask)

    def place(self, request_id: int, match: Match) -> Placement:
        """Take the row for a request whose prompt was matched just now.

        Zero-copy where a free row holds the match and nothing is lost by taking it. Else the row that is least worth
        keeping is taken: cut, when it happens to hold the match; otherwise the match is copied into it.
        """
        length, holders = match.length, match.holders
        slot = self._reusable_slot(length, holders)
        if slot is None:
            slot = self._least_valuable_slot()
        in_place = bool(holders >> slot & 1)
        source = self._check_known(slot if in_place else next(slots_in(holders))) if length else None
        handle = self.slots.allocate(among=1 << slot)
        changes: list[Event] = []
        if source is not None:
            changes += self.tree.use(match.node)
            changes.append(PrefixMatched(request_id, length, *source))
        if in_place:
            changes.append(SlotReused(*handle, request_id, length))
        else:
            changes.append(SlotAllocated(*handle, request_id))
        changes += self.tree.cut(handle, length if in_place else 0)
        changes += self.tree.lock(slot)
        copy = None if in_place or source is None else PrefixCopied(*source, *handle, length)
        return Placement(handle, length, copy, changes)

    def commit(self, handle: Handle, token_ids: Sequence[int]) -> list[Event]:
        """A row's first tokens are ``token_ids``: call it after the forward or the copy that wrote them returned."""
        self.slots.check(handle)
        if not self.enabled:
            return []
        changes = self.tree.insert(handle, token_ids)
        changes += self.tree.use(self.tree.end_node(handle.slot))
        return changes + self.evict()

    def release(self, handle: Handle, token_ids: Sequence[int]) -> list[Event]:
        """Take a row back from its owner. The row holds ``token_ids``, and keeps them."""
        kept_len = len(token_ids) if self.enabled else 0
        changes = self.commit(handle, token_ids)
        self.slots.free(handle)
        changes += self.tree.unlock(handle.slot)
        changes.append(SlotFreed(*handle, kept_len))
        return changes + self.evict()

    def evict(self) -> list[Event]:
        """Cut the least recently used unlocked leaves from their rows until the tree is within its capacity."""
        changes: list[Event] = []
        while self.capacity_tokens is not None and self.tree.num_tokens > self.capacity_tokens:
            leaf = self.tree.lru_leaf()
            if leaf is None:
                break
            start = leaf.start
            for slot in slots_in(leaf.holders):
                handle = self.slots.renew(slot)
                changes.append(SlotTruncated(*handle, start))
                changes += self.tree.cut(handle, start)
        return changes

    # --- which row ----------------------------------------------------------------------------------------------------

    def _reusable_slot(self, length: int, holders: int) -> int | None:
        """A free row that holds the match and loses nothing: it ends there, or another row holds all of it too."""
        for slot in slots_in(holders & self.slots.free_mask):
            end = self.tree.end_node(slot)
            if end.end == length or end.holders != 1 << slot:
                return slot
        return None

    def _least_valuable_slot(self) -> int:
        """A blank row, else one whose tokens another row holds too, else the one whose leaf was used longest ago."""
        free = self.slots.free_mask
        assert free, "ask can_place first"
        if blank := free & ~self.tree.holding:
            return next(slots_in(blank))
        ends = {slot: self.tree.end_node(slot) for slot in slots_in(free)}
        return min(ends, key=lambda slot: (ends[slot].holders == 1 << slot, ends[slot].last_used, slot))

    def _check_known(self, slot: int) -> Handle:
        """The handle under which the tree knows a row, refused when the row was handed out or cut since."""
        handle = Handle(slot, self.tree.version(slot))
        self.slots.check(handle)
        return handle

    def check_integrity(self) -> None:
        """Assert that allocator and tree agree."""
        self.tree.check_integrity()
        owned = ~self.slots.free_mask & ((1 << self.slots.num_slots) - 1)
        assert self.tree.locked == owned, f"locked rows {self.tree.locked:b} are not the owned rows {owned:b}"
        for slot in slots_in(self.tree.holding):
            self._check_known(slot)
        if self.capacity_tokens is not None and self.tree.num_tokens > self.capacity_tokens:
            assert self.tree.lru_leaf() is None, "above capacity although a leaf could be evicted"
