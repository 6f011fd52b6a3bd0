"""Chapter 08: keys and values in one buffer, a bitmask of free slots, and which row is handed out."""

from __future__ import annotations

from astrai.course.chapters.ch08_buffer import buffer
from astrai.course.chapters.ch08_quiz import QUIZ
from astrai.course.chapters.ch08_rows import chooser
from astrai.course.chapters.ch08_slots import allocator
from astrai.course.exercises import Chapter, Exercise

CHAPTER = Chapter(
    id="08",
    title="One buffer, many slots",
    exercises=(
        Exercise(
            "08.2",
            "Write and read",
            buffer,
            (
                "Take the five letters (L, S, K, M, E) one by one. Which of them does `write` get as a number, which "
                "does it mean as a whole? A `:` stands for the whole.",
                "`k` is (K, E). So what you assign to must be (K, E) too: the layer, the slot and the position are "
                "numbers, the heads are a `:`, and the last dimension may be left out. `read` is the same with "
                "`:length` at the place of the position.",
                "`self.k_cache[layer, slot, :, position] = k`, and likewise for `v`. `read` returns "
                "`self.k_cache[layer, slot, :, :length]` and the same of `v_cache`, with a comma between.",
            ),
        ),
        Exercise(
            "08.4",
            "The bitmask allocator",
            allocator,
            (
                "Eight ones are `0b11111111`, one less than `0b100000000`. How do you write that for `num_slots`? And "
                "which rows can be handed out, if there is a mask `among`?",
                "`candidates` is `free_mask`, or `free_mask & among` if `among` is not `None`. If it is 0, raise "
                "`SlotError`. Its lowest 1 is `candidates & -candidates`. Take that out of `free_mask` with `^=`. To "
                "ask whether a row is free: `self.free_mask >> row & 1`.",
                "The row is `lowest.bit_length() - 1`; return `self.renew(row)`. In `free`, raise `SlotError` if the "
                "bit of `handle.slot` is 1 already, else `self.free_mask |= 1 << handle.slot`.",
            ),
        ),
        Exercise(
            "08.6",
            "Which row will be missed least",
            chooser,
            (
                "Blank rows that are free: that is `free` without the bits of `holding`. How do you write the "
                "words `and not` with masks?",
                "Find the first mask that is not 0: `free & ~holding`, then `free & held_twice`, then `free`. "
                "`slots_in` gives its rows; which of them has the smallest `last_used`?",
                "`candidates = free & ~holding or free & held_twice or free`. Then `min(slots_in(candidates), "
                "key=...)`, where the key of a row is `last_used[row]`. `min` keeps the first of equals.",
            ),
        ),
    ),
    predictions=("08.1", "08.3", "08.5"),
    quiz=QUIZ,
)
