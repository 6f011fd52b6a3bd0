"""A request as a card: in the queue with what it asks, in a row with its number only."""

from __future__ import annotations

from manim import RoundedRectangle, VGroup

from ..style import BODY, INK, LINE, OWNED, PANEL, Label, fitted_end, ink_on, put_center, put_left

HEIGHT = 0.46


class RequestCard(VGroup):
    """``text`` is what is asked. The card is ``width`` units wide; its left edge stands at ``x``."""

    def __init__(self, request_id: int, text: str, x: float, y: float, width: float) -> None:
        super().__init__()
        self.frame = RoundedRectangle(
            width=width, height=HEIGHT, corner_radius=0.1, fill_color=PANEL, fill_opacity=1, stroke_color=LINE
        ).set_stroke(width=1.5)
        self.frame.move_to([x + width / 2, y, 0])
        number = put_left(Label(str(request_id), BODY, INK, bold=True), x + 0.12, y)
        left = number.get_right()[0] + 0.2
        words = put_left(fitted_end(text, x + width - 0.15 - left), left, y)
        self.number = number
        self.add(self.frame, number, words)

    @property
    def request_id(self) -> int:
        """Whose card it is."""
        return int(self.number.text)


class OwnerTag(VGroup):
    """Who owns a row: ``request 3``, or only the number where there is no room. ``request_id`` is read off it."""

    def __init__(self, request_id: int, x: float, y: float, width: float = 1.6) -> None:
        super().__init__()
        self.frame = RoundedRectangle(
            width=width, height=HEIGHT - 0.1, corner_radius=0.1, fill_color=OWNED, fill_opacity=1, stroke_width=0
        ).move_to([x + width / 2, y, 0])
        words = Label(f"request {request_id}", BODY, ink_on("owned"))
        if words.width > width - 0.1:
            words = Label(f"{request_id}", BODY, ink_on("owned"))
        self.words = put_center(words, x + width / 2, y)
        self.add(self.frame, self.words)

    @property
    def request_id(self) -> int:
        """Whose tag it is."""
        return int(self.words.text.split()[-1])
