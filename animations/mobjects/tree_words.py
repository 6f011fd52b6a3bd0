"""What the second line of a tree's node says, and how it is read back. It draws nothing."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import Any

MOST_NAMED = 6  # slots; more are counted


def facts(data: Mapping[str, Any]) -> str:
    """Tokens and slots.

    Example:
        >>> facts({"len": 5, "holders": [0, 1, 2]})
        '5 tokens · slots 0-2'
    """
    tokens, holders = data["len"], list(data["holders"])
    if len(holders) > MOST_NAMED:
        slots = f"in {len(holders)} slots"
    elif len(holders) > 2 and all(b == a + 1 for a, b in pairwise(holders)):
        slots = f"slots {holders[0]}-{holders[-1]}"
    else:
        slots = f"slot{'s' * (len(holders) != 1)} {' '.join(map(str, holders))}".rstrip()
    return f"{tokens:,} token{'s' * (tokens != 1)} · {slots}"


def read_facts(text: str) -> tuple[int, tuple[int, ...] | None]:
    """The tokens and the slots that such a line names; ``None`` where they are only counted, or cut off."""
    tokens, _, slots = text.partition(" · ")
    count = int(tokens.split()[0].replace(",", ""))
    if not slots.startswith("slot") or slots.endswith("…"):
        return count, None
    found: list[int] = []
    for name in slots.split()[1:]:
        first, _, last = name.partition("-")
        found += range(int(first), int(last or first) + 1)
    return count, tuple(found)
