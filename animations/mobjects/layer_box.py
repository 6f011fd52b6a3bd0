"""A layer of an architecture as a box: its number, its name, where it stands, and two lines of detail."""

from __future__ import annotations

from manim import DOWN, LEFT, RIGHT, UP, Animation, FadeIn, Line, Polygon, RoundedRectangle, VGroup

from ..style import BODY, HEADING, INK, LINE, PANEL, Label, put_center, put_left

WIDTH, HEIGHT = 10.9, 1.12
NUMBER_ROOM, PADDING = 0.65, 0.22
LINE_HEIGHT = 0.335
PALE = 0.5


class LayerBox(VGroup):
    """Around (0, ``y``). ``head`` (frame, number, name, path) is shown first, then the ``details``.

    Raises:
        ValueError: a line is too long for the box.
    """

    def __init__(self, number: int, name: str, path: str, details: tuple[str, ...], y: float) -> None:
        super().__init__()
        self.y = y
        left, right = -WIDTH / 2 + NUMBER_ROOM, WIDTH / 2 - PADDING
        self.frame = RoundedRectangle(width=WIDTH, height=HEIGHT, corner_radius=0.12, stroke_width=2)
        self.frame.set_stroke(INK).set_fill(PANEL, 1).move_to([0, y, 0])
        mark = put_center(Label(str(number), HEADING, LINE, bold=True), -WIDTH / 2 + NUMBER_ROOM / 2, y)
        self.heading = put_left(Label(name, BODY + 2, bold=True), left, y + LINE_HEIGHT)
        self.path = Label(path, BODY, LINE)
        put_left(self.path, right - self.path.width, y + LINE_HEIGHT)
        lines = [put_left(Label(line), left, y - index * LINE_HEIGHT) for index, line in enumerate(details)]
        self.details = VGroup(*lines)
        self.head = VGroup(self.frame, mark, self.heading, self.path)
        self.add(self.head, self.details)
        if self.heading.get_right()[0] + 0.2 > self.path.get_left()[0]:
            raise ValueError(f"{name!r} and {path!r} do not fit into one line: shorten one of them")
        for line in lines:
            if line.get_right()[0] > right:
                raise ValueError(f"{line.text!r} is {line.get_right()[0] - right:.2f} units too long for its box")

    def appear(self) -> Animation:
        """The box with its name slides in from above."""
        return FadeIn(self.head, shift=0.15 * DOWN)

    def step_back(self) -> list[Animation]:
        """Others are spoken of: its border and its details pale."""
        return [self.frame.animate.set_stroke(LINE, 1.2), self.details.animate.set_opacity(PALE)]

    def step_forward(self) -> list[Animation]:
        """It is the one that is spoken of."""
        return [self.frame.animate.set_stroke(INK, 3.5), self.details.animate.set_opacity(1)]


class CallArrow(VGroup):
    """An arrow from one box down to the next: who calls whom."""

    def __init__(self, upper: LayerBox, lower: LayerBox) -> None:
        top, bottom = upper.frame.get_bottom(), lower.frame.get_top()
        line = Line(top, bottom + 0.14 * UP, color=INK, stroke_width=5)
        tip = Polygon(bottom + 0.15 * UP + 0.13 * LEFT, bottom + 0.15 * UP + 0.13 * RIGHT, bottom, stroke_width=0)
        super().__init__(line, tip.set_fill(INK, 1))
