"""The mask of free slots as a board of bits: a 1 is free, a 0 is owned."""

from __future__ import annotations

from manim import Animation, FadeIn, RoundedRectangle, VGroup

from astrai.widgets.palette import roles

from ..style import BODY, INK, LINE, Label, ink_on, put_center, put_left
from .bit_grid import DIGIT, NAME_GAP, BitGrid, digit

TALL, LOW, LINE_PITCH = 0.66, 0.46, 0.54  # cells of a single line are tall


class BitBoard(VGroup):
    """All bits of a mask. The first line stands at height ``y``, the numbers of the slots above or beside it."""

    def __init__(self, num_bits: int, mask: int, y: float) -> None:
        super().__init__()
        self.grid = BitGrid(num_bits)
        lines = self.grid.lines
        self.cell_height = TALL if len(lines) == 1 else LOW
        self.heights = {bit: y - index * LINE_PITCH for index, line in enumerate(lines) for bit in line}
        self.bottom = y - (len(lines) - 1) * LINE_PITCH - self.cell_height / 2
        self.add(*self._names(lines, y))
        self.cells: dict[int, RoundedRectangle] = {}
        self.digits: dict[int, Label] = {}
        for bit in range(num_bits):
            cell = RoundedRectangle(
                width=self.grid.pitch - 0.07, height=self.cell_height, corner_radius=0.08, stroke_width=0
            )
            self.cells[bit] = cell.set_fill(opacity=1).move_to([self.grid.x(bit), self.heights[bit], 0])
            self.add(cell)
            self.put(bit, bool(mask >> bit & 1))

    def _names(self, lines: list[range], y: float) -> list[Label]:
        left = self.grid.left - NAME_GAP
        if len(lines) == 1:
            name = Label("free_mask", DIGIT)
            numbers = [put_center(Label(str(bit), BODY, LINE), self.grid.x(bit), y + 0.58) for bit in lines[0]]
            return [put_left(name, left - name.width, y), *numbers]
        names = [Label(f"{line[-1]} to {line[0]}", BODY, LINE) for line in lines]
        return [
            put_left(name, left - name.width, self.heights[line[0]]) for name, line in zip(names, lines, strict=True)
        ]

    def put(self, bit: int, is_set: bool) -> None:
        """Set or clear a bit at once."""
        role = "free" if is_set else "owned"
        self.cells[bit].set_fill(roles()[role].color)
        if bit in self.digits:
            self.remove(self.digits[bit])
        self.digits[bit] = digit(is_set, ink_on(role), self.grid.x(bit), self.heights[bit])
        self.add(self.digits[bit])

    def change(self, bit: int, is_set: bool) -> list[Animation]:
        """Set or clear a bit before the viewer's eyes."""
        before = self.cells[bit].get_fill_color()
        self.put(bit, is_set)
        after = self.cells[bit].get_fill_color()
        self.cells[bit].set_fill(before)
        return [self.cells[bit].animate.set_fill(after), FadeIn(self.digits[bit], scale=1.8)]

    def outline(self, bit: int) -> RoundedRectangle:
        """A frame around a bit, to look at it."""
        frame = RoundedRectangle(width=self.grid.pitch + 0.02, height=self.cell_height + 0.1, corner_radius=0.1)
        return frame.set_stroke(INK, 4).move_to(self.cells[bit])

    @property
    def mask(self) -> int:
        """The number that the digits spell."""
        return sum(1 << bit for bit, digit in self.digits.items() if digit.text == "1")
