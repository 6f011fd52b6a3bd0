"""What learners write for chapter 08, in many styles: what is right passes, each mistake is named."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from itertools import count
from typing import Any

import jupytext
import pytest
import torch

from astrai.course.catalogue import exercise
from astrai.course.chapters.ch08_hugging_face import references
from astrai.course.chapters.ch08_runs import small_run
from astrai.course.checking import judge
from astrai.course.parting import same_trace
from astrai.inference.cache.slots import Handle, SlotAllocator, SlotError, slots_in
from scripts.build_notebooks import SOURCES


def given(name: str) -> type[Any]:
    """A class that the notebook gives, from the notebook."""
    cells = jupytext.read(SOURCES / "08_one_buffer_many_slots.py", fmt="py:percent").cells
    names: dict[str, Any] = {"__name__": "given", "torch": torch}
    for cell in cells:
        if cell.cell_type == "code" and "class KVCache" not in cell.source and f"class {name}" in cell.source:
            exec("from astrai.inference.cache.kv_cache import KVCache", names)
            exec("from torch.nn.functional import scaled_dot_product_attention", names)
            exec(cell.source, names)
            return names[name]
    raise AssertionError(f"the notebook has no class {name}")


TokenByToken, Versions, AskingCache = given("TokenByToken"), given("Versions"), given("AskingCache")


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def told(exercise_id: str, thing: Any) -> str:
    """What is said about a wrong answer."""
    verdict = judge(exercise(exercise_id), thing)
    assert not verdict.passed and not verdict.still_open, verdict
    assert "Traceback" not in repr(verdict)
    return repr(verdict)


# --- 08.2: write and read ---------------------------------------------------------------------------------------------


def right_write(cache: Any, layer: int, slot: int, position: int, k: Any, v: Any) -> None:
    cache.k_cache[layer, slot, :, position] = k
    cache.v_cache[layer, slot, :, position] = v


def right_read(cache: Any, layer: int, slot: int, length: int) -> Any:
    return cache.k_cache[layer, slot, :, :length], cache.v_cache[layer, slot, :, :length]


def cache_class(
    write: Callable[..., Any] = right_write, read: Callable[..., Any] = right_read, base: type = TokenByToken
) -> type:
    """A learner's class with these two methods."""
    return type("MyKVCache", (base,), {"write": write, "read": read, "__module__": __name__})


def write_head_by_head(cache: Any, layer: int, slot: int, position: int, k: Any, v: Any) -> None:
    for head in range(k.shape[0]):
        cache.k_cache[layer][slot][head][position].copy_(k[head])
        cache.v_cache[layer][slot][head][position].copy_(v[head])


def read_narrow(cache: Any, layer: int, slot: int, length: int) -> Any:
    rows = (tensor.select(0, layer).select(0, slot) for tensor in (cache.k_cache, cache.v_cache))
    return [row.narrow(1, 0, length) for row in rows]


def write_transposed(cache: Any, layer: int, slot: int, position: int, k: Any, v: Any) -> None:
    for tensor, new in ((cache.k_cache, k), (cache.v_cache, v)):
        tensor[layer, slot].transpose(0, 1)[position] = new  # (M, K, E), a view


def write_index_copy(cache: Any, layer: int, slot: int, position: int, k: Any, v: Any) -> None:
    at = torch.tensor([position])
    cache.k_cache[layer, slot].index_copy_(1, at, k[:, None])
    cache.v_cache[layer, slot].index_copy_(1, at, v[:, None])


def read_swapped_twice(cache: Any, layer: int, slot: int, length: int) -> Any:
    keys, values = (tensor.transpose(2, 3)[layer, slot, :length] for tensor in (cache.k_cache, cache.v_cache))
    return keys.transpose(0, 1), values.transpose(0, 1)


@pytest.mark.parametrize(
    ("write", "read"),
    [
        (right_write, right_read),
        (write_head_by_head, read_narrow),
        (write_transposed, read_swapped_twice),
        (write_index_copy, right_read),
    ],
)
def test_writing_and_reading_may_be_done_in_any_style(write: Any, read: Any) -> None:
    verdict = judge(exercise("08.2"), cache_class(write, read))
    assert verdict.passed, verdict


