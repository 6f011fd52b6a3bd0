"""The four phases in a line; the one that runs is lit."""

from __future__ import annotations

from manim import Animation, RoundedRectangle, VGroup

from astrai.trace.events import PHASES
from astrai.widgets.palette import phase_roles

from ..style import BODY, INK, LINE, PANEL, Label, ink_on, phase_color, put_center

WIDTH, HEIGHT, GAP = 1.7, 0.46, 0.2


class PhaseDial(VGroup):
    """Four pills, around ``x`` at height ``y``."""

    def __init__(self, x: float, y: float) -> None:
        super().__init__()
        self.pills: dict[str, RoundedRectangle] = {}
        self.words: dict[str, Label] = {}
        left = x - (len(PHASES) - 1) / 2 * (WIDTH + GAP)
        for index, phase in enumerate(PHASES):
            middle = left + index * (WIDTH + GAP)
            pill = RoundedRectangle(width=WIDTH, height=HEIGHT, corner_radius=0.23, stroke_color=LINE, stroke_width=1.5)
            self.pills[phase] = pill.set_fill(PANEL, 1).move_to([middle, y, 0])
            self.words[phase] = put_center(Label(phase.capitalize(), BODY), middle, y)
            self.add(pill, self.words[phase])

    def point_at(self, phase: str | None) -> list[Animation]:
        """Light a phase, or none."""
        moves = []
        for name, pill in self.pills.items():
            lit = name == phase
            if lit != (name == self.shown()):
                moves.append(pill.animate.set_fill(phase_color(name) if lit else PANEL))
                moves.append(self.words[name].animate.set_fill(ink_on(phase_roles()[name]) if lit else INK))
        return moves

    def shown(self) -> str | None:
        """The phase that is lit."""
        dark = PANEL.lower()
        return next((name for name, pill in self.pills.items() if pill.fill_color.to_hex().lower() != dark), None)
