"""What travels between layers: a request's card on its way down, a token on its way up."""

from __future__ import annotations

from manim import Animation, FadeIn, FadeOut, RoundedRectangle, VGroup

from astrai.widgets.palette import roles

from ..style import BODY, INK, PANEL, Label, ink_on, put_center

WIDTH, LINE_HEIGHT, PADDING = 1.42, 0.33, 0.2


class Traveller(VGroup):
    """A small card around (``x``, ``y``) with ``lines`` in its middle, in the colour of ``role``, if it is given.

    Raises:
        ValueError: a line is too long for the card.
    """

    def __init__(self, lines: tuple[str, ...], x: float, y: float, role: str | None = None) -> None:
        super().__init__()
        self.lines = lines
        fill, border, ink = (roles()[role].color, roles()[role].color, ink_on(role)) if role else (PANEL, INK, INK)
        height = len(lines) * LINE_HEIGHT + PADDING
        self.frame = RoundedRectangle(width=WIDTH, height=height, corner_radius=0.12, stroke_width=2)
        self.add(self.frame.set_stroke(border).set_fill(fill, 1).move_to([x, y, 0]))
        top = y + (len(lines) - 1) / 2 * LINE_HEIGHT
        for index, line in enumerate(lines):
            label = put_center(Label(line, BODY, ink), x, top - index * LINE_HEIGHT)
            if label.width > WIDTH - 0.1:
                raise ValueError(f"{line!r} is {label.width:.2f} units wide, but the card has {WIDTH - 0.1:.2f}")
            self.add(label)

    def becomes(self, other: Traveller) -> list[Animation]:
        """It turns into the other on the way from its place to the other's."""
        way = other.frame.get_center() - self.frame.get_center()
        return [FadeOut(self, shift=way), FadeIn(other, shift=way)]