def writes(k_place: str, v_place: str | None = None, k: str = "k", v: str = "v") -> Callable[..., None]:
    """A ``write`` that assigns to these places."""
    names: dict[str, Any] = {"torch": torch}
    v_line = f"self.v_cache{v_place or k_place} = {v}" if v_place != "" else "pass"
    exec(f"def write(self, layer, slot, position, k, v):\n  self.k_cache{k_place} = {k}\n  {v_line}", names)
    return names["write"]


def reads(expression: str) -> Callable[..., Any]:
    """A ``read`` that returns this."""
    names: dict[str, Any] = {"torch": torch}
    exec(f"def read(self, layer, slot, length):\n  return {expression}", names)
    return names["read"]


PLACE = "[layer, slot, :, position]"
ROW = "[layer, slot, :, :length]"
WRONG_WRITES = [
    (writes("[layer, slot, position]"), "does not fit the tensors; both tensors are (L, S, K, M, E)"),
    (writes("[layer, slot, :, position]", k="v", v="k"), "k_cache holds the values: k belongs into k_cache"),
    (writes(PLACE, ""), "v_cache is as blank as before"),
    (writes("[layer, [slot]][:, :, position]"), "k_cache is as blank as before: nothing was assigned"),
    (writes("[:, slot, :, position]"), "wrote to k_cache at layer 0, slot 2, head 0, position 5, where nothing"),
    (writes("[layer, :, :, position]"), "wrote to k_cache at layer 1, slot 0, head 0, position 5, where nothing"),
    (writes("[slot, layer, :, position]"), "wrote to k_cache at layer 2, slot 1, head 0, position 5, where nothing"),
    (writes("[layer, slot, :, position + 1]"), "at layer 1, slot 2, head 0, position 6, where nothing was to change"),
    (writes("[layer, slot, :, position:]", k="k[:, None]", v="v[:, None]"), "position 6, where nothing was to change"),
    (writes("[layer, slot, 0, position]", k="k[0]", v="v[0]"), "left out kv head 1 in k_cache: write all heads"),
    (writes(PLACE, k="k.flip(0)"), "k_cache[1, 2, :, 5] after write(layer=1, slot=2, position=5, k, v), [0, 0] is"),
]


@pytest.mark.parametrize(("write", "words"), WRONG_WRITES)
def test_a_wrong_write_is_told_what_it_did(write: Any, words: str) -> None:
    assert words in told("08.2", cache_class(write))


def new_tensor(cache: Any, layer: int, slot: int, position: int, k: Any, v: Any) -> None:
    cache.k_cache = cache.k_cache.clone()
    right_write(cache, layer, slot, position, k, v)


def test_a_write_that_makes_a_new_tensor_each_time_is_refused() -> None:
    assert "puts a new tensor in the place of k_cache" in told("08.2", cache_class(new_tensor))


WRONG_READS = [
    (reads(f"self.k_cache{ROW}.clone(), self.v_cache{ROW}.clone()"), "k_cache is a copy: its numbers are right"),
    (reads(f"self.k_cache{ROW}, self.v_cache{ROW}.contiguous()"), "v_cache is a copy: its numbers are right"),
    (
        reads("[torch.stack([c[layer, slot, :, p] for p in range(length)], 1) for c in (self.k_cache, self.v_cache)]"),
        "k_cache is a copy",
    ),
    (reads("self.k_cache[layer, slot, :, : length + 1], self.v_cache[layer, slot, :, :length]"), "that is 4 positions"),
    (reads("self.k_cache[layer, slot, :, : length - 1], self.v_cache[layer, slot, :, :length]"), "that is 2 positions"),
    (reads("self.k_cache[layer, slot], self.v_cache[layer, slot]"), "that is the whole row"),
    (reads("self.k_cache[layer, slot, :length], self.v_cache[layer, slot, :length]"), "that is the whole row"),
    (reads(f"self.v_cache{ROW}, self.k_cache{ROW}"), "comes from v_cache: return the keys first"),
    (reads(f"self.k_cache{ROW}"), "`read` returns one tensor and should return two tensors"),
    (reads(f"print(self.k_cache{ROW}.shape)"), "`read` returns nothing (is a `return` missing?) and should return two"),
    (reads("self.k_cache[layer, 0, :, :length], self.v_cache[layer, 0, :, :length]"), "[0, 0, 0] is 0.0 and should be"),
    (reads(f"self.k_cache{ROW}.transpose(0, 1), self.v_cache{ROW}.transpose(0, 1)"), "heads and positions are swapped"),
]


