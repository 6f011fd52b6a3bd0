"""What the checks of chapter 08 share: a small run of the engine's scheduler and cache, on a learner's parts."""

from __future__ import annotations

from typing import Any

from astrai.course.cards import Card, play
from astrai.inference.scheduler import InferenceScheduler
from astrai.trace.log import EventLog

PROMPTS = ((1, 2, 3), (1, 2, 3, 5, 5, 5), (4,), (6, 7), (1, 2, 3, 5, 6), (8, 9), (4, 4))
CARDS = [Card(prompt, tokens=3, step=1 + 8 * (number // 2)) for number, prompt in enumerate(PROMPTS)]


def small_run(**parts: Any) -> EventLog:
    """A few short chats on three rows, two of them at once, then the next two."""
    return play(InferenceScheduler, CARDS, 3, **parts)
