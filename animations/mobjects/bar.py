"""A horizontal bar that fills to scale: each stretch of it has a role, and says so by colour and letter."""

from __future__ import annotations

from typing import Any

import numpy as np
from manim import Animation, FadeOut, VGroup, VMobject

from astrai.widgets.palette import roles

from ..style import BODY, PANEL, Label, ink_on, put_left

ROOM_FOR_LETTER = 0.26  # units


class Span(VMobject):
    """A stretch of a bar; ``end`` is read off its width."""

    def __init__(self, role: str, start: int, end: float, bar: Bar) -> None:
        super().__init__(fill_color=roles()[role].color, fill_opacity=1, stroke_width=0)
        self.role, self.start, self.bar = role, start, bar
        self.reach(end)

    @property
    def end(self) -> float:
        """Where it ends, on the bar's scale."""
        return self.start + self.width / self.bar.unit

    def reach(self, end: float) -> None:
        """Let it end there."""
        left, right = (self.bar.x_of(at) for at in (self.start, end))
        low, high = self.bar.y - self.bar.tall / 2, self.bar.y + self.bar.tall / 2
        corners = [(left, high), (right, high), (right, low), (left, low), (left, high)]
        self.set_points_as_corners(np.array([(*corner, 0.0) for corner in corners]))

    def label(self, end: int) -> Label:
        """Its letter, or nothing where a span that ends there has no room for it."""
        letter = roles()[self.role].letter if (end - self.start) * self.bar.unit > ROOM_FOR_LETTER else ""
        return put_left(Label(letter, BODY, ink_on(self.role)), self.bar.x_of(self.start) + 0.06, self.bar.y)


class Fill(Animation):
    """A span that grows or shrinks to ``end``."""

    def __init__(self, span: Span, end: float, **settings: Any) -> None:
        super().__init__(span, **settings)
        self.span, self.from_end, self.to_end = span, span.end, end

    def begin(self) -> None:
        """Without manim's copy of the shape: it is set anew in each frame."""
        self.starting_mobject = self.mobject
        self.interpolate(0)

    def interpolate_mobject(self, alpha: float) -> None:
        """Called by manim for each frame."""
        share = self.rate_func(min(1, max(0, alpha)))
        self.span.reach(self.from_end + share * (self.to_end - self.from_end))


class Bar(VGroup):
    """A trough for ``capacity`` of something, from ``left`` to ``left + width``, with spans in it."""

    def __init__(self, left: float, y: float, width: float, capacity: int, tall: float = 0.4) -> None:
        super().__init__()
        self.left, self.y, self.tall = left, y, tall
        self.unit = width / capacity
        self.spans: list[Span] = []
        self.letters: list[Label] = []
        self.add(Span("free", 0, capacity, self).set_fill(PANEL))

    def x_of(self, at: float) -> float:
        """Where a place of the scale lies."""
        return self.left + self.unit * at

    def fill(self, wanted: list[tuple[str, int, int]]) -> list[Animation]:
        """Animations to these spans (role, start, end), from left to right."""
        same = 0
        while same < min(len(wanted), len(self.spans)) and _agree(self.spans[same], wanted[same]):
            same += 1
        moves: list[Animation] = []
        if self.spans[same:]:
            moves.append(FadeOut(VGroup(*self.spans[same:], *self.letters[same:])))
            self.remove(*self.spans[same:], *self.letters[same:])
            del self.spans[same:], self.letters[same:]
        if same and round(self.spans[-1].end) != (end := wanted[same - 1][2]):
            moves.append(Fill(self.spans[-1], end))
            self.remove(self.letters[-1])
            self.letters[-1] = self.spans[-1].label(end)
            self.add(self.letters[-1])
        for role, start, end in wanted[same:]:
            self.spans.append(Span(role, start, start + 0.01, self))
            self.letters.append(self.spans[-1].label(end))
            self.add(self.spans[-1], self.letters[-1])
            moves.append(Fill(self.spans[-1], end))
        return moves


def merged(runs: list[tuple[str, int]]) -> list[tuple[str, int, int]]:
    """Runs (role, end) as spans (role, start, end), neighbours of the same role as one."""
    spans: list[tuple[str, int, int]] = []
    start = 0
    for role, end in runs:
        if spans and spans[-1][0] == role:
            spans[-1] = (role, spans[-1][1], end)
        else:
            spans.append((role, start, end))
        start = end
    return spans


def _agree(span: Span, wanted: tuple[str, int, int]) -> bool:
    return (span.role, span.start) == wanted[:2]