@pytest.mark.parametrize(("read", "words"), WRONG_READS)
def test_a_wrong_read_is_told_what_it_gave(read: Any, words: str) -> None:
    assert words in told("08.2", cache_class(read=read))


def adds(cache: Any, layer: int, slot: int, position: int, k: Any, v: Any) -> None:
    cache.k_cache[layer, slot, :, position] += k
    cache.v_cache[layer, slot, :, position] += v


def writes_once(cache: Any, layer: int, slot: int, position: int, k: Any, v: Any) -> None:
    if not cache.k_cache[layer, slot, :, position].any():  # never over an older token
        right_write(cache, layer, slot, position, k, v)


def spares_the_end(cache: Any, layer: int, slot: int, position: int, k: Any, v: Any) -> None:
    right_write(cache, layer, slot, min(position, cache.max_seq_len - 2), k, v)


@pytest.mark.parametrize(
    ("write", "words"),
    [
        (adds, "the second was added to the first: assign with `=`"),
        (writes_once, "the first still stands: a later one replaces it"),
        (spares_the_end, "after 120 writes at random"),
    ],
)
def test_a_write_that_goes_wrong_only_later_is_found(write: Any, words: str) -> None:
    assert words in told("08.2", cache_class(write))


def test_a_class_that_the_model_runs_past_is_told_what_to_derive_from() -> None:
    from astrai.inference.cache.kv_cache import KVCache

    assert "derive your class from `TokenByToken`" in told("08.2", cache_class(base=KVCache))


def test_a_cache_that_only_this_model_upsets_is_found_by_hugging_faces_numbers() -> None:
    class Rounds(TokenByToken):  # right for small whole numbers
        write = right_write
        read = right_read

        def decode_attend(self, slots: Any, positions: Any) -> Any:
            attend = super().decode_attend(slots, positions)
            return lambda layer, q, k, v: attend(layer, q, k.half().float(), v)

    assert "compared with Hugging Face's" in told("08.2", Rounds)


def test_an_object_and_an_open_exercise_are_told_apart_from_a_class() -> None:
    assert "Give the class itself" in told("08.2", object())

    def still_open(cache: Any, *place: Any) -> None:
        raise NotImplementedError

    assert judge(exercise("08.2"), cache_class(still_open)).still_open


# --- 08.4: the allocator ----------------------------------------------------------------------------------------------


class Right(Versions):
    """The base of the wrong ones: each spoils one thing."""

    def __init__(self, num_slots: int) -> None:
        super().__init__(num_slots)
        self.free_mask = (1 << num_slots) - 1

    def allocate(self, among: int | None = None) -> Any:
        candidates = self.free_mask if among is None else self.free_mask & among
        if not candidates:
            raise SlotError("no free row")
        lowest = candidates & -candidates
        self.free_mask ^= lowest
        return self.renew(lowest.bit_length() - 1)

    def free(self, handle: Any) -> None:
        self.check(handle)
        if self.free_mask >> handle.slot & 1:
            raise SlotError("free already")
        self.free_mask |= 1 << handle.slot


class BySearch(Versions):
    """Another style: a list of flags, and the mask made of it when somebody asks."""

    def __init__(self, num_slots: int) -> None:
        super().__init__(num_slots)
        self.is_free = [True] * num_slots

    @property
    def free_mask(self) -> int:
        return sum(1 << row for row, free in enumerate(self.is_free) if free)

    def allocate(self, among: int | None = None) -> Any:
        for row, free in enumerate(self.is_free):
            if free and (among is None or among & (1 << row)):
                self.is_free[row] = False
                return self.renew(row)
        raise SlotError("no free row")

    def free(self, handle: Any) -> None:
        self.check(handle)
        if self.is_free[handle.slot]:
            raise SlotError("free already")
        self.is_free[handle.slot] = True


