"""The palette by role: one colour, letter and hatch for each thing that a slot or a tree can be."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from importlib.resources import files


@dataclass(frozen=True, slots=True)
class Role:
    """How something looks. ``ink`` is the colour of text on ``color``; ``hatch`` is matplotlib's notation."""

    color: str
    ink: str
    letter: str
    hatch: str
    label: str


@cache
def roles() -> dict[str, Role]:
    """All roles of ``astrai/palette.json``, in its order."""
    return {name: Role(**values) for name, values in _palette()["roles"].items()}


@cache
def phase_roles() -> dict[str, str]:
    """The name of the role in which each phase of the loop is drawn."""
    return _palette()["phases"]


@cache
def theme(name: str = "light") -> dict[str, str]:
    """``background``, ``text`` and ``line`` of the light or the dark theme."""
    return _palette()["themes"][name]


@cache
def _palette() -> dict[str, dict]:
    return json.loads(files("astrai").joinpath("palette.json").read_text())
