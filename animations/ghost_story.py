"""What happened in the two recorded runs behind ``TheGhostPrefix``, in the words and numbers of the recordings."""

from __future__ import annotations

import json
from typing import Any, NamedTuple

from astrai.trace import events as e
from astrai.trace.log import EventLog
from astrai.widgets.run import Run

from .trace_scene import SPECIAL, TRACES, kept_trace

PEOPLE = ("Ann", "Ben", "Cleo")


class Turn(NamedTuple):
    """One request's time in the slot.

    ``kept`` is what was taken as it stood in the row, in the words that really stood there;
    ``computed`` is the rest of the prompt. ``kept_len`` is in tokens.
    """

    version: int
    kept: str
    computed: str
    answer: str
    kept_len: int


class GhostStory:
    """``checked`` and ``believed`` hold each person's turn in the run with the check and in the one without."""

    def __init__(self) -> None:
        self.words: dict[str, Any] = json.loads((TRACES / "ghost.json").read_text())
        self.checked = self._turns("checked")
        self.believed = self._turns("believed")

    @property
    def note(self) -> dict[str, int]:
        """What Cleo saw when she arrived: slot, version, and how many of her tokens."""
        return self.words["note"]

    def _turns(self, which: str) -> dict[str, Turn]:
        log = kept_trace(f"ghost_{which}")
        prompts, turns, row = _prompts(log), {}, ()
        decode = Run.open(log).decode
        for event in (record.event for record in log.records):
            if isinstance(event, e.SlotAllocated | e.SlotReused):
                kept = event.kept_len if isinstance(event, e.SlotReused) else 0
                row = (*row[:kept], *prompts[event.request_id][kept:])  # what really stands there
                name, texts = PEOPLE[event.request_id], (row[:kept], row[kept:])
                kept_text, new_text = (SPECIAL.sub("", decode(ids)).strip() for ids in texts)
                turns[name] = Turn(event.version, kept_text, new_text, self.words[which][name], kept)
        return turns


def _prompts(log: EventLog) -> dict[int, tuple[int, ...]]:
    arrived = (record.event for record in log.records if isinstance(record.event, e.RequestArrived))
    return {event.request_id: event.prompt_ids for event in arrived}