class ByShifting(Right):
    """A loop over the bits, plus and minus in place of the signs for bits, an error of its own."""

    class Full(SlotError):
        pass

    def __init__(self, num_slots: int) -> None:
        super().__init__(num_slots)
        self.free_mask = int("1" * num_slots, 2)

    def allocate(self, among: int | None = None) -> Any:
        left, row = self.free_mask & (-1 if among is None else among), 0
        while left and left % 2 == 0:
            left, row = left // 2, row + 1
        if left == 0:
            raise self.Full
        self.free_mask -= 2**row
        return self.renew(row)

    def free(self, handle: Any) -> None:
        slot, version = handle
        self.check(Handle(slot, version))
        if self.free_mask & 2**slot == 2**slot:
            raise self.Full
        self.free_mask += 2**slot


class AsInThePackage(SlotAllocator):
    allocate, free = SlotAllocator.allocate, SlotAllocator.free


@pytest.mark.parametrize("kind", [Right, BySearch, ByShifting, AsInThePackage])
def test_an_allocator_of_any_style_passes(kind: Any) -> None:
    verdict = judge(exercise("08.4"), kind)
    assert verdict.passed, verdict


def starts_with(mask: Callable[[int], Any]) -> type:
    class MyAllocator(Right):
        def __init__(self, num_slots: int) -> None:
            super().__init__(num_slots)
            self.free_mask = mask(num_slots)

    return MyAllocator


def allocates(body: Callable[..., Any]) -> type:
    return type("MyAllocator", (Right,), {"allocate": body, "__module__": __name__})


def frees(body: Callable[..., Any]) -> type:
    return type("MyAllocator", (Right,), {"free": body, "__module__": __name__})


def candidates_of(slots: Any, among: int | None) -> int:
    candidates = slots.free_mask if among is None else slots.free_mask & among
    if not candidates:
        raise SlotError("no free row")
    return candidates


def the_bit_itself(slots: Any, among: int | None = None) -> Any:
    lowest = (candidates := candidates_of(slots, among)) & -candidates
    slots.free_mask ^= lowest
    slots.versions += [0] * lowest
    return slots.renew(lowest)


def one_too_high(slots: Any, among: int | None = None) -> Any:
    lowest = (candidates := candidates_of(slots, among)) & -candidates
    slots.free_mask ^= lowest
    slots.versions.append(0)
    return slots.renew(lowest.bit_length())


def the_highest(slots: Any, among: int | None = None) -> Any:
    row = candidates_of(slots, among).bit_length() - 1
    slots.free_mask ^= 1 << row
    return slots.renew(row)


def keeps_the_bit(slots: Any, among: int | None = None) -> Any:
    lowest = (candidates := candidates_of(slots, among)) & -candidates
    return slots.renew(lowest.bit_length() - 1)


def a_plain_number(slots: Any, among: int | None = None) -> Any:
    lowest = (candidates := candidates_of(slots, among)) & -candidates
    slots.free_mask ^= lowest
    return lowest.bit_length() - 1


def no_new_version(slots: Any, among: int | None = None) -> Any:
    lowest = (candidates := candidates_of(slots, among)) & -candidates
    slots.free_mask ^= lowest
    return slots.handle(lowest.bit_length() - 1)


def none_when_full(slots: Any, among: int | None = None) -> Any:
    return Right.allocate(slots, among) if slots.free_mask else None


def ignores_among(slots: Any, among: int | None = None) -> Any:
    return Right.allocate(slots)


def falls_back(slots: Any, among: int | None = None) -> Any:
    return Right.allocate(slots, among if among and among & slots.free_mask else None)


def if_among(slots: Any, among: int | None = None) -> Any:
    return Right.allocate(slots, among or None)


