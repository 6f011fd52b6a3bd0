"""Where the slot map has its rows and cells, in pixels. The script static/slot_map.js lays out the same way."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

from astrai.widgets.twins.slot_words import columns

MARGIN, TOP, TALLEST = 8, 46, 512  # around the picture; above the first row; of all rows together


@dataclass(frozen=True, slots=True)
class Layout:
    """Where things are. Two panels side by side where there are more than 128 rows."""

    panels: int
    per_panel: int
    pitch: int
    tier: str  # "full": heads of two lines, "line": of one, "dense": only numbers
    bar: int
    narrow: bool
    lane: int
    gutter: float
    panel_width: int
    columns: int
    cell: float

    @classmethod
    def of(cls, state: dict[str, Any], width: int) -> Self:
        """The layout of a state in a picture of so many pixels."""
        count, narrow = len(state["slots"]), width < 572
        panels = 2 if count > 128 else 1
        per_panel = -(-count // panels)
        pitch = max(3, min(34, TALLEST // per_panel))
        tier = "full" if pitch >= 30 else "line" if pitch >= 14 else "dense"
        bar = pitch - (10 if tier == "full" else 4 if tier == "line" else 2 if pitch >= 8 else 1)
        lane = 20 if narrow else 32
        head = {"full": 136 if narrow else 160, "line": 136 if narrow else min(290, width * 0.3), "dense": 26}[tier]
        panel_width = (width - 2 * MARGIN - 14 * (panels - 1)) // panels
        shown, gutter = columns(state), lane + head
        plot = panel_width - gutter - (12 if tier == "dense" else 44)
        return cls(panels, per_panel, pitch, tier, bar, narrow, lane, gutter, panel_width, shown, plot / shown)

    def left(self, slot: int) -> float:
        """The left edge of a row, head included."""
        return MARGIN + slot // self.per_panel * (self.panel_width + 14)

    def x(self, slot: int, position: float) -> float:
        """The left edge of a cell."""
        return self.left(slot) + self.gutter + position * self.cell

    def middle(self, slot: int) -> float:
        """The middle of a row."""
        return TOP + slot % self.per_panel * self.pitch + self.pitch / 2

    def top(self, slot: int) -> float:
        """The upper edge of a row's cells."""
        return self.middle(slot) - self.bar / 2

    @property
    def bottom(self) -> int:
        """Where the rows end."""
        return TOP + self.per_panel * self.pitch
