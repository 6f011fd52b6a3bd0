"""Pieces of the pictures' SVG twins: strings in, strings out. They know the palette and nothing of what is drawn.

Every colour is written twice: as a light one on the element, which any program can draw, and by a class that a style
inside the picture turns dark where the reader prefers that. ``fill`` and ``stroke`` take a role of the palette
("prefill"), a name of the theme ("background", "text", "soft", "line", "faint", "panel"), or any SVG paint.
Numbers are written in one form, so that the same state gives the same bytes.

Example:
    >>> rect(0, 0, 10.5, 4, fill="prefill")
    '<rect x="0" y="0" width="10.5" height="4" fill="#E69F00"/>'
"""

from __future__ import annotations

import html
import re
from typing import Any

from astrai.widgets.palette import roles, theme

FONT = "system-ui, -apple-system, 'Segoe UI', 'DejaVu Sans', sans-serif"
MONO = "ui-monospace, 'DejaVu Sans Mono', Menlo, monospace"
PALE = 0.35  # opacity of what a free row still remembers, as in the live pictures
HATCH_SIZE, HATCH_INK = 8, {"stroke": "#000000", "stroke_opacity": 0.32}
# The same values as in static/shared.css.
LIGHT = {**theme("light"), "soft": "#595959", "faint": "#E3E3E3", "panel": "#F6F6F6"}
DARK = {**theme("dark"), "soft": "#B0B0B0", "faint": "#333333", "panel": "#1D1D1D"}


def escape(content: object) -> str:
    """Text that is safe within an element and within an attribute; characters that XML forbids are replaced."""
    return html.escape(re.sub("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]", "\ufffd", str(content)))


def number(value: float) -> str:
    """At most two decimals, none without need: ``3.0 -> "3"``, ``2.50 -> "2.5"``."""
    written = f"{value:.2f}".rstrip("0").rstrip(".")
    return "0" if written == "-0" else written


# --- elements ---------------------------------------------------------------------------------------------------------


def element(tag: str, *children: str, **attributes: Any) -> str:
    """An element with children that are SVG already. ``stroke_width`` means ``stroke-width``; ``None`` is left out."""
    written, classes = [], [attributes.pop("class_")] if "class_" in attributes else []
    for name, value in attributes.items():
        if value is None:
            continue
        if name in ("fill", "stroke") and value in LIGHT:
            classes.append(f"{name[0]}-{value}")
            value = LIGHT[value]
        elif name in ("fill", "stroke") and value in roles():
            value = roles()[value].color
        value = number(value) if isinstance(value, int | float) else escape(value)
        written.append(f' {name.replace("_", "-")}="{value}"')
    if classes:
        written.append(f' class="{" ".join(classes)}"')
    inner = "".join(children)
    return f"<{tag}{''.join(written)}>{inner}</{tag}>" if inner else f"<{tag}{''.join(written)}/>"


def rect(x: float, y: float, width: float, height: float, **attributes: Any) -> str:
    """A rectangle; ``rx`` rounds its corners."""
    return element("rect", x=x, y=y, width=width, height=height, **attributes)


def line(x1: float, y1: float, x2: float, y2: float, *, stroke: str = "line", **attributes: Any) -> str:
    """A straight line."""
    return element("line", x1=x1, y1=y1, x2=x2, y2=y2, stroke=stroke, **attributes)


def path(d: str, *, fill: str = "none", **attributes: Any) -> str:
    """Any shape; write its numbers with :func:`number`."""
    return element("path", d=d, fill=fill, **attributes)


def text(
    x: float, y: float, content: str, *, size: float = 12, fill: str = "text", mono: bool = False, **attributes: Any
) -> str:
    """One line of text with its baseline at ``y``. ``text_anchor`` is start, middle or end; spaces are kept."""
    family = MONO if mono else None
    return element(
        "text", escape(content), x=x, y=y, font_size=size, fill=fill, font_family=family, style="white-space:pre",
        **attributes,
    )  # fmt: skip


def group(*children: str, **attributes: Any) -> str:
    """Elements together, with attributes for all of them."""
    return element("g", *children, **attributes)


def titled(shape: str, words: str) -> str:
    """A shape with words that a browser shows when it is pointed at, and a screen reader says."""
    return f"<g><title>{escape(words)}</title>{shape}</g>"


# --- roles ------------------------------------------------------------------------------------------------------------