def forgets_what_is_free(slots: Any, among: int | None = None) -> Any:
    candidates = slots.free_mask if among is None else among
    if not candidates:
        raise SlotError("no free row")
    lowest = candidates & -candidates
    slots.free_mask &= ~lowest
    return slots.renew(lowest.bit_length() - 1)


def takes_the_bit_out_first(slots: Any, among: int | None = None) -> Any:
    if among is not None and not slots.free_mask & among:
        slots.free_mask &= slots.free_mask - 1
        raise SlotError("no free row")
    return Right.allocate(slots, among)


def searches_without_end(slots: Any, among: int | None = None) -> Any:
    mask, row = slots.free_mask if among is None else slots.free_mask & among, 0
    while not mask >> row & 1:  # when no bit is set, none will ever be
        row += 1
    slots.free_mask ^= 1 << row
    return slots.renew(row)


def puts_it_back_silently(slots: Any, handle: Any) -> None:
    slots.check(handle)
    slots.free_mask |= 1 << handle.slot


def turns_the_bit_around(slots: Any, handle: Any) -> None:
    slots.check(handle)
    slots.free_mask ^= 1 << handle.slot


def puts_the_slot_itself_back(slots: Any, handle: Any) -> None:
    slots.check(handle)
    if slots.free_mask >> handle.slot & 1:
        raise SlotError("free already")
    slots.free_mask |= handle.slot


def turns_and_complains(slots: Any, handle: Any) -> None:
    slots.check(handle)
    slots.free_mask ^= 1 << handle.slot
    if not slots.free_mask >> handle.slot & 1:
        raise SlotError("free already")


def refuses_what_is_taken(slots: Any, handle: Any) -> None:
    slots.check(handle)
    if not slots.free_mask >> handle.slot & 1:
        raise SlotError("free already")
    slots.free_mask |= 1 << handle.slot


def any_handle_will_do(slots: Any, handle: Any) -> None:
    if slots.free_mask >> handle.slot & 1:
        raise SlotError("free already")
    slots.free_mask |= 1 << handle.slot


def raises_another_error(slots: Any, handle: Any) -> None:
    slots.check(handle)
    if slots.free_mask >> handle.slot & 1:
        raise ValueError("free already")
    slots.free_mask |= 1 << handle.slot


def for_a_word_only(slots: Any, among: int | None = None) -> Any:
    candidates = candidates_of(slots, among)
    row = next(row for row in range(64) if candidates >> row & 1 or row == 63)
    slots.free_mask ^= 1 << row
    return slots.renew(row)


WRONG_ALLOCATORS = [
    (starts_with(lambda n: 1 << n), "has the free_mask 0b10000 and should have 0b1111: a 1 for each row"),
    (starts_with(lambda n: 1 << n - 1), "has the free_mask 0b1000 and should have 0b1111"),
    (starts_with(lambda n: 0), "has the free_mask 0b0 and should have 0b1111"),
    (starts_with(lambda n: [True] * n), "`free_mask` should be a whole number"),
    (allocates(the_bit_itself), "gives row 4 and should give row 2: 4 is the bit itself, and its place is"),
    (allocates(one_too_high), "gives row 3 and should give row 2: one too high. 0b100 has the bit_length 3"),
    (allocates(the_highest), "gives row 3 and should give row 0: that is the highest free row"),
    (allocates(keeps_the_bit), "After row 0 was handed out, free_mask is 0b1111 and should be 0b1110"),
    (allocates(a_plain_number), "`allocate()` returns 0; return `self.renew(row)`"),
    (allocates(no_new_version), "the handle of the first hand-out of row 0 (slot, version), [1] is 0 and should be 1"),
    (allocates(none_when_full), "`allocate()` when no row is free must raise a SlotError, and raises none"),
    (allocates(ignores_among), "`allocate(among=0b1100)` gives row 0 and should give row 2"),
    (allocates(falls_back), "rows 1 and 3 are free and neither of them is asked for, must raise a SlotError"),
    (allocates(if_among), "`allocate(among=0)`, which means no row at all (only `None` means any row), must raise"),
    (allocates(forgets_what_is_free), "neither of them is asked for, must raise a SlotError"),
    (allocates(takes_the_bit_out_first), "after two hand-outs that were refused, free_mask is"),
    (allocates(searches_without_end), "does not come to an end: look at the loop around line"),
    (allocates(for_a_word_only), "of a run at random on 100 rows"),
    (frees(puts_it_back_silently), "Freeing row 2 a second time must raise a SlotError, and raises none"),
    (frees(turns_the_bit_around), "Freeing row 2 a second time must raise a SlotError, and raises none"),
    (frees(puts_the_slot_itself_back), "row 2 given back, free_mask is 0b0010 and should be 0b0100"),
    (frees(turns_and_complains), "after a second `free` of row 2 that was refused, free_mask is 0b0000"),
    (frees(refuses_what_is_taken), "`free` refuses row 2, which is taken and may be given back: a 1 in `free_mask`"),
    (frees(any_handle_will_do), "with the handle of its former owner (keep the line `self.check(handle)`) must raise"),
    (frees(raises_another_error), "must raise a SlotError, and raises a ValueError"),
]


