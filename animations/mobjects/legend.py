"""What the colours and letters of the rows mean, in a line."""

from __future__ import annotations

from manim import Square, VGroup

from astrai.widgets.palette import roles

from ..style import BODY, Label, ink_on, put_center, put_left

SWATCH, GAP = 0.34, 0.45


class Legend(VGroup):
    """The roles from left to right, around ``x`` at height ``y``."""

    def __init__(self, names: list[str], x: float, y: float) -> None:
        super().__init__()
        left = 0.0
        for name in names:
            swatch = Square(SWATCH, fill_color=roles()[name].color, fill_opacity=1, stroke_width=0)
            swatch.move_to([left + SWATCH / 2, y, 0])
            letter = put_center(Label(roles()[name].letter, BODY, ink_on(name)), left + SWATCH / 2, y)
            words = put_left(Label(roles()[name].label, BODY), left + SWATCH + 0.12, y)
            self.add(swatch, letter, words)
            left = words.get_right()[0] + GAP
        self.set_x(x)
