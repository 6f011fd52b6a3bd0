"""The radix tree as an SVG and as text: an outline with one row a node.

They are pure functions of a view's state (``astrai.widgets.data.view``) and show what static/radix_tree.js draws live.
"""

from __future__ import annotations

from astrai.widgets.palette import roles
from astrai.widgets.twins.outline import State, outline
from astrai.widgets.twins.outline_words import Neighbours, last_news, sentence, summary
from astrai.widgets.twins.radix_tree_rows import MARGIN, ROW, TOP, Look, branch_lines, draw_row, plate, slot_plate
from astrai.widgets.twins.svg import fit, group, line, number, picture, text, text_width, titled

NAME = "radix-tree"
FOOT = 48  # legend and what happened last


def radix_tree_text(state: State) -> str:
    """The tree with one line a node, as in a listing of folders."""
    lines = [f"Radix tree after step {state['step']}: {summary(state)}."]
    for row in outline(state)[1:]:
        branch = "".join("│  " if goes_on else "   " for goes_on in row.continues) + ("└─ " if row.is_last else "├─ ")
        lines.append(branch + ("… " if row.folds else "") + sentence(row, state))
    return "\n".join([*lines, *filter(None, [last_news(state)])])


def radix_tree_svg(state: State, *, width: int = 960) -> str:
    """A standalone picture.

    Raises:
        ValueError: ``width`` is under 320 pixels.
    """
    if width < 320:
        raise ValueError(f"width is {width} pixels, but the radix tree needs at least 320")
    rows = outline(state)
    look = Look.of(rows, width)
    lit = {row.node_id for row in rows if row.matched is not None and row.folds is None}
    drawn = [
        titled(draw_row(look, row, branch_lines(look, rows, index, lit), TOP + index * ROW), sentence(row, state))
        for index, row in enumerate(rows)
    ]
    bottom = TOP + len(rows) * ROW
    said = text(MARGIN, bottom + 38, fit(last_news(state), width - 2 * MARGIN), fill="soft")
    parts = (_heads(look, state), *drawn, _legend(bottom + 4, width), said)
    title = f"Radix tree after step {state['step']}"
    return picture(NAME, width, bottom + FOOT, title, f"{summary(state)}. {last_news(state)}", *parts)


# --- around the rows --------------------------------------------------------------------------------------------------


def _heads(look: Look, state: State) -> str:
    wide = look.width >= 880
    parts = [text(MARGIN, 17, fit(summary(state), look.bar_at - 2 * MARGIN, 11), size=11, fill="soft")]
    if look.bar:
        parts.append(text(look.bar_at, 17, f"positions 0 to {look.scale:,}", size=11, fill="soft"))
    head = "tokens" if look.bar else "len"
    parts.append(text(look.len_end, 17, head, size=11, fill="soft", text_anchor="end"))
    parts.append(text(look.slots_at, 17, "in slots", size=11, fill="soft"))
    tick = "used at tick" if wide else "tick"
    parts.append(text(look.used_end, 17, tick, size=11, fill="soft", text_anchor="end"))
    return group(*parts, line(MARGIN, TOP - 3, look.used_end, TOP - 3, stroke="faint"))


def _legend(y: float, width: int) -> str:
    is_wide, letter, ink = width >= 560, roles()["hit"].letter, roles()["hit"].ink
    samples = (
        (*slot_plate(Neighbours(2, 2, False), 0, y), "held by a free slot" if is_wide else "free slot"),
        (
            *slot_plate(Neighbours(2, 2, True), 0, y),
            "locked: held by a running request's slot" if is_wide else "locked",
        ),
        (*plate(letter, 0, y, "hit", "hit", ink), "the last hit" if is_wide else "last hit"),
        (*plate("oldest", 0, y, "none", "line", "soft"), "the leaf to go first" if is_wide else "to go first"),
    )
    parts, x = [line(MARGIN, y - 1, width - MARGIN, y - 1, stroke="faint")], float(MARGIN)
    for sample, sample_width, words in samples:
        parts.append(group(sample, transform=f"translate({number(x)})"))
        parts.append(text(x + sample_width + 5, y + 17, words, size=11, fill="soft"))
        x += sample_width + text_width(words, 11) + 17
    return group(*parts)
