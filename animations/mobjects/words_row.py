"""A slot with the words that stand in it, one part after the other, and the version of its last hand-out."""

from __future__ import annotations

from manim import Animation, FadeIn, FadeOut, RoundedRectangle, VGroup

from astrai.widgets.palette import roles

from ..style import BODY, FADED, HEADING, INK, LINE, PANEL, Label, fitted, ink_on, put_center, put_left

HEIGHT, HEAD, PAD, LETTER = 0.8, 2.3, 0.14, 0.34

Part = tuple[str, str]  # words, and the role of how they came


class WordsRow(VGroup):
    """From ``left`` to ``right`` at height ``y``; the words begin after the slot's name and version."""

    def __init__(self, slot: int, left: float, right: float, y: float) -> None:
        super().__init__()
        self.x, self.right, self.y = left + HEAD, right, y
        self.trough = RoundedRectangle(width=right - self.x, height=HEIGHT, corner_radius=0.1, stroke_color=LINE)
        self.trough.set_stroke(width=1.5).set_fill(PANEL, 1).move_to([(self.x + right) / 2, y, 0])
        self.name = put_left(Label(f"slot {slot}", HEADING, bold=True), left, y)
        self.badge = self._badge(0)
        self.parts: list[tuple[Part, VGroup]] = []
        self.add(self.trough, self.name, self.badge)

    def tell(self, version: int, *parts: Part) -> list[Animation]:
        """Hand the slot out anew, if the version differs, and write these parts where others stood."""
        moves: list[Animation] = []
        if self.badge.version != version:
            self.remove(self.badge)
            self.badge = self._badge(version)
            self.add(self.badge)
            moves.append(FadeIn(self.badge, scale=1.5))
        same = 0
        while same < min(len(parts), len(self.parts)) and parts[same] == self.parts[same][0]:
            same += 1
        if gone := [box for _, box in self.parts[same:]]:
            self.remove(*gone)
            moves += [FadeOut(box) for box in gone]
            del self.parts[same:]
        self.turn_pale(False)
        for part in parts[same:]:
            box = self._box(*part)
            self.parts.append((part, box))
            self.add(box)
            moves.append(FadeIn(box))
        return moves

    def turn_pale(self, pale: bool = True) -> None:
        """Nobody owns it any more; its words stay, pale. Or somebody owns it again."""
        for (_, role), (frame, *words) in self.parts:
            frame.set_fill(opacity=FADED if pale else 1)
            for label in words:
                label.set_fill(INK if pale else ink_on(role))

    def shown(self) -> tuple[int, list[Part]]:
        """The version, and the parts."""
        return self.badge.version, [part for part, _ in self.parts]

    def _box(self, text: str, role: str) -> VGroup:
        start = max((box.get_right()[0] for _, box in self.parts), default=self.x + 0.02) + 0.06
        words = fitted(text, self.right - start - LETTER - 2 * PAD - 0.08, BODY, ink_on(role))
        wide = words.width + LETTER + 2 * PAD
        frame = RoundedRectangle(width=wide, height=HEIGHT - 0.16, corner_radius=0.06, stroke_width=0)
        frame.set_fill(roles()[role].color, 1).move_to([start + wide / 2, self.y, 0])
        letter = put_left(Label(roles()[role].letter, BODY, ink_on(role), bold=True), start + PAD, self.y)
        return VGroup(frame, letter, put_left(words, start + PAD + LETTER, self.y))

    def _badge(self, version: int) -> Badge:
        return Badge(version, self.x - 0.55, self.y)


class Badge(VGroup):
    """A version: a number in a ring."""

    def __init__(self, version: int, x: float, y: float) -> None:
        super().__init__()
        self.version = version
        self.ring = RoundedRectangle(width=0.75, height=0.56, corner_radius=0.28, stroke_color=LINE, stroke_width=2)
        self.ring.set_fill(PANEL, 1).move_to([x, y, 0])
        self.add(self.ring, put_center(Label(f"v{version}", BODY, bold=True), x, y))
