"""Where bits stand: in columns of a number, the lowest at the right, sixteen on a line. And how a digit looks."""

from __future__ import annotations

from functools import cache

from ..style import HEADING, Label, put_center

LINE_LENGTH = 16
LONGEST_LINE, WIDEST = 10.9, 1.05
LEFTMOST = -4.3  # leaves room for names at the left
NAME_GAP = 0.35
DIGIT = HEADING - 2


class BitGrid:
    """The columns and lines of ``num_bits`` bits."""

    def __init__(self, num_bits: int) -> None:
        self.num_bits = num_bits
        self.columns = min(num_bits, LINE_LENGTH)
        self.pitch = min(WIDEST, LONGEST_LINE / self.columns)
        width = self.columns * self.pitch
        self.left = max(LEFTMOST, -width / 2)
        self.right = self.left + width

    def x(self, bit: int) -> float:
        """The middle of a bit's column."""
        return self.right - (bit % self.columns + 0.5) * self.pitch

    def line(self, bit: int) -> range:
        """The bits that stand on the same line as this one."""
        low = bit - bit % self.columns
        return range(low, min(low + self.columns, self.num_bits))

    @property
    def lines(self) -> list[range]:
        """All lines, the one of the highest bits first, as one reads a number."""
        return [self.line(low) for low in range(0, self.num_bits, self.columns)][::-1]


def digit(is_set: bool, color: str, x: float, y: float) -> Label:
    """A 1 or a 0 around (``x``, ``y``)."""
    return _drawn(is_set, color).copy().shift([x, y, 0])


@cache
def _drawn(is_set: bool, color: str) -> Label:
    return put_center(Label("1" if is_set else "0", DIGIT, color, bold=is_set), 0, 0)
