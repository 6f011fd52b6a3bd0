"""Placing and forgetting, on rows small enough to check by hand."""

import pytest

from astrai.inference.cache.prefix_cache import Placement, PrefixCacheManager
from astrai.inference.cache.radix_tree import RadixTree
from astrai.inference.cache.slots import Handle, SlotAllocator, SlotError
from astrai.trace.events import (
    NodeEvicted,
    PathHeld,
    PathLocked,
    PathUsed,
    PrefixCopied,
    PrefixMatched,
    SlotAllocated,
    SlotReused,
    SlotTruncated,
)


def cache_of(num_slots: int, **options) -> PrefixCacheManager:
    return PrefixCacheManager(SlotAllocator(num_slots), RadixTree(), **options)


def place(cache: PrefixCacheManager, prompt: tuple[int, ...]) -> Placement:
    placement = cache.place(0, cache.match(prompt))
    if placement.copy:
        cache.commit(placement.handle, prompt[: placement.cached_len])
    return placement


def run(cache: PrefixCacheManager, prompt: tuple[int, ...], output: tuple[int, ...] = ()) -> Placement:
    """A request that comes, computes its prompt and goes."""
    placement = place(cache, prompt)
    cache.release(placement.handle, prompt + output)
    cache.check_integrity()
    return placement


def test_at_least_one_prompt_token_is_always_computed():
    cache = cache_of(2)
    run(cache, (1, 2, 3))
    assert cache.match((1, 2, 3)).length == 2


def test_the_next_turn_of_a_chat_finds_prompt_and_answer_and_takes_the_row_as_it_is():
    cache = cache_of(2)
    first = run(cache, (1, 2), output=(3, 4))
    second = place(cache, (1, 2, 3, 4, 5))
    assert (second.handle.slot, second.cached_len, second.copy) == (first.handle.slot, 4, None)
    assert second.changes == [
        PathUsed(1, 2),
        PrefixMatched(0, 4, 0, 1),
        SlotReused(slot=0, version=2, request_id=0, kept_len=4),
        PathHeld(slot=0, version=2, node_id=1),
        PathLocked(0),
    ]


def test_a_row_that_would_lose_its_tail_is_copied_from_while_there_is_a_blank_one():
    cache = cache_of(2)
    run(cache, (1, 2, 3, 4))
    placement = place(cache, (1, 2, 9))
    assert placement.copy == PrefixCopied(src=0, src_version=1, dst=1, dst_version=1, length=2)
    assert SlotAllocated(1, 1, 0) in placement.changes
    assert cache.tree.row_ids(0) == (1, 2, 3, 4)


def test_a_prefix_is_copied_into_the_free_row_with_the_oldest_leaf():
    cache = cache_of(2)
    run(cache, (7, 7, 7))
    run(cache, (1, 2, 3, 4))
    placement = place(cache, (1, 2, 9))
    assert placement.copy == PrefixCopied(src=1, src_version=1, dst=0, dst_version=2, length=2)
    assert cache.tree.row_ids(0) == (1, 2) and cache.tree.row_ids(1) == (1, 2, 3, 4)


def test_the_only_free_row_is_cut_to_the_match():
    cache = cache_of(1)
    run(cache, (1, 2, 3, 4))
    placement = place(cache, (1, 2, 9))
    assert (placement.handle, placement.cached_len, placement.copy) == (Handle(0, 2), 2, None)
    assert SlotReused(0, 2, 0, 2) in placement.changes
    assert cache.tree.row_ids(0) == (1, 2)


def test_a_running_row_gives_its_prefix_by_copy_and_is_never_taken():
    cache = cache_of(2)
    first = place(cache, (1, 2, 3))
    cache.commit(first.handle, (1, 2, 3))
    placement = place(cache, (1, 2, 3, 4))
    assert placement.copy == PrefixCopied(0, 1, 1, 1, 3)
    cache.check_integrity()


def test_a_row_held_twice_is_taken_without_loss():
    cache = cache_of(3)
    run(cache, (1, 2, 3, 4))
    first = place(cache, (1, 2, 3, 4, 5))  # zero-copy of row 0
    cache.commit(first.handle, (1, 2, 3, 4, 5))
    second = place(cache, (1, 2, 3, 4, 6))  # a copy in row 1
    cache.release(second.handle, (1, 2, 3, 4))
    third = place(cache, (1, 2, 8))  # rows 0 and 1 hold (1, 2, 3, 4): taking row 1 loses nothing
    assert (third.handle.slot, third.cached_len, third.copy) == (1, 2, None)


def test_a_fresh_request_takes_a_blank_row_and_never_the_warmest():
    cache = cache_of(3)
    run(cache, (1, 1, 1))
    assert place(cache, (2, 2)).handle.slot == 1
    assert cache.tree.row_ids(0) == (1, 1, 1)


def test_without_a_blank_row_the_least_recently_used_one_is_taken():
    cache = cache_of(3)
    for prompt in ((1, 1), (2, 2), (3, 3)):
        run(cache, prompt)
    run(cache, (1, 1, 4))  # row 0 is used again
    assert place(cache, (5, 5)).handle.slot == 1


def test_a_version_that_the_tree_does_not_know_is_refused_and_never_read():
    cache = cache_of(2)
    run(cache, (1, 2, 3))
    cache.slots.renew(0)  # as if the row had been handed out behind the tree's back
    with pytest.raises(SlotError, match="stale handle: slot 0 was seen at version 1, but is at version 2"):
        cache.place(1, cache.match((1, 2, 3, 4)))


def test_a_commit_or_release_with_a_stale_handle_is_refused():
    cache = cache_of(1)
    old = run(cache, (1, 2)).handle
    place(cache, (5, 6))
    with pytest.raises(SlotError, match="stale handle"):
        cache.commit(old, (1, 2))
    with pytest.raises(SlotError, match="stale handle"):
        cache.release(old, (1, 2))


def test_capacity_cuts_the_oldest_leaves_and_keeps_shared_prefixes():
    cache = cache_of(4, capacity_tokens=6)
    run(cache, (1, 2, 3, 4))
    run(cache, (1, 2, 5, 6))
    assert cache.tree.num_tokens == 6
    changes = cache.release(place(cache, (1, 2, 7)).handle, (1, 2, 7))
    assert SlotTruncated(0, 2, 2) in changes and any(isinstance(change, NodeEvicted) for change in changes)
    assert [cache.tree.row_ids(slot) for slot in range(3)] == [(1, 2), (1, 2, 5, 6), (1, 2, 7)]
    cache.check_integrity()


def test_one_eviction_shortens_a_long_hit_from_its_end():
    """The defect: root first, after which nothing below can be reached."""
    cache = cache_of(2, capacity_tokens=5)
    run(cache, (1, 2, 3, 4))
    run(cache, (1, 2, 9, 9))
    assert cache.match((1, 2, 3, 4, 5)).length == 2
    assert cache.match((1, 2, 9, 9, 5)).length == 4


def test_eviction_ends_when_every_row_is_locked():
    cache = cache_of(2, capacity_tokens=1)
    for prompt in ((1, 2, 3), (4, 5, 6)):
        cache.commit(place(cache, prompt).handle, prompt)
    assert cache.evict() == []
    assert cache.tree.num_tokens == 6
    cache.check_integrity()


def test_a_disabled_cache_forgets_each_row_and_matches_nothing():
    cache = cache_of(2, enabled=False)
    run(cache, (1, 2, 3))
    assert cache.match((1, 2, 3, 4)).length == 0
    assert cache.tree.num_tokens == 0