@pytest.mark.parametrize(("kind", "words"), WRONG_ALLOCATORS)
def test_a_wrong_allocator_is_told_its_mistake(kind: type, words: str) -> None:
    assert words.lower() in told("08.4", kind).lower()


def test_an_allocator_that_is_an_object_or_open_is_not_called_wrong() -> None:
    assert "Give the class itself" in told("08.4", Right(4))

    def still_open(slots: Any, among: int | None = None) -> None:
        raise NotImplementedError

    assert judge(exercise("08.4"), allocates(still_open)).still_open


# --- 08.6: which row --------------------------------------------------------------------------------------------------


def by_masks(cache: Any, free: int, holding: int, held_twice: int, last_used: list[int]) -> int:
    candidates = free & ~holding or free & held_twice or free
    return min(slots_in(candidates), key=lambda row: last_used[row])


def by_lists(cache: Any, free: int, holding: int, held_twice: int, last_used: list[int]) -> int:
    rows = [row for row in range(len(last_used)) if free & (1 << row)]
    for wanted in (
        [row for row in rows if not holding & (1 << row)],
        [row for row in rows if held_twice & (1 << row)],
        rows,
    ):
        if wanted:
            return sorted(wanted, key=lambda row: (last_used[row], row))[0]
    raise AssertionError


def by_bits(cache: Any, free: int, holding: int, held_twice: int, last_used: list[int]) -> int:
    blank = free & ~holding
    if blank:
        return (blank & -blank).bit_length() - 1
    left, best = free & held_twice if free & held_twice else free, None
    while left:
        row = (left & -left).bit_length() - 1
        left &= left - 1
        if best is None or last_used[row] < last_used[best]:
            best = row
    assert best is not None
    return best


def chooses(body: Callable[..., Any]) -> type:
    return type("MyCache", (AskingCache,), {"choose_row": body, "__module__": __name__})


@pytest.mark.parametrize("body", [by_masks, by_lists, by_bits])
def test_a_choice_of_any_style_passes(body: Any) -> None:
    verdict = judge(exercise("08.6"), chooses(body))
    assert verdict.passed, verdict


def lowest_free(cache: Any, free: int, holding: int, held_twice: int, last_used: list[int]) -> int:
    return (free & -free).bit_length() - 1


def blank_even_if_owned(cache: Any, free: int, holding: int, held_twice: int, last_used: list[int]) -> int:
    blank = ~holding & (1 << len(last_used)) - 1
    return min(slots_in(blank or free & held_twice or free), key=lambda row: last_used[row])


def without_twice(cache: Any, free: int, holding: int, held_twice: int, last_used: list[int]) -> int:
    return min(slots_in(free & ~holding or free), key=lambda row: last_used[row])


def twice_first(cache: Any, free: int, holding: int, held_twice: int, last_used: list[int]) -> int:
    candidates = free & held_twice or free & ~holding or free
    return min(slots_in(candidates), key=lambda row: last_used[row])


