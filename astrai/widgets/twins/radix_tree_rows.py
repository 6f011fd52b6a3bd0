"""The rows of the radix tree's SVG: branch lines, token text, where the tokens lie, the slots that hold them.

It is told what to draw by ``astrai.widgets.twins.outline`` and knows nothing of a run.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from astrai.widgets.palette import roles
from astrai.widgets.twins.outline import Row
from astrai.widgets.twins.outline_words import Neighbours, fold_words, neighbours
from astrai.widgets.twins.svg import element, fit, group, line, number, path, plural, rect, text, text_width, visible

ROW, MARGIN, TOP = 26, 8, 28  # pixels: height of a row, left and right of the picture, above the first row
DASH = "\N{EN DASH}"


@dataclass(frozen=True, slots=True)
class Look:
    """Left ends and widths of the columns, in pixels, and positions along the bars."""

    width: int
    indent: float
    scale: int
    bar: int
    len: int
    slots: int
    used: int
    gap: int

    @classmethod
    def of(cls, rows: list[Row], width: int) -> Look:
        deepest = max(1, *(row.level for row in rows))
        longest, unit = max(row.start + row.len for row in rows), 16
        while longest > 8 * unit:
            unit *= 2
        columns = (
            (200, 46, 126, 70, 10) if width >= 880 else (110, 38, 104, 46, 8) if width >= 560 else (0, 28, 62, 38, 4)
        )
        indent = max(7, min(18 if width >= 560 else 12, width * 0.3 // deepest))
        return cls(width, indent, max(1, -(-longest // unit)) * unit, *columns)

    @property
    def used_end(self) -> int:
        return self.width - MARGIN

    @property
    def slots_at(self) -> int:
        return self.used_end - self.used - self.gap - self.slots

    @property
    def len_end(self) -> int:
        return self.slots_at - self.gap

    @property
    def bar_at(self) -> int:
        return self.len_end - self.len - self.gap - self.bar

    def column(self, level: int) -> float:
        """Where the dot of a level lies."""
        return MARGIN + 8 + level * self.indent


# --- rows -------------------------------------------------------------------------------------------------------------


def draw_row(look: Look, row: Row, lines: str, y: float) -> str:
    """A row whose upper border is at ``y``; ``lines`` come from :func:`branch_lines`."""
    x, room_end = look.column(row.level) + 10, look.bar_at - look.gap
    if row.folds is not None:
        return group(lines, _fold(row, look.column(row.level), y))
    locked, on_path = bool(row.locked), row.matched is not None
    dot = element(
        "circle",
        cx=look.column(row.level),
        cy=y + ROW / 2,
        r=4,
        fill="text" if locked else "background",
        stroke="hit" if on_path else "text" if locked else "line",
        stroke_width=2.5 if on_path else 1.5,
    )
    if row.node_id == 0:
        return group(lines, dot, text(x, y + 17, "root", fill="soft"))
    marks, room_end = _marks(look, row, room_end, y)
    edge = _edge(row.text, x, room_end - x, y)
    return group(lines, dot, edge, marks, _bar(look, row, y), _numbers(look, row, y), _slots(look, row, y))


def branch_lines(look: Look, rows: list[Row], index: int, lit: set[int]) -> str:
    """The lines from the branches above down to a row: where the last hit went they are thick."""
    row, drawn = rows[index], {False: "", True: ""}

    def put(is_lit: bool, level: int, *shape: float | str) -> None:
        moves = " ".join(part if isinstance(part, str) else number(part) for part in shape)
        drawn[is_lit] += f"M{number(look.column(level))} {moves}"

    y = TOP + index * ROW
    middle, end = y + ROW / 2, y + ROW
    for level, goes_on in enumerate(row.continues):
        if goes_on:
            put(_leads_to_hit(rows, index, level + 1, lit), level, y, "V", end)
    if row.level:
        above = row.level - 1
        x = look.column(above)
        to = look.column(row.level) - (0 if row.folds else 4)
        is_hit = row.folds is None and row.node_id in lit
        below = _leads_to_hit(rows, index, row.level, lit)
        if not row.is_last:
            put(below, above, y, "V", end)
        elbow = (y, "V", middle - 6, "Q", x, middle, x + 6, middle, "H", to)
        put(is_hit, above, *elbow)
    if index + 1 < len(rows) and rows[index + 1].level == row.level + 1:
        put(_leads_to_hit(rows, index, row.level + 1, lit), row.level, middle + 5, "V", end)
    plain = path(drawn[False], stroke="line", stroke_width=1.25) if drawn[False] else ""
    return plain + (path(drawn[True], stroke="hit", stroke_width=2.5) if drawn[True] else "")


def _leads_to_hit(rows: list[Row], index: int, level: int, lit: set[int]) -> bool:
    """Whether the next rows of this level, below the same parent, include one that the hit went through."""
    if not lit:
        return False
    for row in rows[index + 1 :]:
        if row.level < level:
            return False
        if row.level == level and row.folds is None and row.node_id in lit:
            return True
    return False


def _edge(content: str, x: float, room: float, y: float) -> str:
    """Token text as far as it fits; special tokens as small plates."""
    parts: list[str] = []
    end = x + room
    for piece in filter(None, re.split(r"(<\|[a-z_]+\|>)", visible(content))):
        if piece.startswith("<|"):
            width = text_width(piece[2:-2], 11) + 10
            if x + width + 2 > end:
                return "".join([*parts, text(x + 2, y + 17, "…")])
            parts.append(rect(x + 2, y + 6, width, 15, fill="panel", stroke="faint", rx=7))
            parts.append(text(x + 2 + width / 2, y + 17, piece[2:-2], size=11, fill="soft", text_anchor="middle"))
            x += width + 4
        else:
            shown = fit(piece, end - x, 12, mono=True)
            parts.append(text(x, y + 17, shown, mono=True))
            x += text_width(shown, 12, mono=True)
            if shown != piece:
                return "".join(parts)
    return "".join(parts)


def _fold(row: Row, x: float, y: float) -> str:
    branches, size = fold_words(row)
    name = f"… {branches.replace(' ', ' more ', 1)}"
    width = text_width(name) + 16
    plate = rect(x, y + 4, width, 18, fill="none", stroke="line", stroke_dasharray="3 2", rx=9)
    return plate + text(x + 8, y + 17, name) + text(x + width + 8, y + 17, size, fill="soft")


def _marks(look: Look, row: Row, end: float, y: float) -> tuple[str, float]:
    """The plates at the end of the text, and where the text must end."""
    marks = []
    if row.is_oldest:
        marks.append(("oldest", "none", "line", "soft"))
    if row.hit:
        length = plural(row.hit.len, "token")
        words = f"request {row.hit.request}: {length}" if look.width >= 880 else f"{row.hit.len:,}"
        marks.append((f"{roles()['hit'].letter} {words}", "hit", "hit", roles()["hit"].ink))
    drawn = ""
    for words, *paint in marks:
        _, width = plate(words, 0, y, *paint)
        drawn += plate(words, end - width, y, *paint)[0]
        end -= width + 4
    return drawn, end - 4


def plate(words: str, x: float, y: float, fill: str, stroke: str, ink: str) -> tuple[str, float]:
    """A word on a small plate in a row at ``y``, and how wide it is."""
    width = text_width(words, 11) + 8
    box = rect(x, y + 4.5, width, 17, fill=fill, stroke=stroke, rx=3)
    return box + text(x + width / 2, y + 17, words, size=11, fill=ink, text_anchor="middle"), width


def _bar(look: Look, row: Row, y: float) -> str:
    if not look.bar:
        return ""

    def place(length: int, **paint: str) -> str:
        at, width = look.bar_at + look.bar * row.start / look.scale, look.bar * length / look.scale
        return rect(at, y + 8.5, max(2, width), 9, rx=2, **paint)

    track = line(look.bar_at, y + 13, look.bar_at + look.bar, y + 13, stroke="faint")
    whole = place(row.len, fill="line" if row.locked else "panel", stroke="line")
    return track + whole + (place(row.matched, fill="hit", stroke="hit") if row.matched else "")


def _numbers(look: Look, row: Row, y: float) -> str:
    shade = 0 if not row.used or row.age >= 100 else 0.09 if row.age >= 10 else 0.2 if row.age else 0.34
    tick = f"{row.used}" if row.used else "-"
    width = text_width(tick, 11) + 6
    parts = [text(look.len_end, y + 17, f"{row.len:,}", text_anchor="end")]
    if shade:
        parts.append(rect(look.used_end - width, y + 5, width, 16, fill="hit", opacity=shade, rx=3))
    parts.append(text(look.used_end - 3, y + 17, tick, size=11, fill="text" if shade else "soft", text_anchor="end"))
    return "".join(parts)


def _slots(look: Look, row: Row, y: float) -> str:
    """Neighbouring slots on one plate; those that do not fit are counted on the last."""
    x, end, left, parts = look.slots_at, look.slots_at + look.slots, len(row.holders), []
    runs = neighbours(row.holders, lambda slot: slot in row.locked)
    for index, run in enumerate(runs):
        drawn, width = slot_plate(run, x, y)
        if x + width > end - (18 + 7 * len(str(left)) if index < len(runs) - 1 else 0):
            break
        parts.append(drawn)
        x += width + 3
        left -= run.last - run.first + 1
    if left:
        words = f"+{left}" if parts else plural(left, "slot")
        width = text_width(words, 11) + 6
        parts.append(rect(x, y + 4.5, width, 17, fill="none", stroke="line", stroke_dasharray="1 2", rx=4))
        parts.append(text(x + width / 2, y + 17, words, size=11, text_anchor="middle"))
    return "".join(parts)


def slot_plate(run: Neighbours, x: float, y: float) -> tuple[str, float]:
    """Neighbouring slots on one plate, with a lock where a request owns them, and how wide it is."""
    name = f"{run.first}" if run.first == run.last else f"{run.first}{DASH}{run.last}"
    width = text_width(name, 11) + (19 if run.kind else 9)
    paint = {"fill": "text", "stroke": "text"} if run.kind else {"fill": "none", "stroke": "line"}
    box = rect(x, y + 4.5, width, 17, rx=4, **paint)
    if not run.kind:
        return box + text(x + width / 2, y + 17, name, size=11, text_anchor="middle"), width
    lock = rect(x + 4, y + 12, 7, 5, fill="background")
    shackle = path(f"M{number(x + 5.5)} {number(y + 12)}v-2a2 2 0 0 1 4 0v2", stroke="background", stroke_width=1.2)
    return box + lock + shackle + text(x + 14, y + 17, name, size=11, fill="background"), width
