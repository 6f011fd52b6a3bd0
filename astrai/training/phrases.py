"""A turn of a conversation, and the wording that turns are made of (``phrases.json``)."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import cache
from typing import Any, NamedTuple

from astrai.training.storyworld import HERE, Story, starts_with_vowel


class Turn(NamedTuple):
    """A prompt and its answer; a story request also has its story and the words that the answer must hold."""

    prompt: str
    answer: str
    story: Story | None = None
    required: tuple[str, ...] = ()


@cache
def phrases() -> dict[str, Any]:
    """The wording of ``phrases.json``."""
    return json.loads((HERE / "phrases.json").read_text(encoding="utf-8"))


def a(noun: str) -> str:
    """The noun with its article."""
    return f"{'an' if starts_with_vowel(noun) else 'a'} {noun}"


def join(items: Sequence[str]) -> str:
    """``a, b and c``."""
    return " and ".join([", ".join(items[:-1]), items[-1]]) if len(items) > 1 else items[0]
