"""The part of a run in which slots change hands, as a mask of bits. What is said of each change is the film's."""

from __future__ import annotations

from typing import Any

from manim import Animation, FadeIn, VMobject

from astrai.trace import events as e

from .film import TOP
from .mobjects.bit_board import BitBoard
from .mobjects.bit_row import BitRow
from .slot_changes import SlotChange, most_telling, slot_changes
from .style import BODY, LINE, Label, put_center, put_left
from .trace_scene import TraceScene

EDGE = 6.85
BOARD_Y, BOARD_Y_OF_MANY, CODE_Y = 2.15, 2.85, -2.75
MOST_ROWS, WIDEST_PITCH = 5, 0.78
MOST = 11  # changes that are shown one by one
LONGEST = 60.0  # seconds: what is left of the part is not shown then


class MaskScene(TraceScene):
    """Any run. ``changes`` are all of it, ``part`` those that are shown: a film writes :meth:`tell` for each."""

    def tell(self, change: SlotChange) -> None:
        """Show one change, and :meth:`flip` its bit."""
        raise NotImplementedError

    def prepare(self) -> None:
        """Look through the run, and lay out the board."""
        slots = self.state["slots"]
        self.changes = slot_changes(slots, self.records)
        self.part = most_telling(self.changes, MOST)
        self.count = 0  # changes so far
        self.late: list[SlotChange] = []  # those of the last step, beyond the part
        mask = sum(1 << slot for slot, row in enumerate(slots) if row["owner"] is None)
        self.board = BitBoard(len(slots), mask, BOARD_Y if len(slots) <= 16 else BOARD_Y_OF_MANY)
        self.rows_pitch = min(WIDEST_PITCH, (self.board.bottom - CODE_Y) / MOST_ROWS)
        self.rows: list[VMobject] = []  # what is reckoned for this change
        self.frame = VMobject()  # around the bit to look at
        self.num_rows = 0
        self.notes: list[Label] = []
        self.code_of_taking = ""  # shown when a slot is handed out

    def play_part(self) -> None:
        """Play the run up to the end of the part."""
        for step in self.play_steps():
            if not self.changes:
                self._show_board(step)
                return
            if self.count >= self.part.stop or self._is_long():
                return

    # --- what the events say ------------------------------------------------------------------------------------------

    def on_slot_allocated(self, event: e.SlotAllocated) -> None:
        """A slot is handed out, to be written from its start."""
        self._next()

    def on_slot_reused(self, event: e.SlotReused) -> None:
        """A slot is handed out for what it holds."""
        self._next()

    def on_slot_freed(self, event: e.SlotFreed) -> None:
        """A slot has no owner any more."""
        self._next()

    def _next(self) -> None:
        """The next change: it is made at once before the part that is shown, told in it, collected after it."""
        change, index = self.changes[self.count], self.count
        self.count += 1
        if index < self.part.start:
            self.board.put(change.slot, change.kind == "freed")
        elif index >= self.part.stop or self._is_long():
            self.late.append(change)
        else:
            if self.board not in self.mobjects:
                self._show_board(change.step)
            self.clear_rows()
            self._note(change)
            self.tell(change)

    def _is_long(self) -> bool:
        return self.told_seconds > LONGEST

    def end_of_step(self, step: int) -> None:
        """What else changed in the last step that is shown."""
        if self.late:
            after = {change.slot: change.kind == "freed" for change in self.late}
            moves = [move for slot, is_free in after.items() for move in self.board.change(slot, is_free)]
            self.clear_rows()
            count = "one more change follows" if len(self.late) == 1 else f"{len(self.late)} more changes follow"
            self.beat(f"In the same step, {count}.", *moves, pause=2.2)
            self.late.clear()

    def shown(self) -> dict[str, Any]:
        """The mask, read off the board."""
        return {"free_mask": self.board.mask}

    # --- drawing ------------------------------------------------------------------------------------------------------

    def flip(self, change: SlotChange, caption: str, *others: Animation, pause: float) -> None:
        """A beat in which the bit changes."""
        moves = [*self.board.change(change.slot, change.kind == "freed"), self.look_at(change.slot)]
        self.beat(caption, *others, *moves, seconds=0.8, pause=pause)

    def row(self, name: str, value: int, slot: int) -> BitRow:
        """The next row of digits: the line of bits in which ``slot`` stands."""
        grid = self.board.grid
        row = BitRow(name, value, grid, grid.line(slot), self.board.bottom - self.rows_pitch * (self.num_rows + 1))
        self.rows.append(row)
        self.num_rows += 1
        return row

    def clear_rows(self) -> None:
        """Make room for what is reckoned next, and look at no bit."""
        # NOTE: what was spelled stands in the scene digit by digit.
        self.remove(*(shape for row in self.rows for shape in row.get_family()), self.frame)
        self.rows.clear()
        self.num_rows = 0

    def look_at(self, slot: int) -> Animation:
        """A frame around a bit of the board, and around no other, until the next change."""
        self.remove(self.frame)
        self.frame = self.board.outline(slot)
        return FadeIn(self.frame)

    def _show_board(self, step: int) -> None:
        count = self.board.grid.num_bits
        begin = "" if step == 1 else f"Step {step}: "
        self.beat(f"{begin}{count} slots, one bit for each. 1 is free, 0 is owned.", FadeIn(self.board), pause=3.0)

    def _note(self, change: SlotChange) -> None:
        """Where in the run this is, and what the code does."""
        self.remove(*self.notes)
        count = Label(f"change {self.count} of {len(self.changes)}", BODY, LINE)
        code = f"free_mask |= 1 << {change.slot}" if change.kind == "freed" else self.code_of_taking
        line = self.board.grid.line(change.slot)
        bits = "" if len(line) == self.board.grid.num_bits else f", bits {line[0]} to {line[-1]}"
        self.notes = [
            put_left(Label(f"step {change.step}{bits}", BODY, LINE), -EDGE, TOP),
            put_left(count, EDGE - count.width, TOP),
            put_center(Label(code, BODY, LINE), 0, CODE_Y),
        ]
        self.add(*self.notes)
