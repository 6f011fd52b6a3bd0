"""A row of digits to reckon with: one line of a number's bits, with its name at the left."""

from __future__ import annotations

from manim import UP, Animation, FadeIn, LaggedStart, RoundedRectangle, VGroup

from ..style import INK, LINE, Label, put_left
from .bit_grid import DIGIT, NAME_GAP, BitGrid, digit


class BitRow(VGroup):
    """The bits ``line`` of ``value`` in the columns of ``grid``, at height ``y``.

    A negative ``value`` is in two's complement: its bits go on to the left for ever, and the line shows its part.
    """

    def __init__(self, name: str, value: int, grid: BitGrid, line: range, y: float) -> None:
        super().__init__()
        self.grid, self.y = grid, y
        self.word = Label(name, DIGIT)
        put_left(self.word, grid.left - NAME_GAP - self.word.width, y)
        self.digits = {}
        for bit in line:
            is_set = bool(value >> bit & 1)
            self.digits[bit] = digit(is_set, INK if is_set else LINE, grid.x(bit), y)
        self.add(self.word, *self.digits.values())

    def spell(self) -> Animation:
        """Digit by digit, the lowest first, as one reckons."""
        digits = (FadeIn(shape, shift=0.2 * UP) for shape in self.digits.values())
        return LaggedStart(FadeIn(self.word), *digits, lag_ratio=0.5)

    def outline(self, bit: int) -> RoundedRectangle:
        """A frame around a digit, to look at it."""
        frame = RoundedRectangle(width=min(0.6, self.grid.pitch), height=0.5, corner_radius=0.1)
        return frame.set_stroke(INK, 4).move_to([self.grid.x(bit), self.y, 0])

    @property
    def value(self) -> int:
        """The number that the digits spell."""
        return sum(1 << bit for bit, shape in self.digits.items() if shape.text == "1")
