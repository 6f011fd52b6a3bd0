"""A stepper's frame as text and as SVG: the source of the phase that ran, what it did, and the pictures of the moment.

Pure functions of ``SchedulerStepper.face()``; ``static/stepper.js`` shows the same facts, with buttons.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator
from typing import Any

from astrai.widgets.twins import sheet
from astrai.widgets.twins.svg import fit, picture, rect
from astrai.widgets.twins.svg import text as words

PARTS = ("slots", "timeline", "tree")
FORK_PARTS = ("slots", "timeline")
LINE, GAP = 17, 12  # pixels


def heading(face: dict[str, Any]) -> str:
    """Which frame this is."""
    frame, (_, newest) = face["frame"], face["frames"]
    where = "the newest frame" if frame == newest else f"frame {frame:,} of {newest:,}"
    return f"{face['label'].capitalize()}: {where}"


def inbox_words(face: dict[str, Any]) -> str:
    """What was posted and not read yet."""
    verbs = {"add": "request {}", "cancel": "cancel {}"}
    posted = [verbs[item["do"]].format(item["request"]) for item in face["inbox"]]
    return f"Inbox, read in the next cleanup: {', '.join(posted)}" if posted else ""


def text(face: dict[str, Any]) -> str:
    """All of it in words."""
    parts = [heading(face), face["broken"] or face["said"], inbox_words(face), "\n".join(_source_text(face))]
    parts.append(sheet.text(face["view"]["state"], face["view"]["timeline"], PARTS))
    if fork := face["fork"]:
        parts.append(fork["words"])
        parts.append("\n".join(f"{what:<32}{was:>12}{then:>12}" for what, was, then in fork["table"]))
        for run in fork["runs"]:
            title = f"--- {run['title']}, at the end of step {min(fork['at'], run['last']):,} ---"
            parts.append(f"{title}\n{sheet.text(run['view']['state'], run['view']['timeline'], FORK_PARTS)}")
    return "\n\n".join(filter(None, parts))


def _source_text(face: dict[str, Any]) -> Iterator[str]:
    if source := face["source"]:
        yield f"{source['title']} ({source['file'] or 'its source cannot be read'})"
    for number, content, mark in face["rows"]:
        sign = {"error": "!", "work": ">"}.get(mark, " ")
        yield f"{sign} {number:5} {content}" if number is not None else f"{sign}     * {content}"


def svg(face: dict[str, Any], width: int = 960) -> str:
    """All of it in one drawing."""
    view = face["view"]
    drawings = [_source_svg(face, width), sheet.svg(view["state"], view["timeline"], PARTS, width)]
    if fork := face["fork"]:
        drawings.append(_fork_svg(fork, width))
        drawings += [
            drawing
            for run in fork["runs"]
            for drawing in (
                _title_svg(f"{run['title']}: step {min(fork['at'], run['last']):,}", width),
                sheet.svg(run["view"]["state"], run["view"]["timeline"], FORK_PARTS, width),
            )
        ]
    return _stacked(drawings, width)


def _stacked(drawings: list[str], width: int) -> str:
    height, placed = 0.0, []
    for drawing in drawings:
        # NOTE: "height: auto", which pictures have so that a page can shrink them, would stretch one within another.
        inner = drawing.replace(' style="max-width:100%;height:auto"', "", 1)
        placed.append(inner.replace("<svg ", f'<svg x="0" y="{height:g}" ', 1))
        found = re.search(r'<svg [^>]*?height="([\d.]+)"', drawing)
        assert found, "every picture says how high it is"
        height += float(found[1]) + GAP
    size = f'width="{width}" height="{height - GAP:g}" viewBox="0 0 {width} {height - GAP:g}"'
    style = 'style="max-width:100%;height:auto"'
    return f'<svg xmlns="http://www.w3.org/2000/svg" {size} {style} role="img">{"".join(placed)}</svg>'


def _source_svg(face: dict[str, Any], width: int) -> str:
    source, rows = face["source"], face["rows"]
    title, y = heading(face), 46
    shapes = [words(12, 20, title, size=14, font_weight="bold")]
    about = " · ".join(filter(None, [face["broken"] or face["said"], inbox_words(face)]))
    shapes.append(words(12, 38, fit(about, width - 24), size=12, fill="soft"))
    if source:
        y += LINE
        shapes.append(words(12, y, f"{source['title']} in {source['file'] or 'a source that cannot be read'}", size=12))
    for row in rows:
        y += LINE
        shapes += _row_shapes(*row, y, width)
    told = "; ".join(content.strip() for number, content, _ in rows if number is None) or "nothing happened"
    return picture("stepper", width, y + 12, title, told, *shapes)


def _row_shapes(number: int | None, content: str, mark: str, y: float, width: int) -> Iterator[str]:
    if number is None:
        sign, fill = ("✕", "text") if mark == "error" else ("•", "soft")
        yield words(76, y, fit(f"{sign} {content.strip()}", width - 88), size=12, fill=fill)
        return
    if mark:
        yield rect(8, y - LINE + 4, width - 16, LINE, fill="panel")
        yield rect(8, y - LINE + 4, 3, LINE, fill="text")
        yield words(14, y, "✕" if mark == "error" else "▸", size=12)
    yield words(28, y, f"{number:>5}", size=12, mono=True, fill="soft")
    weight = "bold" if mark else None
    yield words(76, y, fit(content, width - 88, mono=True), size=12, mono=True, font_weight=weight)


def _fork_svg(fork: dict[str, Any], width: int) -> str:
    lines = textwrap.wrap(fork["words"], (width - 24) // 7)
    shapes = [words(12, 20 + index * LINE, line, size=12, font_weight="bold") for index, line in enumerate(lines)]
    top, titles = 24 + LINE * len(lines), [run["title"] for run in fork["runs"]]
    for index, (what, was, then) in enumerate([("", *titles), *fork["table"]]):
        y = top + index * LINE
        shapes.append(words(12, y, what, size=12, fill="soft"))
        shapes.append(words(330, y, was, size=12, text_anchor="end"))
        shapes.append(words(350, y, fit(then, width - 362), size=12))
    return picture("stepper-fork", width, top + LINE * len(fork["table"]) + 12, "A fork", fork["words"], *shapes)


def _title_svg(title: str, width: int) -> str:
    return picture("stepper-run", width, 24, title, title, words(12, 18, title, size=14, font_weight="bold"))