def twice_even_if_owned(cache: Any, free: int, holding: int, held_twice: int, last_used: list[int]) -> int:
    return min(slots_in(free & ~holding or held_twice or free), key=lambda row: last_used[row])


def newest(cache: Any, free: int, holding: int, held_twice: int, last_used: list[int]) -> int:
    candidates = free & ~holding or free & held_twice or free
    return max(slots_in(candidates), key=lambda row: (last_used[row], -row))


def newest_when_alone(cache: Any, free: int, holding: int, held_twice: int, last_used: list[int]) -> int:
    if candidates := free & ~holding or free & held_twice:
        return min(slots_in(candidates), key=lambda row: last_used[row])
    return max(slots_in(free), key=lambda row: last_used[row])


def lowest_held_twice(cache: Any, free: int, holding: int, held_twice: int, last_used: list[int]) -> int:
    candidates = free & ~holding or free & held_twice
    return next(slots_in(candidates)) if candidates else min(slots_in(free), key=lambda row: last_used[row])


def oldest_of_all(cache: Any, free: int, holding: int, held_twice: int, last_used: list[int]) -> int:
    blank = free & ~holding
    return next(slots_in(blank)) if blank else last_used.index(min(last_used))


def a_mask(cache: Any, free: int, holding: int, held_twice: int, last_used: list[int]) -> int:
    return 1 << by_masks(cache, free, holding, held_twice, last_used)


def nothing(cache: Any, free: int, holding: int, held_twice: int, last_used: list[int]) -> None:
    by_masks(cache, free, holding, held_twice, last_used)


def higher_of_equals(cache: Any, free: int, holding: int, held_twice: int, last_used: list[int]) -> int:
    candidates = free & ~holding or free & held_twice or free
    return min(slots_in(candidates), key=lambda row: (last_used[row], -row if free & holding == free else row))


def lowest_of_a_mask(cache: Any, free: int, holding: int, held_twice: int, last_used: list[int]) -> int:
    candidates = free & ~holding or free & held_twice or free
    return candidates & -candidates


def either_but_not_both(cache: Any, free: int, holding: int, held_twice: int, last_used: list[int]) -> int:
    candidates = free ^ holding or free & held_twice or free
    return min(slots_in(candidates), key=lambda row: last_used[row])


def blank_by_turning_around(cache: Any, free: int, holding: int, held_twice: int, last_used: list[int]) -> int:
    return min(list(slots_in(~holding)), key=lambda row: last_used[row])


def blank_by_comprehension(cache: Any, free: int, holding: int, held_twice: int, last_used: list[int]) -> int:
    blank = [row for row in slots_in(~holding) if free >> row & 1]
    return blank[0] if blank else min(slots_in(free), key=lambda row: last_used[row])


def never_ends(cache: Any, free: int, holding: int, held_twice: int, last_used: list[int]) -> int:
    for row in count():
        if free & ~holding & 1 << row:
            return row
    raise AssertionError


WRONG_CHOICES = [
    (lowest_free, "It takes row 0, which remembers a chat, although rows 1, 2 and 3 are blank."),
    (blank_even_if_owned, "row 3, which is not free: row 3 is blank but not free"),
    (without_twice, "It takes row 0, the oldest, and with it the only copy of its tokens. Rows 1 and 2 are held twice"),
    (twice_first, "It takes row 1 and should take row 3: rows 1 and 2 are held twice, but row 3 is blank"),
    (twice_even_if_owned, "row 1, which is not free: rows 1 and 2 are held twice but not free"),
    (newest, "It takes row 1 and should take row 0: row 3 is blank but not free"),
    (newest_when_alone, "It takes row 1 and should take row 0: row 3 is blank but not free"),
    (oldest_of_all, "It takes row 3, which is not free: row 3 is blank but not free"),
    (
        lowest_held_twice,
        "row 1 and should take row 2: rows 1 and 2 are held twice, and row 2 of them was used longest ago",
    ),
    (
        a_mask,
        "It takes row 4, which is not free: row 2 is free and blank. 0b100 is a mask; the row is the place of its bit",
    ),
    (lowest_of_a_mask, "row 4, which is not free: row 2 is free and blank. 0b100 is a mask"),
    (
        either_but_not_both,
        "It takes row 2, which is not free: row 3 is blank but not free, so of the free rows 0 and 1",
    ),
    (blank_by_turning_around, "is negative and has ones without end: instead of ~mask write rows & ~mask"),
    (blank_by_comprehension, "is negative and has ones without end: instead of ~mask write rows & ~mask"),
    (nothing, "`choose_row` should return the number of a row, and returns None"),
    (higher_of_equals, "no row is blank or held twice, so the one used longest ago should go, and the lower where two"),
    (never_ends, "does not come to an end: look at the loop around line"),
]


