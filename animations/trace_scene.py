"""A film that plays a recorded run: each event is folded in, then told by the method that is named after it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from itertools import groupby
from pathlib import Path
from typing import Any

from astrai.trace.events import Event
from astrai.trace.jsonl import Record
from astrai.trace.log import EventLog
from astrai.widgets.data.view import RunView
from astrai.widgets.run import Run

from . import FILMS
from .film import Film

SPECIAL = re.compile(r"<\|\w+\|>")
TRACES = Path(__file__).parent / "traces"


class TraceScene(Film):
    """A film of a log, by default of the recording that is kept for it.

    ``story`` calls :meth:`play` with steps. Of each record the event is applied to ``view`` and handed to
    ``on_<event>``, such as ``on_slot_freed(event)``, where a film has that method; so ``view`` and ``state`` already
    know it. After a step ``end_of_step`` is called, then ``after_step``, if it is set.

    Raises:
        ValueError: the log holds no complete step.
    """

    after_step: Callable[[int], None] | None = None

    def __init__(self, trace: EventLog | None = None, quick: bool = False, **settings: Any) -> None:
        super().__init__(quick=quick, **settings)
        self.log = kept_trace(FILMS[type(self).__name__].trace) if trace is None else trace
        seen = self.log.view()
        self.view = RunView.of(self.log, Run.open(self.log).decode, seen, keep_steps=None)
        self.records = seen.records
        if not self.steps:
            raise ValueError("this trace holds no complete step: run a request first")

    @property
    def state(self) -> dict[str, Any]:
        """This moment, in the form of ``astrai.widgets.data.state``."""
        return self.view.state()

    @property
    def steps(self) -> list[int]:
        """The numbers of the steps that the log holds from their start to their end, in order."""
        found: dict[int, set[str]] = {}
        for record in self.records:
            found.setdefault(record.step, set()).add(_told_by(record.event))
        return [step for step, told in found.items() if {"on_step_started", "on_phase_ended"} <= told]

    def play_steps(self, last: int | None = None) -> Iterator[int]:
        """Play step after step, up to step ``last``; yields the number of each one that is over.

        A film that stops asking stops playing, so that a long run does not make a long film.
        """
        for step, records in groupby(self.records, key=lambda record: record.step):
            if last is not None and step > last:
                return
            self._play(records)
            self.end_of_step(step)
            if self.after_step:
                self.after_step(step)
            yield step

    def on_event(self, event: Event) -> None:
        """Called with each event, before the method that is named after it."""

    def end_of_step(self, step: int) -> None:
        """Called when all events of a step have been told."""

    def shown(self) -> dict[str, Any]:
        """What can be read off the screen, from the shapes and the texts themselves; a test compares it with a replay.

        Keys, each where a film shows it: ``step``; ``slots``: slot to (version, owner, tokens); ``waiting``: request
        ids in the queue's order; ``phase``; ``free_mask``; ``tree``: node id to (parent id, tokens, holders).
        """
        raise NotImplementedError

    def asked(self, prompt_ids: tuple[int, ...]) -> str:
        """What a person asked: the last message of a prompt, or all of it where it is no chat."""
        text = self.view.decode(prompt_ids) if self.view.decode else str(list(prompt_ids))
        return " ".join(next((part for part in reversed(SPECIAL.split(text)) if part.strip()), text).split())

    def text_of(self, token_ids: tuple[int, ...]) -> str:
        """Tokens as text on one line, without special ones."""
        text = self.view.decode(token_ids) if self.view.decode else " ".join(map(str, token_ids))
        return SPECIAL.sub("", text).replace("\n", " ")

    def _play(self, records: Iterator[Record]) -> None:
        for record in records:
            self.view.apply(record)
            self.on_event(record.event)
            if tell := getattr(self, _told_by(record.event), None):
                tell(record.event)


def kept_trace(name: str) -> EventLog:
    """A recording of ``animations/traces``."""
    return EventLog.load(TRACES / f"{name}.jsonl")


def _told_by(event: Event) -> str:
    return "on" + re.sub(r"(?=[A-Z])", "_", type(event).__name__).lower()
