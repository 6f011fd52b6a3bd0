"""One node of the radix tree: the words of its edge, how many tokens they are, and which slots hold them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from manim import VGroup, VMobject

from astrai.widgets.palette import roles

from ..style import BODY, INK, LINE, PANEL, Label, fitted, ink_on, put_left
from .tree_words import facts, read_facts

HEIGHT, PAD, LETTER = 0.74, 0.14, 0.36


class TreeNode(VGroup):
    """A box with two lines, and the link to its parent. ``data`` is the node in the form of a view's state."""

    def __init__(self, node_id: int, data: Mapping[str, Any], widest: float) -> None:
        super().__init__()
        self.node_id, self.parent_id, self.data = node_id, data["parent"], dict(data)
        self.frame = VMobject(fill_color=PANEL, fill_opacity=1, stroke_color=LINE, stroke_width=1.5)
        self.part = VMobject(fill_color=PANEL, fill_opacity=1, stroke_width=0)  # the first part, where that is lit
        self.share = 0.0
        self.link = VMobject(stroke_color=LINE, stroke_width=2)
        self.words = fitted(data["text"], widest - 2 * PAD - LETTER, BODY)
        self.note = self.facts = fitted(facts(data), widest - 2 * PAD, BODY, LINE)
        self.letter = Label("")
        self.widest = widest
        self.natural = min(widest, max(self.words.width + LETTER, self.note.width) + 2 * PAD)
        self.x = self.y = self.wide = 0.0
        self.add(self.link, self.frame, self.part, self.words, self.note, self.letter)

    def put(self, x: float, y: float, wide: float) -> None:
        """Stand with the left edge at ``x`` and the middle at ``y``, ``wide`` units wide."""
        self.x, self.y, self.wide = x, y, wide
        low, high = y - HEIGHT / 2, y + HEIGHT / 2
        for shape, end in ((self.frame, x + wide), (self.part, x + self.share * (self.words.width + 2 * PAD))):
            corners = [(x, high), (end, high), (end, low), (x, low), (x, high)]
            shape.set_points_as_corners(np.array([(*corner, 0.0) for corner in corners]))
        put_left(self.words, x + PAD, y + 0.17)
        put_left(self.note, x + PAD, y - 0.17)
        put_left(self.letter, x + wide - PAD - 0.16, y + 0.17)

    def hang_on(self, parent: TreeNode | None) -> None:
        """Draw the link from the parent's right end to this node's left one."""
        if parent is None:
            return
        start, end = parent.x + parent.wide, self.x
        middle = (start + end) / 2
        points = [(start, parent.y), (middle, parent.y), (middle, self.y), (end, self.y)]
        self.link.set_points_as_corners(np.array([(*point, 0.0) for point in points]))

    def light(self, role: str | None, share: float = 1.0) -> None:
        """The colour and the letter of a role, or none; of less than the whole edge only its first ``share``."""
        ink = ink_on(role) if role and share == 1 else INK
        self.frame.set_fill(roles()[role].color if role and share == 1 else PANEL)
        self.words.set_fill(ink)
        self.note.set_fill(ink if role else INK if self.note is not self.facts else LINE)
        self.share = share if role and share < 1 else 0.0
        self.part.set_fill(roles()[role].color if role else PANEL)
        self.remove(self.letter)
        self.letter = Label(roles()[role].letter if role else "", BODY, ink, bold=True)
        self.add(self.letter)
        self.put(self.x, self.y, self.wide)

    def say(self, text: str | None) -> None:
        """Another second line; ``None``: the tokens and the slots again."""
        self.remove(self.note)
        self.note = self.facts if text is None else Label(text, BODY, self.words.fill_color)
        self.add(self.note)
        self.put(self.x, self.y, self.wide)

    def fade(self, seen: float) -> None:
        """Be seen as much: 0 is not at all, 1 is fully."""
        for part in (self.frame, self.part, self.words, self.note, self.letter):
            part.set_fill(opacity=seen)
        self.frame.set_stroke(opacity=seen)
        self.link.set_stroke(opacity=seen)

    def says(self, data: Mapping[str, Any]) -> bool:
        """Whether it would look the same with these data."""
        return all(self.data[name] == data[name] for name in ("parent", "text", "len", "holders"))

    def shown(self) -> tuple[int, int, tuple[int, ...]]:
        """The parent, and the tokens and the slots as the second line says them."""
        tokens, slots = read_facts(self.note.text)
        return self.parent_id, tokens, tuple(self.data["holders"]) if slots is None else slots
