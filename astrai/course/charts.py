"""A plain chart for measurements in the notebooks, in the palette of all pictures."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

from astrai.widgets.palette import roles, theme

if TYPE_CHECKING:
    from matplotlib.figure import Figure

LINES = ("hit", "evicted", "reused", "copied", "owned")  # roles that can be told apart on white, in this order
MARKERS = "os^Dv"
DOTS_PER_INCH = 110


class Chart:
    """One pair of axes in the course's style. Draw on ``axes`` with matplotlib; the cell's last line shows the chart.

    ``words`` say what it shows to who cannot see it. Leave measured times out of them: a kept notebook says the same
    words each time it is built.

    Example:
        >>> chart = Chart("Time to hand out a slot", x="slots", y="nanoseconds", words="one line per allocator")
        >>> _ = chart.axes.plot([8, 64], [90, 95], label="bitmask")
        >>> chart
        Time to hand out a slot: one line per allocator
    """

    def __init__(self, title: str, x: str = "", y: str = "", words: str = "", size: tuple[float, float] = (8, 3.4)):
        from matplotlib import cycler
        from matplotlib.figure import Figure

        self.title, self.words = title, words
        self.figure: Figure = Figure(figsize=size, layout="constrained", facecolor=theme()["background"])
        self.axes = self.figure.add_subplot(facecolor="none")
        self.axes.set_prop_cycle(cycler(color=[roles()[role].color for role in LINES], marker=list(MARKERS)))
        text, line = theme()["text"], theme()["line"]
        self.axes.set_title(title, color=text, fontsize=11, loc="left")
        self.axes.set_xlabel(x, color=text)
        self.axes.set_ylabel(y, color=text)
        self.axes.tick_params(colors=text)
        self.axes.spines[["top", "right"]].set_visible(False)
        self.axes.spines[["left", "bottom"]].set_color(line)

    def _repr_png_(self) -> bytes:
        if self.axes.get_legend_handles_labels()[1] and self.axes.get_legend() is None:
            self.axes.legend(frameon=False, fontsize=9, labelcolor=theme()["text"])
        picture = io.BytesIO()
        # NOTE: without the name of the software the same numbers give the same bytes.
        self.figure.savefig(picture, format="png", dpi=DOTS_PER_INCH, metadata={"Software": None})
        return picture.getvalue()

    def __repr__(self) -> str:
        return f"{self.title}: {self.words}" if self.words else self.title
