"""A prompt as a strip of text: what was found in the cache, and what is new."""

from __future__ import annotations

from manim import RoundedRectangle, VGroup

from astrai.widgets.palette import roles

from ..style import INK, PANEL, Label, fitted, ink_on, put_left

HEIGHT, PAD, LETTER, SIZE = 0.54, 0.16, 0.36, 24
ROOM_FOR_NEW = 2.0  # units that the found part leaves at least


class PromptStrip(VGroup):
    """It begins at ``x`` and is at most ``widest`` units wide."""

    def __init__(self, x: float, y: float, widest: float) -> None:
        super().__init__()
        self.x, self.y, self.widest = x, y, widest

    def tell(self, *parts: tuple[str, str | None]) -> None:
        """Texts one after the other, each in the colour of a role, or in none."""
        self.remove(*self.submobjects)
        parts = tuple((text, role) for text, role in parts if text)
        x, room = self.x, self.widest
        for index, (text, role) in enumerate(parts):
            share = room if index == len(parts) - 1 else room - ROOM_FOR_NEW
            letter = put_left(
                Label(roles()[role].letter if role else "", SIZE, ink_on(role or "owned"), bold=True), 0, 0
            )
            indent = PAD + (LETTER if role else 0)
            words = fitted(text.strip(), share - indent - PAD, SIZE, ink_on(role) if role else INK)
            wide = indent + words.width + PAD
            box = RoundedRectangle(width=wide, height=HEIGHT, corner_radius=0.08, stroke_width=0)
            box.set_fill(roles()[role].color if role else PANEL, 1).move_to([x + wide / 2, self.y, 0])
            self.add(box, put_left(letter, x + PAD, self.y), put_left(words, x + indent, self.y))
            x, room = x + wide + 0.06, room - wide - 0.06
