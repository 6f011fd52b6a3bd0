"""LowestSetBit: the free slots of a run as the bits of one number, and how the lowest is found without a search."""

from __future__ import annotations

from manim import FadeIn

from .mask_scene import MaskScene
from .slot_changes import SlotChange, lowest_bit
from .style import HEADING, Label, put_center

CODE = ("lowest = m & -m", "slot = lowest.bit_length() - 1", "free_mask ^= lowest")  # as in astrai's slots.py


class LowestSetBit(MaskScene):
    """Any run: a dozen times, a slot is handed out or freed."""

    def story(self) -> None:
        """The title, the part of the run that has the most to show, and which part it was."""
        self.told: set[str] = set()
        self.title("The lowest set bit", "Which slots of the cache are free? One number knows.")
        self.prepare()
        self.play_part()
        self._end()

    def tell(self, change: SlotChange) -> None:
        """One change: the first of each kind at leisure, the others briefly."""
        if change.kind == "freed":
            self._tell_freed(change)
            return
        if self._is_example(change):
            self._explain(change)
        elif change.kind == "lowest":
            self._tell_lowest(change)
        if change.kind != "lowest":
            self._tell_chosen(change)

    def _is_example(self, change: SlotChange) -> bool:
        """Whether ``m & -m`` is explained here: early, and best where the lowest 1 is not the first bit."""
        taken = [change for change in self.changes[self.part.start : self.part.stop] if change.kind != "freed"]
        lowest = [change for change in taken[:4] if change.kind == "lowest"]
        good = [change for change in lowest if change.slot > 1 and change.blank.bit_count() > 1]
        return change is (good or lowest[::-1] or taken)[0]

    def _explain(self, change: SlotChange) -> None:
        m = change.blank if change.kind == "lowest" else change.free
        slot = lowest_bit(m)
        self.told.add("explained")
        self.code_of_taking = "free_mask ^= m & -m"
        row = [FadeIn(self.row("m", m, slot))] if m == change.free else []
        self.beat(f"Request {change.request_id} needs a slot. Let m be the mask to choose from.", *row, pause=3.2)
        self._spare(change, m)
        row = [] if self.num_rows else [FadeIn(self.row("m", m, slot))]
        self.beat("How is its lowest 1 found without looking at bit after bit?", *row, pause=4.0)
        self.beat("First turn every bit around: that is ~m.", self.row("~m", ~m, slot).spell(), seconds=1.6, pause=1.4)
        carry = "Then add 1. The carry stops where m has its lowest 1: that is -m."
        self.beat(carry, self.row("-m", -m, slot).spell(), seconds=2.0, pause=2.6)
        both = self.row("m & -m", m & -m, slot)
        self.beat(
            "Above that 1, all bits of m and -m differ. Below it, both have 0.", both.spell(), seconds=2.0, pause=2.8
        )
        self.rows.append(both.outline(slot))
        self.beat(f"So m & -m is the lowest 1 alone: slot {slot}.", FadeIn(self.rows[-1]), seconds=0.6, pause=2.6)
        if change.kind == "lowest":
            self.flip(change, f"Slot {slot} is handed out, and its bit is cleared.", pause=2.8)

    def _tell_lowest(self, change: SlotChange) -> None:
        m, who, slot = change.blank, f"Request {change.request_id}", change.slot
        self._spare(change, m)
        if self._is_new("lowest") and "explained" not in self.told:
            self.flip(change, f"{who} comes. The lowest 1 is slot {slot}: its bit is cleared.", pause=3.8)
            return
        rows = []
        if "explained" in self.told:
            rows = [] if self.num_rows else [self.row("m", m, slot)]
            rows.append(self.row("m & -m", m & -m, slot))
        self.flip(change, f"{who}: the lowest 1 is slot {slot}.", *map(FadeIn, rows), pause=1.6)

    def _spare(self, change: SlotChange, m: int) -> None:
        """Say once why ``m`` has fewer bits than the mask."""
        if m != change.free and self._is_new("spared"):
            spared = lowest_bit(change.free & ~m)
            text = f"Slot {spared} is free, but remembers a prompt: only blank slots are in m."
            self.beat(text, FadeIn(self.row("m", m, change.slot)), self.look_at(spared), pause=4.0)

    def _tell_chosen(self, change: SlotChange) -> None:
        """A slot is taken that is not the lowest blank one: say why."""
        slot, who, m = change.slot, f"request {change.request_id}", change.free & 1 << change.slot
        if change.kind == "reused":
            text = f"Slot {slot} is chosen: it holds {change.kept} tokens of {who}'s prompt."
        elif change.blank:
            text = f"Slot {slot} goes to {who}, although it is not the lowest blank one."
        else:
            text = f"No free slot is blank. Slot {slot} is chosen: what it holds is overwritten."
        self.clear_rows()
        rows = [self.row("m", m, slot), self.row("m & -m", m & -m, slot)]
        if self._is_new(change.kind):
            self.beat(text, *map(FadeIn, rows), self.look_at(slot), pause=3.8)
            self.flip(change, f"Then m has this one bit, and slot {slot} is handed out.", pause=2.8)
        else:
            self.flip(change, text, *map(FadeIn, rows), pause=3.0)

    def _tell_freed(self, change: SlotChange) -> None:
        who = "Its request" if change.request_id is None else f"Request {change.request_id}"
        if self._is_new("freed"):
            self.flip(change, f"{who} is done. Slot {change.slot} is free: its bit is set again.", pause=3.0)
            if change.kept:
                self.beat(f"It keeps its {change.kept} tokens, for a request that begins with them.", pause=4.0)
        else:
            self.flip(change, f"{who} is done: slot {change.slot} is free again.", pause=2.0)

    def _is_new(self, kind: str) -> bool:
        new = kind not in self.told
        self.told.add(kind)
        return new

    def _end(self) -> None:
        self.clear_rows()
        self.remove(*self.notes)
        first, of = self.part.start + 1, len(self.changes)
        part = f"changes {first} to {self.count} of {of}" if of else "a run without a change"
        middle = self.board.bottom - 1.2
        code = [put_center(Label(line, HEADING), 0, middle - 0.65 * index) for index, line in enumerate(CODE)]
        self.beat(f"Three operations, no search. Shown: {part}.", *map(FadeIn, code), pause=4.6)
