"""How the films look: one font, three sizes, the widgets' colours by role, and text that is quick to draw."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
from fontTools.pens.recordingPen import DecomposingRecordingPen
from fontTools.ttLib import TTFont
from manim import LEFT, VMobject

from astrai.widgets.palette import phase_roles, roles, theme

EM = 0.0139  # units of the frame for a font size of 1, as in manim's own text
TITLE, HEADING, BODY = 44, 28, 21  # font sizes; nothing is smaller than BODY, which is readable at 480p
MARGIN = 0.3  # between the text and the edge of the frame, in units of the frame, which is 8 high

BACKGROUND, INK, LINE = (theme("dark")[name] for name in ("background", "text", "line"))
HIT, EVICTED, REUSED, OWNED = (roles()[name].color for name in ("hit", "evicted", "reused", "owned"))
PANEL = "#262626"  # a surface that stands out from the background
FADED = 0.35  # opacity of what a free slot remembers, as in the pictures


def ink_on(role: str) -> str:
    """The colour of text on a role's colour."""
    return roles()[role].ink


def phase_color(phase: str) -> str:
    """The colour in which a phase of the loop is drawn."""
    return roles()[phase_roles()[phase]].color


class Label(VMobject):
    """A line of text as a single shape, which is made and drawn ten times quicker than letter by letter.

    ``text`` is what it says, ``size`` the font size. Letters that the font lacks are drawn as its empty box.
    """

    def __init__(self, text: str, size: int = BODY, color: str = INK, bold: bool = False) -> None:
        super().__init__(fill_color=color, fill_opacity=1, stroke_width=0)
        self.text, self.size = text, size
        self.middle = 0.0  # how far the centre of the shape lies above the middle of an "x" on the same line
        pieces, x = [], 0.0
        for letter in text:
            outline, advance = _letter(letter, bold)
            if len(outline):
                pieces.append(outline + np.array([x, 0.0, 0.0]))
            x += advance
        if pieces:
            self.set_points(np.concatenate(pieces) * size * EM)
            self.middle = self.get_y() - _x_height(bold) / 2 * size * EM
        self._height = self.height

    @property
    def shown_size(self) -> float:
        """The font size after whatever scaling was done."""
        return self.size * self.height / self._height


@cache
def _font(bold: bool) -> TTFont:
    return TTFont(Path(__file__).parent / "fonts" / ("Inter-SemiBold.otf" if bold else "Inter-Medium.otf"))


@cache
def _x_height(bold: bool) -> float:
    return _font(bold)["OS/2"].sxHeight / _font(bold)["head"].unitsPerEm


@cache
def _letter(letter: str, bold: bool) -> tuple[np.ndarray, float]:
    """The outline as cubic Bezier curves of four points each, and how far it moves the next letter; in ems."""
    font = _font(bold)
    name = font.getBestCmap().get(ord(letter), ".notdef")
    drawing = font.getGlyphSet()[name]
    pen = DecomposingRecordingPen(font.getGlyphSet())
    drawing.draw(pen)
    curves: list[list[tuple[float, float]]] = []
    first = at = (0.0, 0.0)
    for step, points in pen.value:
        if step == "moveTo":
            first = at = points[0]
            continue
        if step != "curveTo":  # a straight line is a curve with its handles on it
            end = points[0] if step == "lineTo" else first
            points = [tuple(np.add(at, np.subtract(end, at) * share)) for share in (1 / 3, 2 / 3, 1)]
        if points[-1] != at:
            curves.append([at, *points])
        at = points[-1]
    flat = np.array([point for curve in curves for point in curve]).reshape(-1, 2)
    return np.pad(flat, ((0, 0), (0, 1))) / font["head"].unitsPerEm, drawing.width / font["head"].unitsPerEm


def fitted(text: str, width: float, size: int = BODY, color: str = INK, bold: bool = False) -> Label:
    """A label that is cut with an ellipsis where it would be wider than ``width``."""
    label = Label(text, size, color, bold)
    while label.width > width and len(text) > 1:
        keep = max(1, min(len(text) - 1, int(len(text) * width / label.width)))
        text = text[:keep].rstrip()
        label = Label(text + "…", size, color, bold)
    return label


def fitted_end(text: str, width: float, size: int = BODY, color: str = INK) -> Label:
    """Like :func:`fitted`, but cut at its beginning: of things that begin alike, the end tells them apart."""
    label = Label(text, size, color)
    while label.width > width and len(text) > 1:
        text = text[-max(1, min(len(text) - 1, int(len(text) * width / label.width))) :].lstrip()
        label = Label("…" + text, size, color)
    return label


def put_left(label: Label, x: float, y: float) -> Label:
    """Move a label so that it begins at ``x`` and its letters stand around height ``y``, whatever letters it has."""
    # NOTE: a label's own centre depends on whether it has a "p" or an "l": lines would dance.
    if label.has_points():
        label.move_to([0, y + label.middle, 0]).align_to([x, 0, 0], LEFT)
    return label


def put_center(label: Label, x: float, y: float) -> Label:
    """Like :func:`put_left`, with its middle at ``x``."""
    return label.move_to([x, y + label.middle, 0]) if label.has_points() else label
