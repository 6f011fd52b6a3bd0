"""How the course speaks in a notebook: as HTML that takes the theme's own colours, and as the same words in text.

States are said with words and a mark; the coloured bar at the side only repeats them.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterable
from dataclasses import dataclass

from astrai.widgets.palette import roles

PASSED, NOT_YET, OPEN, NOTE = "reused", "evicted", "owned", "hit"  # roles of the palette


class CourseError(ValueError):
    """The course was asked for something that is not there. In a notebook only its message is shown."""

    def _render_traceback_(self) -> list[str]:
        return [str(self)]


@dataclass(frozen=True)
class Shown:
    """A few lines for the learner; the first one says the main thing.

    ``rows`` are (name, value) pairs, shown in a fixed-width font.

    Example:
        >>> Shown("Not yet.", rows=(("expected", "3"), ("yours", "4")))
        Not yet.
            expected: 3
            yours:    4
    """

    title: str
    lines: tuple[str, ...] = ()
    rows: tuple[tuple[str, str], ...] = ()
    role: str = NOTE

    def __repr__(self) -> str:
        width = max((len(name) for name, _ in self.rows), default=0) + 1
        rows = [f"{name + ':':<{width}} {value}" for name, value in self.rows]
        return "\n".join([self.title, *(_indented(text) for text in (*self.lines, *rows))])

    def _repr_html_(self) -> str:
        lines = "".join(f'<div style="margin-top:.3em">{inline(line)}</div>' for line in self.lines)
        return box(f"<strong>{inline(self.title)}</strong>{lines}{_table(self.rows)}", self.role)


def box(content: str, role: str = NOTE) -> str:
    """HTML with a bar at its side, announced by screen readers when it appears."""
    style = f"border-left:4px solid {roles()[role].color};padding:.2em .8em;margin:.3em 0;text-align:left"
    return f'<div role="status" style="{style}">{content}</div>'


def inline(text: str) -> str:
    """Text as HTML, with code between backticks.

    Example:
        >>> inline("use `a < b`")
        'use <code>a &lt; b</code>'
    """
    return re.sub(r"`([^`\n]+)`", r"<code>\1</code>", html.escape(text, quote=False)).replace("\n", "<br>")


def code(text: str) -> str:
    """Source code as HTML."""
    style = "overflow-x:auto;margin:.3em 0;background:none;color:inherit"
    return f'<pre style="{style}">{html.escape(text, quote=False)}</pre>'


def _indented(text: str) -> str:
    return "\n".join(f"    {line}" for line in text.splitlines())


def _table(rows: Iterable[tuple[str, str]]) -> str:
    style = "text-align:left;vertical-align:top;padding:.1em 1em .1em 0"
    cells = "".join(
        f'<tr><th scope="row" style="{style};white-space:nowrap">{html.escape(name)}</th>'
        f'<td style="{style}">{code(value)}</td></tr>'
        for name, value in rows
    )
    return f'<table style="margin:.3em 0 0">{cells}</table>' if cells else ""
