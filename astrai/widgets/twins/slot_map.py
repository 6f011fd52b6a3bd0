"""The slot map as an SVG and as text: rows are slots, columns positions, colours tell how each token came there.

They are pure functions of a view's state (``astrai.widgets.data.view``) and show what static/slot_map.js draws live.
"""

from __future__ import annotations

from typing import Any

from astrai.widgets.palette import roles
from astrai.widgets.twins.slot_layout import MARGIN, TOP, Layout
from astrai.widgets.twins.slot_marks import NAME, legend, mark, threads
from astrai.widgets.twins.slot_words import (
    Bar,
    Slot,
    bars,
    caption,
    happened,
    how,
    is_free,
    is_recent,
    labels,
    row_text,
    who,
)
from astrai.widgets.twins.svg import (
    PALE,
    element,
    escape,
    fit,
    group,
    line,
    number,
    path,
    picture,
    rect,
    text,
    text_width,
    titled,
    visible,
)


def slot_map_text(state: dict[str, Any]) -> str:
    """One line for each slot, between what is in use and what happened last."""
    rows = [row_text(slot, index) for index, slot in enumerate(state["slots"])]
    return "\n".join((f"After step {state['step']}: {caption(state)}.", *rows, happened(state)))


def slot_map_svg(state: dict[str, Any], *, width: int = 960, vocab: dict[str, str] | None = None) -> str:
    """A standalone picture. ``vocab`` gives the text of token ids, for states that hold ids.

    Raises:
        ValueError: ``width`` is under 320 pixels.
    """
    if width < 320:
        raise ValueError(f"width is {width} pixels, but the slot map needs at least 320")
    lay = Layout.of(state, width)
    slots = list(enumerate(state["slots"]))
    rows = [_row(lay, index, slot, vocab) for index, slot in slots]
    recent = [(index, slot) for index, slot in slots if is_recent(slot, state["step"])]
    recent.sort(key=lambda pair: pair[1]["origin"]["kind"] != "copy")  # arrows lie below the other signs
    marks = [mark(lay, index, slot) for index, slot in recent]
    below, bottom = legend(lay, width, any(bar.kind == "kept" for _, slot in slots for bar in bars(slot)))
    said = text(MARGIN, bottom + 16, fit(happened(state), width - 2 * MARGIN), fill="soft")
    head = text(MARGIN, 17, caption(state), fill="soft")
    parts = (head, _axis(lay), *threads(lay, state), *rows, *marks, below, said)
    told = slot_map_text(state) if len(slots) <= 32 else f"{caption(state)}. {happened(state)}"
    return picture(NAME, width, bottom + 24, f"Slot map after step {state['step']}", told, *parts)


def _axis(lay: Layout) -> str:
    step = next((n for n in (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024) if n * lay.cell >= 44), 2048)
    parts = []
    for slot in range(0, lay.panels * lay.per_panel, lay.per_panel):
        for position in range(0, lay.columns + 1, step):
            x = lay.x(slot, position)
            anchor = "start" if position == 0 else "end" if position == lay.columns else "middle"
            parts.append(line(x, TOP - 4, x, lay.bottom, stroke="faint"))
            parts.append(text(x, TOP - 9, f"{position:,}", size=11, fill="soft", text_anchor=anchor))
    return group(*parts)


# --- rows -------------------------------------------------------------------------------------------------------------


def _row(lay: Layout, index: int, slot: Slot, vocab: dict[str, str] | None) -> str:
    x, y = lay.x(index, 0), lay.top(index)
    parts = [rect(x, y, lay.columns * lay.cell, lay.bar, fill="panel"), *_head(lay, index, slot)]
    if not slot["len"] and is_free(slot) and lay.tier != "dense":
        parts.append(text(x + 6, lay.middle(index) + 4, "blank", size=11, fill="soft"))
    for bar in bars(slot):
        drawn = _bar(lay, index, slot, bar)
        parts.append(drawn if lay.tier == "dense" else titled(drawn, _bar_words(slot, bar, vocab)))
    if slot["len"]:
        parts += _end(lay, index, slot)
    data = {"data_slot": index, "data_version": slot["version"], "data_owner": slot["owner"], "data_len": slot["len"]}
    return group(element("title", escape(row_text(slot, index))), *parts, **data)


