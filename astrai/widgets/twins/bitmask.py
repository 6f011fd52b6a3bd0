"""An allocator of slots as a row of bits, and ``m & -m`` as it finds the lowest free one.

``Desk`` works on a real allocator that its caller hands in, tells in words what came of it, and looks whether it is
what an allocator should do, since it may be a learner's. It is told nothing by the allocator but its public face.
"""

from __future__ import annotations

from typing import Any

from astrai.widgets.palette import roles
from astrai.widgets.twins.svg import fit, picture, rect, text

REMEMBERED = 8  # lines of history
NAME = "bitmask-board"
ABOUT = "-m flips every bit of m and adds 1: of the ones, only the lowest stays where it is"


class Desk:
    """Allocates and frees slots of ``slots`` (``num_slots``, ``free_mask``, ``allocate()``, ``free(handle)``,
    ``handle(slot)``), and remembers what was done.

    ``view()`` is plain JSON: ``num_slots``; ``mask``, the bits as text, highest slot first; ``last``, ``{"do", "slot",
    "ok", "words"}`` or ``None``; ``history``, the words of the latest actions, oldest first; ``trouble``, what is wrong
    with the mask, or ``None``.
    """

    def __init__(self, slots: Any) -> None:
        self.slots = slots
        self.history: list[str] = []
        self.last: dict[str, Any] | None = None

    def allocate(self) -> None:
        """Ask the allocator for a slot."""
        before = self._mask()
        try:
            slot = self.slots.allocate().slot
        except Exception as error:  # whatever a learner's class may raise, it is shown
            self._note("allocate", None, False, f"allocate() refused: {_words(error)}")
            return
        lowest = (before & -before).bit_length() - 1
        wrong = None
        if not before >> slot & 1:
            wrong = f"slot {slot} was not free: two owners would share it"
        elif slot != lowest:
            wrong = f"the lowest free slot was {lowest}"
        elif self._mask() != before ^ 1 << slot:
            wrong = f"free_mask should have lost bit {slot} and nothing else"
        self._note("allocate", slot, wrong is None, f"allocate() gave slot {slot}", wrong)

    def free(self, slot: int) -> None:
        """Give a slot back under its present handle; one that is free already, too: the allocator must refuse."""
        before = self._mask()
        try:
            self.slots.free(self.slots.handle(slot))
        except Exception as error:
            self._note("free", slot, False, f"free(slot {slot}) refused: {_words(error)}")
            return
        wrong = None
        if before >> slot & 1:
            wrong = "it was free already and this should be refused: two owners would share it"
        elif self._mask() != before | 1 << slot:
            wrong = f"free_mask should have gained bit {slot} and nothing else"
        self._note("free", slot, wrong is None, f"free(slot {slot})", wrong)

    def view(self) -> dict[str, Any]:
        """The present state, read from the allocator."""
        num_slots, mask, trouble = self.slots.num_slots, self._mask(), None
        if not 0 <= mask < 1 << num_slots:
            trouble = f"free_mask is {mask:#b}, but there are only the slots 0 to {num_slots - 1}"
        bits = f"{mask & (1 << num_slots) - 1:0{num_slots}b}"
        return {
            "num_slots": num_slots, "mask": bits, "last": self.last, "history": list(self.history), "trouble": trouble
        }  # fmt: skip

    def _mask(self) -> int:
        return int(self.slots.free_mask)

    def _note(self, do: str, slot: int | None, ok: bool, words: str, wrong: str | None = None) -> None:
        words = f"{words}, but {wrong}" if wrong else words
        self.last = {"do": do, "slot": slot, "ok": ok, "words": words}
        self.history = [*self.history, words][-REMEMBERED:]


def _words(error: Exception) -> str:
    return f"{error}" if str(error) else type(error).__name__


# --- twins ------------------------------------------------------------------------------------------------------------


def lowest_bit(view: dict[str, Any]) -> tuple[str, str, int | None]:
    """The bits of ``-m`` and ``m & -m``, highest first, and the slot that is found (``None``: none is free)."""
    num_slots, mask = view["num_slots"], int(view["mask"], 2)
    negative = -mask & (1 << num_slots) - 1
    found = mask & -mask
    return f"{negative:0{num_slots}b}", f"{found:0{num_slots}b}", found.bit_length() - 1 if found else None


def bitmask_text(view: dict[str, Any]) -> str:
    """The board in words."""
    negative, found, slot = lowest_bit(view)
    free = view["mask"].count("1")
    lines = [
        f"{free} of {view['num_slots']} slots are free, the highest on the left",
        f"m       {view['mask']}",
        f"-m      {negative}",
        f"m & -m  {found}  {finding(slot)}",
        *([view["trouble"]] if view["trouble"] else []),
        *view["history"],
    ]
    return "\n".join(lines)


def finding(slot: int | None) -> str:
    """What ``m & -m`` says."""
    return "no slot is free" if slot is None else f"slot {slot} is the lowest free one"


def bitmask_svg(view: dict[str, Any], *, width: int = 960) -> str:
    """A standalone picture: rows of at most 32 bits, each as ``m``, ``-m`` and ``m & -m``.

    Raises:
        ValueError: ``width`` is under 320 pixels.
    """
    if width < 320:
        raise ValueError(f"width is {width} pixels, but the board needs at least 320")
    negative, found, slot = lowest_bit(view)
    per_row = min(32, view["num_slots"], 8 * max(1, (width - 84) // (8 * 18)))
    cell = min(34.0, (width - 84) / per_row)
    parts, y = [text(8, 20, f"{view['mask'].count('1')} of {view['num_slots']} slots are free: {finding(slot)}")], 34.0
    for end in range(-(-view["num_slots"] // per_row) * per_row, 0, -per_row):
        slots = [s for s in range(end - 1, end - 1 - per_row, -1) if s < view["num_slots"]]
        x = 84 + (per_row - len(slots)) * cell
        parts += [text(x + (i + 0.5) * cell, y + 10, f"{s}", size=11, fill="soft", text_anchor="middle")
                  for i, s in enumerate(slots) if cell >= 22 or s % 4 == 0]  # fmt: skip
        for line, (name, bits) in enumerate((("m", view["mask"]), ("-m", negative), ("m & -m", found))):
            top = y + 16 + line * 24
            parts.append(text(8, top + 15, name, mono=True))
            for index, s in enumerate(slots):
                parts.append(_bit(bits[-1 - s], x + index * cell, top, cell, s == slot, is_mask=line == 0))
        y += 16 + 3 * 24 + 12
    for words in (ABOUT, *([view["trouble"]] if view["trouble"] else []), *view["history"][-3:]):
        parts.append(text(8, y + 12, fit(words, width - 16), fill="soft"))
        y += 18
    return picture(NAME, width, y + 6, "Free slots as a bitmask", bitmask_text(view), *parts)


def _bit(bit: str, x: float, y: float, width: float, is_found: bool, *, is_mask: bool) -> str:
    lit = is_found and bit == "1"
    taken = is_mask and bit == "0"
    fill = "hit" if lit else "text" if taken else "background"
    ink = roles()["hit"].ink if lit else "background" if taken else "text" if bit == "1" else "soft"
    box = rect(x + 1, y, width - 2, 21, fill=fill, stroke="line" if is_mask or bit == "1" else "faint", rx=3)
    return box + text(x + width / 2, y + 15, bit, fill=ink, mono=True, text_anchor="middle")
