"""A note of what a slot held, drawn against what the slot holds: where they part, and whether their versions tell."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import zip_longest
from typing import NamedTuple

from astrai.widgets.palette import roles
from astrai.widgets.twins.svg import filled, fit, picture, rect, text, text_width, visible

NAME = "stale-slot"
WIDTH, MARGIN, SIZE, PAD = 600.0, 8.0, 12, 5
TOP, CELL, LINE = 24.0, 24, 42  # where the first line begins, the height of a cell, and from one line to the next
LEGEND = "{hit}: it stands there.  {evicted}: it does not. A token's KV depends on all tokens before it."


class Held(NamedTuple):
    """The texts of some tokens, and the version of the slot at which they stood there."""

    version: int
    pieces: Sequence[str]


class Column(NamedTuple):
    """One position of the slot: what the row holds there and what the note says, empty where one has ended."""

    row: str
    note: str

    @property
    def width(self) -> float:
        """In pixels."""
        longer = max(text_width(self.row, SIZE), text_width(self.note, SIZE))
        return min(longer, WIDTH / 2) + 2 * PAD


class StaleSlot:
    """A row and a note about it, token above token. A note is stale when its version is no longer the row's.

    ``start`` is the position of the first token.

    Example:
        >>> StaleSlot(note=Held(1, ["a", " fox"]), row=Held(2, ["a", " frog", " sat"]))
        slot 0, version 2:    a| frog| sat
        the note, version 1:  a| fox
        The note is stale: it says version 1, slot 0 is at version 2.
        They part at token 1: the note says " fox", slot 0 holds " frog".
    """

    def __init__(
        self, note: Held, row: Held, *, where: str = "slot 0", whose: str = "the note", start: int = 0
    ) -> None:
        self.note, self.row, self.where, self.whose, self.start = note, row, where, whose, start
        pairs = zip_longest(row.pieces, note.pieces, fillvalue="")
        self.columns = [Column(visible(held), visible(said)) for held, said in pairs]

    @property
    def is_stale(self) -> bool:
        """Whether the row was handed out or cut since the note was made."""
        return self.note.version != self.row.version

    @property
    def parting(self) -> int | None:
        """Where the first token is that the note says and the row does not hold, counted in what is shown."""
        said = self.columns[: len(self.note.pieces)]
        held = len(self.row.pieces)
        return next((at for at, column in enumerate(said) if at >= held or column.note != column.row), None)

    def verdict(self) -> list[str]:
        """What the versions say, then what the tokens say."""
        who = self.whose
        if self.is_stale:
            first = (
                f"{who} is stale: it says version {self.note.version}, {self.where} is at version {self.row.version}."
            )
        else:
            first = f"the versions agree: both are {self.row.version}."
        if self.parting is None:
            second = f"what {who} says is what stands there."
        else:
            said = self.columns[self.parting]
            held = f'holds "{said.row}"' if self.parting < len(self.row.pieces) else "holds nothing there"
            part = "they part" if self.is_stale else "and yet they part"
            second = f'{part} at token {self.start + self.parting}: {who} says "{said.note}", {self.where} {held}.'
        return [first[0].upper() + first[1:], second[0].upper() + second[1:]]

    def __repr__(self) -> str:
        names = [f"{self.where}, version {self.row.version}:", f"{self.whose}, version {self.note.version}:"]
        width = max(map(len, names)) + 1
        lines = zip(names, (self.row.pieces, self.note.pieces), strict=True)
        return "\n".join([*(f"{name:<{width}} {visible('|'.join(held))}" for name, held in lines), *self.verdict()])

    def _repr_svg_(self) -> str:
        y, parts = TOP, []
        for columns in self._lines():
            parts += self._draw_line(y, columns)
            y += LINE if columns[0][0] >= len(self.note.pieces) else 2 * LINE
        parts += self._draw_names()
        y += 6
        for weight, words in zip(("bold", None), self.verdict(), strict=True):
            parts.append(text(MARGIN, y, words, size=13, font_weight=weight))
            y += 19
        parts.append(text(MARGIN, y + 2, LEGEND.format(**{name: role.letter for name, role in roles().items()}),
                          size=11, fill="soft"))  # fmt: skip
        return picture(NAME, WIDTH, y + 14, f"{self.whose} against {self.where}", repr(self), *parts)

    def _names(self) -> tuple[str, str]:
        return f"{self.where}  v{self.row.version}", f"{self.whose}  v{self.note.version}"

    def _left(self) -> float:
        return MARGIN + max(text_width(name, 13) for name in self._names()) + 12

    def _lines(self) -> list[list[tuple[int, Column]]]:
        """The columns with their positions, broken into lines that fit."""
        lines: list[list[tuple[int, Column]]] = [[]]
        room = whole = WIDTH - MARGIN - self._left()
        for at, column in enumerate(self.columns):
            if lines[-1] and column.width > room:
                lines.append([])
                room = whole
            lines[-1].append((at, column))
            room -= column.width
        return lines

    def _draw_names(self) -> list[str]:
        return [text(MARGIN, TOP + line * LINE + 17, name, size=13) for line, name in enumerate(self._names())]

    def _draw_line(self, y: float, columns: list[tuple[int, Column]]) -> list[str]:
        x, parts = self._left(), []
        parting = len(self.note.pieces) if self.parting is None else self.parting
        for at, column in columns:
            position = str(self.start + at)
            parts.append(text(x + column.width / 2, y - 4, position, size=9, fill="soft", text_anchor="middle"))
            if at < len(self.row.pieces):
                parts.append(rect(x + 1, y, column.width - 2, CELL, fill="panel", stroke="line", rx=3))
                parts.append(_words(column.row, x, y, column.width, "text"))
            if at < len(self.note.pieces):
                # NOTE: a token's KV depends on all tokens before it, so behind the first difference nothing is right.
                parts.append(_said(column.note, "hit" if at < parting else "evicted", x, y + LINE, column.width))
            x += column.width
        return parts


def _said(words: str, role: str, x: float, y: float, width: float) -> str:
    """A token of the note in its role's colour, with the role's letter above it."""
    letter = text(x + width / 2, y - 4, roles()[role].letter, size=9, fill="soft", text_anchor="middle")
    box = filled(NAME, role, x + 1, y, width - 2, CELL, rx=3)
    plate = rect(x + 4, y + 4, width - 8, CELL - 8, fill=role, rx=3)  # no hatch behind the words
    return letter + box + plate + _words(words, x, y, width, roles()[role].ink)


def _words(words: str, x: float, y: float, width: float, ink: str) -> str:
    return text(x + width / 2, y + 16, fit(words.strip(), width - PAD, SIZE), size=SIZE, fill=ink, text_anchor="middle")
