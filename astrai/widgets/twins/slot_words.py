"""What the slot map says in words: who owns a row and how it got it, how each part came there, what just happened.

The script static/slot_map.js says the same in the same words.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from astrai.widgets.palette import roles
from astrai.widgets.twins.svg import plural

AFTERGLOW = 8  # steps for which the mark of a hand-out stays
_NICE = (16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768)

Slot = dict[str, Any]  # one of state["slots"], see astrai.widgets.data.view


class Bar(NamedTuple):
    """Neighbouring runs of one kind. ``joints`` are positions at which one of its runs ends and the next begins."""

    kind: str
    start: int
    end: int
    joints: tuple[int, ...]


def is_free(slot: Slot) -> bool:
    """Whether no request owns the row."""
    return slot["owner"] is None


def columns(state: dict[str, Any]) -> int:
    """The smallest round number of positions that shows all that is used, at most what a row holds."""
    used = max(1, *(slot["len"] for slot in state["slots"]))
    nice = next((n for n in _NICE if n >= used), -(-used // 256) * 256)
    return max(used, min(nice, state["row_len"] or nice))


def caption(state: dict[str, Any]) -> str:
    """How many slots are in use, and what part of the rows is shown."""
    used, shown, row_len = sum(not is_free(slot) for slot in state["slots"]), columns(state), state["row_len"]
    of = "" if row_len is None else f" of {row_len:,}"
    part = f"all {shown:,}" if row_len == shown else f"the first {shown:,}{of}"
    return f"{plural(len(state['slots']), 'slot')}, {used:,} in use · {part} positions"


def who(slot: Slot, index: int) -> str:
    """The head of a row."""
    owner = f"request {slot['owner']}" if not is_free(slot) else "free" if slot["len"] else "blank"
    return f"slot {index} · v{slot['version']} · {owner}"


def how(slot: Slot) -> tuple[str | None, str]:
    """How the owner got its row: the role that says it, and words."""
    if is_free(slot):
        return ("free", f"remembers {plural(slot['len'], 'token')}") if slot["len"] else (None, "")
    return origin_words(slot["origin"])


def origin_words(origin: dict[str, Any] | None) -> tuple[str, str]:
    """The same of any hand-out."""
    if origin is None:
        return "kept", "there before the watching"
    if origin["kind"] == "zero-copy":
        return "reused", f"zero-copy {origin['len']:,}"
    if origin["kind"] == "copy":
        return "copied", f"copied {origin['len']:,} from slot {origin['src']}"
    return "miss", "miss"


def bars(slot: Slot) -> list[Bar]:
    """The parts of a row, from left to right."""
    found: list[Bar] = []
    start = 0
    for kind, end, _, _ in slot["runs"]:
        if found and found[-1].kind == kind:
            last = found[-1]
            found[-1] = last._replace(end=end, joints=(*last.joints, last.end))
        else:
            found.append(Bar(kind, start, end, ()))
        start = end
    return found


def labels(bar: Bar, slot: Slot) -> list[str]:
    """What may be written on a bar, the longest first."""
    count, letter = f"{bar.end - bar.start:,}", roles()[bar.kind].letter
    origin = slot["origin"]
    copied = not is_free(slot) and origin is not None and origin["kind"] == "copy"
    words = {
        "prefill": [f"{count} prefilled"],
        "decode": [f"{count} decoded"],
        "reused": [f"{count} reused in place", f"{count} reused"],
        "copied": [*([f"{count} copied from slot {origin['src']}"] if copied else []), f"{count} copied"],
        "kept": [f"{count} there before"],
    }[bar.kind]
    return [*words, f"{letter} {count}", letter]


def happened(state: dict[str, Any]) -> str:
    """The last thing that befell a row or a request, as a sentence."""
    return next(_sentences(state), "Nothing has happened in the slots yet.")


def _sentences(state: dict[str, Any]) -> Iterator[str]:
    for item in reversed(state["news"]):
        length = plural(item.get("len", 0), "token")
        match item["kind"]:
            case "zero-copy":
                yield f"Request {item['request']} took slot {item['slot']} as it is: {length} kept, nothing copied."
            case "copy":
                yield f"Request {item['request']}: {length} copied from slot {item['src']} to slot {item['dst']}."
            case "miss":
                yield f"Request {item['request']} found nothing in the cache: slot {item['slot']} starts empty."
            case "finished":
                yield f"Request {item['request']} ended: {item['reason']}."
            case "freed":
                yield f"Slot {item['slot']} is free and remembers {length}."
            case "cut":
                yield f"Slot {item['slot']} was cut to {length} to make room."


def row_text(slot: Slot, index: int) -> str:
    """All that is known of a row, on one line."""
    words = who(slot, index)
    if got := how(slot)[1]:
        words += f": {got}"
    if slot["len"]:
        parts = ", ".join(f"{bar.end - bar.start:,} {roles()[bar.kind].label}" for bar in bars(slot))
        words += f"; {slot['len']:,} valid: {parts}"
    return f"{words}; locked" if slot["locked"] else words


def is_recent(slot: Slot, step: int) -> bool:
    """Whether the row was handed to its owner a moment ago."""
    origin = slot["origin"]
    return origin is not None and slot["owner"] == origin["request"] and step - origin["step"] < AFTERGLOW