@pytest.mark.parametrize(("body", "words"), WRONG_CHOICES)
def test_a_wrong_choice_is_told_its_mistake(body: Any, words: str) -> None:
    assert words in told("08.6", chooses(body))


def test_a_choice_that_is_an_object_or_open_is_not_called_wrong() -> None:
    assert "Give the class itself" in told("08.6", by_masks)
    assert judge(exercise("08.6"), AskingCache).passed is False

    def still_open(cache: Any, *rows: Any) -> None:
        raise NotImplementedError

    assert judge(exercise("08.6"), chooses(still_open)).still_open


# --- what the chapter stands on ---------------------------------------------------------------------------------------


def test_the_given_cache_goes_the_packages_way_when_it_is_asked_the_packages_question() -> None:
    same_trace(small_run(prefix_cache=chooses(by_masks)), small_run())


def test_the_given_cache_answers_like_the_package_in_many_random_runs() -> None:
    """The masks that ``AskingCache`` makes say the same as the package reads from its tree."""
    from astrai.inference.cache.prefix_cache import PrefixCacheManager
    from astrai.inference.cache.radix_tree import RadixTree

    asked = 0
    for seed in range(30):
        chance = random.Random(seed)
        caches = [kind(SlotAllocator(4), RadixTree()) for kind in (chooses(by_masks), PrefixCacheManager)]
        running: list[tuple[Handle, list[int]]] = []
        for request_id in range(40):
            if running and (chance.random() < 0.5 or len(running) == 4):
                handle, ids = running.pop(chance.randrange(len(running)))
                for cache in caches:
                    cache.release(handle, ids)
                continue
            ids = [chance.choice([1, 2]) for _ in range(chance.randint(1, 4))]
            placed = [cache.place(request_id, cache.match([*ids, 9])) for cache in caches]
            assert placed[0] == placed[1], (seed, request_id)
            asked += placed[0].copy is not None or not placed[0].cached_len
            for cache in caches:
                cache.commit(placed[0].handle, ids)
            running.append((placed[0].handle, ids))
    assert asked > 200


@pytest.fixture
def hf_references(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, torch.Tensor]]:
    from scripts.make_references import chapter_08

    yield chapter_08()


def test_the_kept_references_are_what_hugging_face_computes(hf_references: dict[str, torch.Tensor]) -> None:
    kept = references()
    assert kept.keys() == hf_references.keys(), "run scripts/make_references.py"
    for name, fresh in hf_references.items():
        assert kept[name].dtype == fresh.dtype
        torch.testing.assert_close(kept[name], fresh, rtol=0, atol=1e-4, msg=f"{name}: run scripts/make_references.py")


def test_the_kept_references_are_what_the_engine_says() -> None:
    from astrai import GenerationRequest, InferenceEngine, SamplingParams, load

    kept = references()
    answer = tuple(kept["answer_ids"].tolist())
    engine = InferenceEngine(*load("tiny", device="cpu"), num_slots=1, start=False)
    sampling = SamplingParams(max_tokens=len(answer))
    stream = engine.submit(GenerationRequest(prompt=kept["prompt_ids"].tolist(), sampling=sampling))
    while engine.scheduler.has_work:
        engine.scheduler.step()
    assert stream.result(timeout=0).token_ids == answer
    keys = engine.kv_cache.k_cache[:, 0, :, : len(kept["prompt_ids"])]
    torch.testing.assert_close(keys, kept["keys"], rtol=0, atol=1e-4)
