"""Marks of the slot map that tell how rows were handed out, and the legend, as SVG."""

from __future__ import annotations

from typing import Any

from astrai.widgets.palette import roles
from astrai.widgets.twins.slot_layout import MARGIN, Layout
from astrai.widgets.twins.slot_words import Slot, is_free, origin_words
from astrai.widgets.twins.svg import PALE, element, group, number, path, rect, text, text_width


def _arc(lay: Layout, src: int, dst: int) -> str:
    x0, y0, x1, y1 = lay.x(src, 0) - 3, lay.middle(src), lay.x(dst, 0) - 3, lay.middle(dst)
    reach = min(lay.lane * 1.2, 12 + abs(y1 - y0) * 0.2)
    points = (x0, y0, x0 - reach, y0, x1 - reach, y1, x1 - 6, y1)
    return "M{} {}C{} {} {} {} {} {}".format(*map(number, points))


NAME = "slot-map"
KINDS = ("prefill", "decode", "reused", "copied", "kept")


def threads(lay: Layout, state: dict[str, Any]) -> list[str]:
    """Where the copied parts of running requests came from, as long as the source is what it was."""
    found = []
    for index, slot in enumerate(state["slots"] if lay.panels == 1 else ()):
        origin = slot["origin"]
        if is_free(slot) or origin is None or origin["kind"] != "copy":
            continue
        if state["slots"][origin["src"]]["version"] == origin["src_version"]:
            opacity = 0.5 if lay.tier == "dense" else None
            found.append(path(_arc(lay, origin["src"], index), stroke="copied", opacity=opacity))
    return found


def mark(lay: Layout, index: int, slot: Slot) -> str:
    """How a row was handed out: an arrow for a copy, a ring for what stays in place, an empty set for a miss."""
    origin, x, y = slot["origin"], lay.x(index, 0), lay.middle(index)
    kind, data = origin["kind"], {"data_mark": origin["kind"], "data_slot": index}
    if kind == "copy":
        data["data_src"] = origin["src"]
        wing = min(5, lay.pitch / 2 + 1)
        arc = path(_arc(lay, origin["src"], index), stroke="copied", stroke_width=3)
        tip = path(f"M{number(x - 2)} {number(y)}l-8 {number(-wing)}v{number(2 * wing)}z", fill="copied")
        shapes = [_frame(lay, row, origin["len"], "copied") for row in (origin["src"], index)]
        shapes += [arc, tip]
    elif kind == "zero-copy":
        back = path(f"M{number(x - 6.4)} {number(y - 2)}A5 5 0 1 0 {number(x - 6.4)} {number(y + 2)}", stroke="reused",
                    stroke_width=2.5)  # fmt: skip
        tip = path(f"M{number(x - 10)} {number(y + 1.5)}h6.5l-2.5 5.5z", fill="reused")
        shapes = [_frame(lay, index, origin["len"], "reused"), back, tip]
    else:
        slash = path(f"M{number(x - 16)} {number(y + 5)}l10 -10", stroke="text", stroke_width=1.5)
        circle = element("circle", cx=x - 11, cy=y, r=4.5, fill="background", stroke="text", stroke_width=1.5)
        shapes = [circle, slash]
    return group(*shapes, _flag(lay, index, slot), **data)


def _frame(lay: Layout, index: int, length: int, stroke: str) -> str:
    dense = lay.tier == "dense"
    gap = 1.5 if dense else 2
    box = (lay.x(index, 0) - gap, lay.top(index) - gap, max(4, length * lay.cell + gap), lay.bar + 2 * gap)
    if dense:  # a ring of the bar's own colour would not be seen
        return rect(*box, rx=2, fill="none", stroke="text" if stroke == "reused" else stroke, stroke_width=1.5)
    halo = rect(*box, rx=4, fill="none", stroke="background", stroke_width=5)
    return halo + rect(*box, rx=4, fill="none", stroke=stroke, stroke_width=2.5)


def _flag(lay: Layout, index: int, slot: Slot) -> str:
    """What the mark means, where there is room behind the row."""
    role, words = origin_words(slot["origin"])
    x = lay.x(index, slot["len"]) + (6 if lay.tier == "dense" else 38)
    width = text_width(words, 11) + 10
    if x + width > lay.left(index) + lay.panel_width:
        return ""
    box = rect(x, lay.middle(index) - 8, width, 16, rx=8, fill=role)
    return box + text(x + 5, lay.middle(index) + 4, words, size=11, fill=roles()[role].ink)


def legend(lay: Layout, width: int, with_kept: bool) -> tuple[str, float]:
    """The legend, and where it ends."""
    words = {kind: f"{roles()[kind].letter} {roles()[kind].label}" for kind in KINDS}
    words["reused"] += " (zero-copy)"
    items = [(kind, words[kind]) for kind in KINDS if with_kept or kind != "kept"]
    x, y, parts = MARGIN, lay.bottom + 14, []
    for kind, said in [*items, ("pale", "faded: free, still remembered"), ("newest", "newest token")]:
        wide = 28 + text_width(said, 12)
        if x + wide > width - MARGIN and x > MARGIN:
            x, y = MARGIN, y + 20
        parts += [_swatch(kind, x, y), text(x + 27, y + 12, said)]
        x += wide + 12
    return group(*parts), y + 20


def _swatch(kind: str, x: float, y: float) -> str:
    if kind == "pale":
        return rect(x, y, 22, 15, rx=3, fill="prefill", opacity=PALE)
    if kind == "newest":
        box = rect(x + 0.5, y + 0.5, 21, 14, rx=3, fill="decode", stroke="text")
        return box + rect(x + 19, y, 3, 15, fill="text")
    hatched = rect(x, y, 22, 15, rx=3, fill=f"url(#{NAME}-{kind})") if roles()[kind].hatch else ""
    return rect(x, y, 22, 15, rx=3, fill=kind) + hatched
