"""The allocator against a plain set of free rows."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from astrai.inference.cache.slots import Handle, SlotAllocator, SlotError, slots_in


def test_slots_are_handed_out_lowest_first():
    slots = SlotAllocator(3)
    assert [slots.allocate().slot for _ in range(3)] == [0, 1, 2]
    slots.free(slots.handle(1))
    slots.free(slots.handle(0))
    assert slots.allocate().slot == 0


def test_a_slot_is_taken_only_from_among_the_candidates():
    slots = SlotAllocator(4)
    assert slots.allocate(among=0b1100).slot == 2
    with pytest.raises(SlotError, match=r"no free slot among \[2\]: free are \[0, 1, 3\]"):
        slots.allocate(among=0b0100)


def test_an_empty_allocator_refuses_to_allocate():
    slots = SlotAllocator(1)
    slots.allocate()
    with pytest.raises(SlotError, match="no free slot"):
        slots.allocate()


def test_freeing_twice_is_refused_so_that_no_row_gets_two_owners():
    slots = SlotAllocator(2)
    handle = slots.allocate()
    slots.free(handle)
    with pytest.raises(SlotError, match="slot 0 is free already"):
        slots.free(handle)


def test_every_hand_out_makes_older_handles_stale():
    slots = SlotAllocator(1)
    first = slots.allocate()
    slots.free(first)
    slots.check(first)  # a freed row can still be found under its handle
    second = slots.allocate()
    assert second == Handle(0, first.version + 1)
    with pytest.raises(SlotError, match="stale handle: slot 0 was seen at version 1, but is at version 2"):
        slots.check(first)
    with pytest.raises(SlotError, match="stale handle"):
        slots.free(first)


def test_a_size_below_one_is_refused():
    with pytest.raises(ValueError, match="num_slots is 0"):
        SlotAllocator(0)


@given(st.sets(st.integers(0, 300)))
def test_slots_in_lists_the_set_bits_in_order(positions: set[int]):
    assert list(slots_in(sum(1 << position for position in positions))) == sorted(positions)


@given(st.integers(1, 130), st.lists(st.tuples(st.booleans(), st.integers(0, 129), st.integers(0)), max_size=60))
def test_the_allocator_behaves_like_a_sorted_set(num_slots: int, operations: list[tuple[bool, int, int]]):
    slots, free, versions = SlotAllocator(num_slots), set(range(num_slots)), [0] * num_slots
    for allocates, slot, among in operations:
        if allocates:
            candidates = sorted(s for s in free if among >> s & 1)
            if not candidates:
                with pytest.raises(SlotError):
                    slots.allocate(among)
                continue
            versions[candidates[0]] += 1
            assert slots.allocate(among) == Handle(candidates[0], versions[candidates[0]])
            free.remove(candidates[0])
        elif slot < num_slots and slot not in free:
            slots.free(slots.handle(slot))
            free.add(slot)
        assert set(slots_in(slots.free_mask)) == free
        assert [slots.handle(s).version for s in range(num_slots)] == versions


def test_the_rows_of_a_negative_mask_are_refused_since_they_have_no_end():
    with pytest.raises(ValueError, match="ones without end"):
        next(slots_in(~0b101))
    assert list(slots_in(0b1111 & ~0b101)) == [1, 3]