def _head(lay: Layout, index: int, slot: Slot) -> list[str]:
    x, y, free = lay.left(index), lay.middle(index), is_free(slot)
    if lay.tier == "dense":
        every = 4 * -(-14 // (4 * lay.pitch))
        anchor = {"size": 11, "fill": "soft", "text_anchor": "end"}
        return [text(x + lay.gutter - lay.lane - 5, y + 4, str(index), **anchor)] if index % every == 0 else []
    size, room = 11 if lay.narrow else 12, lay.gutter - lay.lane - 5
    role, got = how(slot)
    if lay.narrow or lay.tier == "line":
        got = got.replace("from slot", "from").removesuffix(" tokens")
    name = who(slot, index).removeprefix("slot ") if lay.narrow else who(slot, index)
    ink = {"size": size, "fill": "soft" if free else "text"}
    if lay.tier == "line":
        badge = "" if role in (None, "free") else f"{roles()[role].letter} "
        short = badge + got
        right = text(x + room, y + 4, short, **{**ink, "size": 11}, text_anchor="end")
        return [text(x, y + 4, fit(name, room - text_width(short, 11) - 6, size), **ink), right]
    if not got:
        return [text(x, y + 4, fit(name, room, size), **ink)]
    first, second = text(x, y - 3, fit(name, room, size), **ink), y + 12
    if role == "free":
        return [first, text(x, second, got, **{**ink, "size": 11})]
    letter = text(x + 7, second - 1, roles()[role].letter, size=11, fill=roles()[role].ink, text_anchor="middle")
    badge = rect(x, second - 10, 14, 12, rx=3, fill=role) + letter
    return [first, badge, text(x + 18, second, fit(got, room - 18, 11), **{**ink, "size": 11})]


def _bar(lay: Layout, index: int, slot: Slot, bar: Bar) -> str:
    x, right, y = lay.x(index, bar.start), lay.x(index, bar.end), lay.top(index)
    pale = is_free(slot)
    parts = [rect(x, y, right - x, lay.bar, fill=bar.kind, opacity=PALE if pale else None)]
    if roles()[bar.kind].hatch and lay.bar >= 5:
        band = 7 if lay.bar >= 18 else lay.bar
        parts.append(rect(x, y + lay.bar - band, right - x, band, fill=f"url(#{NAME}-{bar.kind})"))
    cuts = list(bar.joints) if bar.kind == "prefill" else []
    if bar.end < slot["len"] and right - x > 3:
        cuts.append(bar.end)
    if cuts:
        parts.append(_cuts(lay, index, cuts, 1))
    if lay.cell >= 4 and bar.end - bar.start > 1:
        parts.append(_cuts(lay, index, range(bar.start + 1, bar.end), 0.35))
    if lay.bar >= 18:
        fitting = (words for words in labels(bar, slot) if text_width(words, 11) <= right - x - 8)
        if words := next(fitting, None):
            parts.append(text(x + 5, y + 12, words, size=11, fill="text" if pale else roles()[bar.kind].ink))
    return "".join(parts)


def _cuts(lay: Layout, index: int, positions: Any, opacity: float) -> str:
    y = number(lay.top(index))
    lines = "".join(f"M{number(lay.x(index, position) - 0.5)} {y}v{lay.bar}" for position in positions)
    return path(lines, stroke="background", opacity=None if opacity == 1 else opacity)


def _bar_words(slot: Slot, bar: Bar, vocab: dict[str, str] | None) -> str:
    where = f"position {bar.start:,}" if bar.end - bar.start == 1 else f"positions {bar.start:,} to {bar.end - 1:,}"
    words = f"{where}: {roles()[bar.kind].label}"
    if vocab is None or "ids" not in slot:
        return words
    tokens = "".join(vocab.get(str(token_id), f"[{token_id}]") for token_id in slot["ids"][bar.start : bar.end])
    return f"{words}: “{visible(tokens if len(tokens) <= 200 else tokens[:200] + ' …')}”"


def _end(lay: Layout, index: int, slot: Slot) -> list[str]:
    x, y, free = lay.x(index, slot["len"]), lay.top(index), is_free(slot)
    parts = []
    if not free and slot["runs"][-1][0] == "decode":
        reach = 0 if lay.tier == "dense" else 2
        parts.append(rect(x - 1, y - reach, 2, lay.bar + 2 * reach, fill="text"))
        if lay.cell >= 4:
            newest = min(lay.cell, 40)
            parts.append(rect(x - newest + 0.5, y + 0.5, newest - 1, lay.bar - 1, fill="none", stroke="text"))
    if lay.tier != "dense":
        fill = "soft" if free else "text"
        parts.append(text(x + 6, lay.middle(index) + 4, f"{slot['len']:,}", size=11, fill=fill))
    return parts
