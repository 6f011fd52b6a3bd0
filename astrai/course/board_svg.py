"""The picture of the learner's progress: a row for each chapter, a mark for each thing to do, readable in any theme.

Signs say what colours say, shapes tell predictions from exercises, and each mark has its words.
"""

from __future__ import annotations

import html
from typing import NamedTuple

from astrai.widgets.palette import roles, theme

DONE, BEGUN, OPEN = "✓", "◐", "○"  # signs
FILLS = {DONE: "reused", BEGUN: "miss", OPEN: ""}  # roles of the palette; what is open is empty
LEGEND = ((DONE, "done"), (BEGUN, "begun"), (OPEN, "open"))
NARROWEST = 580  # px, for the legend
LINE, MARK, GAP, EDGE = 40, 48, 6, 20  # px: height of a row, width of a mark, between two marks, around all
LETTER = 7.6  # px, the width of a letter of a title, generously


class Mark(NamedTuple):
    """One exercise, prediction or quiz: its name, a sign, and the same in words."""

    name: str
    sign: str
    words: str
    is_prediction: bool = False


class Row(NamedTuple):
    """One chapter."""

    id: str
    title: str
    marks: tuple[Mark, ...]


def svg(rows: list[Row]) -> str:
    """The picture, as an SVG that stands for itself."""
    left = EDGE + LETTER * max(len(f"{row.id}  {row.title}") for row in rows)
    width = round(max(left + max(sum(_width(mark) + GAP for mark in row.marks) for row in rows) + EDGE, NARROWEST))
    height = LINE * (len(rows) + 1) + EDGE
    done = sum(mark.sign == DONE for row in rows for mark in row.marks)
    about = f"Your progress: {done} of {sum(len(row.marks) for row in rows)} done. The table says the same in words."
    drawn = "".join(_row(row, EDGE / 2 + LINE * number, left) for number, row in enumerate(rows))
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}"'
        f' role="img" aria-label="{about}" style="max-width:100%;height:auto"'
        ' font-family="system-ui, -apple-system, Segoe UI, Helvetica, Arial, sans-serif" font-size="14">'
        f'<rect x=".5" y=".5" width="{width - 1}" height="{height - 1}" rx="10" fill="{theme()["background"]}"'
        f' stroke="{theme()["line"]}"/>{drawn}{_legend(EDGE / 2 + LINE * len(rows))}</svg>'
    )


def _row(row: Row, top: float, x: float) -> str:
    drawn = [_text(EDGE, top, f"{row.id}  {row.title}")]
    for mark in row.marks:
        drawn.append(_mark(mark, x, top))
        x += _width(mark) + GAP
    return "".join(drawn)


def _mark(mark: Mark, x: float, top: float) -> str:
    words = html.escape(f"{mark.name}: {mark.words}")
    short = mark.name.rpartition(".")[2]
    return f"<g><title>{words}</title>{_box(x, top, _width(mark), mark.sign, short, mark.is_prediction)}</g>"


def _box(x: float, top: float, width: float, sign: str, text: str, is_round: bool) -> str:
    role = roles().get(FILLS[sign])
    fill, ink = (role.color, role.ink) if role else ("none", theme()["text"])
    return f"{_shape(x, top, width, fill, is_round)}{_text(x + width / 2, top, f'{sign} {text}', ink, 'middle')}"


def _shape(x: float, top: float, width: float, fill: str, is_round: bool) -> str:
    place = f'x="{x:.1f}" y="{top + 6:.1f}" width="{width}" height="28" rx="{14 if is_round else 4}"'
    return f'<rect {place} fill="{fill}" stroke="{theme()["line"]}"/>'


def _legend(top: float) -> str:
    drawn, x = [], float(EDGE)
    for sign, words in LEGEND:
        drawn += [_box(x, top, 28, sign, "", False), _text(x + 36, top, words)]
        x += 100
    for is_round, words in ((False, "exercise"), (True, "prediction")):
        drawn += [_shape(x, top, MARK, "none", is_round), _text(x + 56, top, words)]
        x += 130
    return "".join(drawn)


def _text(x: float, top: float, words: str, ink: str = "", anchor: str = "start") -> str:
    return (
        f'<text x="{x:.1f}" y="{top + 25:.1f}" text-anchor="{anchor}" fill="{ink or theme()["text"]}"'
        f' xml:space="preserve">{html.escape(words.strip())}</text>'
    )


def _width(mark: Mark) -> int:
    return MARK + 24 if mark.name == "quiz" else MARK
