"""A row of the KV cache: its slot, its version, and what its positions hold, to scale."""

from __future__ import annotations

from typing import Any

from manim import Animation, FadeIn

from ..style import BODY, FADED, INK, LINE, Label, put_left
from .bar import Bar, merged

HEAD = 1.75  # from the row's left edge to position 0
VERSION = 0.95  # to its version


class SlotRow(Bar):
    """One row, ``width`` units wide from ``left``, with room for ``capacity`` positions."""

    def __init__(self, slot: int, left: float, y: float, width: float, capacity: int) -> None:
        super().__init__(left + HEAD, y, width - HEAD, capacity)
        self.slot, self.is_free = slot, False
        self.name = put_left(Label(f"slot {slot}", BODY, bold=True), left, y)
        self.version = self._label_version(0, LINE)
        self.add(self.name, self.version)

    def tell(self, slot: dict[str, Any]) -> list[Animation]:
        """Animations to what ``slot`` says, in the form of ``astrai.widgets.data.state``."""
        moves: list[Animation] = []
        if self.shown()[0] != slot["version"]:
            self.remove(self.version)
            self.version = self._label_version(slot["version"], INK)
            self.add(self.version)
            moves.append(FadeIn(self.version, scale=1.6))
        moves += self.fill(merged([(kind, end) for kind, end, *_ in slot["runs"]]))
        for shape in (*self.spans, *self.letters):
            shape.set_fill(opacity=FADED if slot["owner"] is None else 1)
        return moves

    def shown(self) -> tuple[int, int]:
        """The version and the number of valid tokens, as they can be seen."""
        return int(self.version.text[1:]), round(self.spans[-1].end) if self.spans else 0

    def _label_version(self, version: int, color: str) -> Label:
        return put_left(Label(f"v{version}", BODY, color), self.left - HEAD + VERSION, self.y)
