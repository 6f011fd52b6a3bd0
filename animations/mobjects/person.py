"""Somebody who asks: a card with a name, a prompt, and below it the answer, once there is one."""

from __future__ import annotations

from manim import Animation, FadeIn, RoundedRectangle, VGroup

from ..style import BODY, INK, LINE, PANEL, Label, put_left

WIDTH, HEIGHT, PAD, LINE_STEP = 4.4, 1.0, 0.18, 0.38


class Person(VGroup):
    """Its left edge stands at ``x``, the middle of the card at ``y``."""

    def __init__(self, name: str, prompt: str, x: float, y: float) -> None:
        super().__init__()
        self.x, self.y = x, y
        self.frame = RoundedRectangle(
            width=WIDTH, height=HEIGHT, corner_radius=0.12, stroke_color=LINE, stroke_width=1.5
        )
        self.frame.set_fill(PANEL, 1).move_to([x + WIDTH / 2, y, 0])
        self.name = put_left(Label(f"{name} asks", BODY, LINE, bold=True), x + PAD, y + 0.22)
        self.prompt = put_left(Label(prompt, BODY, INK), x + PAD, y - 0.22)
        self.lines: list[Label] = []
        self.add(self.frame, self.name, self.prompt)

    def hear(self, answer: str, color: str = INK) -> list[Animation]:
        """The answer appears below the card, in place of what stood there."""
        self.remove(*self.lines)
        self.lines = [
            put_left(Label(line, BODY, color), self.x + PAD, self.y - HEIGHT / 2 - LINE_STEP * (index + 0.8))
            for index, line in enumerate(wrapped(answer, WIDTH - PAD))
        ]
        self.add(*self.lines)
        return [FadeIn(line) for line in self.lines]

    def act(self, acts: bool) -> None:
        """Whether it is this one's turn."""
        self.frame.set_stroke(INK if acts else LINE, 4 if acts else 1.5)

    def forget(self) -> None:
        """Take the answer away."""
        self.remove(*self.lines)
        self.lines = []

    def shown(self) -> str:
        """The answer that can be read."""
        return " ".join(line.text for line in self.lines)


def wrapped(text: str, width: float) -> list[str]:
    """Lines that are at most ``width`` units wide."""
    lines: list[str] = []
    for word in text.split():
        if lines and Label(f"{lines[-1]} {word}", BODY).width <= width:
            lines[-1] += f" {word}"
        else:
            lines.append(word)
    return lines