def filled(
    picture_name: str, role: str, x: float, y: float, width: float, height: float, *, pale: bool = False, rx: float = 0
) -> str:
    """A rectangle in a role's colour with its hatch over it. ``picture_name`` is that given to :func:`picture`."""
    box = {"x": x, "y": y, "width": width, "height": height, "rx": rx or None, "opacity": PALE if pale else None}
    hatch = element("rect", **box, fill=f"url(#{picture_name}-{role})") if roles()[role].hatch else ""
    return element("rect", **box, fill=role) + hatch


def hatch(picture_name: str, role: str) -> str:
    """The ``<pattern>`` behind :func:`filled`; :func:`picture` adds those that are used."""
    half, full = HATCH_SIZE / 2, HATCH_SIZE
    rising = f"M{-half:g} {full}L{half:g} 0M{half:g} {full}L{full + half:g} 0"
    falling = f"M{-half:g} 0L{half:g} {full}M{half:g} 0L{full + half:g} {full}"
    lines = {"/": rising, "\\": falling, "x": rising + falling, "-": f"M0 {half:g}H{full}", "|": f"M{half:g} 0V{full}"}
    lines["+"] = lines["-"] + lines["|"]
    mark = roles()[role].hatch[0]
    if mark in lines:
        shape = path(lines[mark], **HATCH_INK)
    elif mark == "O":
        shape = element("circle", cx=half, cy=half, r=full / 3, fill="none", **HATCH_INK)
    else:
        shape = element("circle", cx=half, cy=half, r=full / {".": 7, "o": 5}[mark], fill_opacity=0.32)
    size = {"width": HATCH_SIZE, "height": HATCH_SIZE, "patternUnits": "userSpaceOnUse"}
    return element("pattern", shape, id=f"{picture_name}-{role}", **size)


# --- the whole --------------------------------------------------------------------------------------------------------


def picture(name: str, width: float, height: float, title: str, description: str, *parts: str) -> str:
    """A standalone picture on its own background, light or dark as the reader prefers.

    ``name`` (such as ``"slot-map"``) is in front of every id, so that pictures of two kinds can stand in one page.
    """
    body = "".join(parts)
    patterns = "".join(hatch(name, role) for role in roles() if f"url(#{name}-{role})" in body)
    dark = "".join(
        f".ai-{name} .f-{key}{{fill:{color}}}.ai-{name} .s-{key}{{stroke:{color}}}" for key, color in DARK.items()
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" class="ai-{name}" width="{number(width)}" height="{number(height)}" '
        f'viewBox="0 0 {number(width)} {number(height)}" role="img" '
        f'aria-labelledby="{name}-title {name}-desc" font-family="{FONT}">'
        f'<title id="{name}-title">{escape(title)}</title><desc id="{name}-desc">{escape(description)}</desc>'
        f"<style>@media (prefers-color-scheme:dark){{{dark}}}</style>"
        + (element("defs", patterns) if patterns else "")
        + rect(0, 0, width, height, fill="background")
        + body
        + "</svg>"
    )


# --- words ------------------------------------------------------------------------------------------------------------


def text_width(content: str, size: float = 12, mono: bool = False) -> float:
    """About how wide a text will be, in pixels; rather too wide than too narrow."""
    return size * (0.62 * len(content) if mono else sum(map(_advance, content)))


def _advance(char: str) -> float:
    """In ems, as in DejaVu Sans, which is among the wide ones."""
    if ord(char) >= 0x1100:
        return 1.05
    if char in " .,:;'|!ijl·":
        return 0.34
    if char in "frt()[]/-":
        return 0.42
    return 0.95 if char in "mwMW@%" else 0.72 if char.isupper() else 0.62


def fit(content: str, width: float, size: float = 12, mono: bool = False) -> str:
    """The text, or as much of its beginning as fits ``width`` pixels with an ellipsis after it."""
    if text_width(content, size, mono) <= width:
        return content
    room, kept = width - text_width("…", size, mono), ""
    for char in content:
        room -= text_width(char, size, mono)
        if room < 0:
            break
        kept += char
    return f"{kept}…" if kept else ""


def visible(content: str) -> str:
    """Token text on one line: a line break shows as a sign."""
    return content.replace("\n", "⏎")


def plural(count: int, word: str) -> str:
    """``1 token``, ``1,024 tokens``."""
    return f"{count:,} {word}{'' if count == 1 else 's'}"
