"""What a run that is stepped by hand can look back at: one frame for each phase that has ended.

A frame is no copy of the state but a place in the log, from which the state is made when somebody looks.
"""

from __future__ import annotations

from collections import deque
from typing import Any, NamedTuple

from astrai.trace import events as e
from astrai.trace.log import EventLog
from astrai.trace.words import FINE_PRINT, describe
from astrai.widgets.data.texts import Decode, Texts
from astrai.widgets.stepping.at_work import Note
from astrai.widgets.stepping.playback import Playback
from astrai.widgets.twins.svg import visible

FRAMING = (e.StepStarted, e.PhaseStarted, e.PhaseEnded)  # said by the frame itself


class Frame(NamedTuple):
    """The events from ``first`` up to ``seq`` (exclusive), and what was raised in the phase that they belong to."""

    first: int
    seq: int
    step: int
    phase: e.Phase | None = None
    error: str = ""
    error_line: int | None = None

    @property
    def label(self) -> str:
        """Where the run stands."""
        if self.step == 0:
            return "before the first step"
        return f"step {self.step:,}" + (f", after {self.phase}" if self.phase else "")


class History:
    """The frames of a log, by number. Those whose events leave the log's ring are forgotten."""

    def __init__(self, log: EventLog, decode: Decode | None = None) -> None:
        self.log = log
        self.playback = Playback(log, decode)
        self.first = 0  # number of the oldest frame
        self.notes: dict[int, Note] = {}  # by the number of the event
        self._texts = Texts(decode)
        view = log.view()
        self._frames = deque([Frame(view.first_seq, view.first_seq, view.base.step)])
        self.read()

    def __getitem__(self, number: int) -> Frame:
        return self._frames[number - self.first]

    @property
    def newest(self) -> int:
        """Number of the newest frame."""
        return self.first + len(self._frames) - 1

    @property
    def last_phase(self) -> e.Phase | None:
        """The phase that ended last."""
        return self._frames[-1].phase

    def read(self) -> list[Frame]:
        """Take the phases that have ended since the last look."""
        before, new = self._frames[-1].seq, []
        for record in self.log.tail(before):
            if isinstance(record.event, e.PhaseEnded):
                new.append(Frame(before, record.seq + 1, record.step, record.event.phase))
                before = record.seq + 1
        self._frames.extend(new)
        self._forget()
        return new

    def close(self, phase: e.Phase, error: str, error_line: int | None, step: int) -> None:
        """End a frame that does not end itself: the phase raised, or does not tell the trace when it ends."""
        newest, seq = self._frames[-1], self.log.next_seq
        if error and (newest.phase, newest.step, newest.seq) == (phase, step, seq):
            self._frames[-1] = newest._replace(error=error, error_line=error_line)
        else:
            self._frames.append(Frame(newest.seq, seq, step, phase, error, error_line))

    def cut(self, seq: int) -> None:
        """What lies beyond an event cannot be drawn: the newest frame ends there."""
        while self._frames[-1].first > seq:
            self._frames.pop()
        self._frames[-1] = self._frames[-1]._replace(seq=min(seq, self._frames[-1].seq))

    def happened(self, frame: Frame) -> list[dict[str, Any]]:
        """The events of a frame in words, each with its ``line`` in the source (or null) and what it came ``via``."""
        last = self.log.next_seq if frame.error else frame.seq
        return [
            {
                **self._where(record.seq, frame.phase),
                "words": visible(describe(record.event, self._texts.edge)),
                "fine": isinstance(record.event, FINE_PRINT),
            }
            for record in self.log.tail(frame.first)
            if frame.first <= record.seq < last and not isinstance(record.event, FRAMING)
        ]

    def _where(self, seq: int, phase: e.Phase | None) -> dict[str, Any]:
        note = self.notes.get(seq)
        if note is None:
            return {"line": None, "via": []}
        if note.phase != phase:  # a phase that does not tell the trace of itself
            return {"line": None, "via": [note.phase, *note.via]}
        return {"line": note.line, "via": list(note.via)}

    def last_complete_step(self, number: int) -> int:
        """The last step that had ended at a frame."""
        frame = self[number]
        return frame.step if frame.phase in (None, "decode") else frame.step - 1

    def _forget(self) -> None:
        first_seq = self.log.first_seq
        while len(self._frames) > 1 and self._frames[0].seq < first_seq:
            self._frames.popleft()
            self.first += 1
        for seq in [seq for seq in self.notes if seq < first_seq]:
            del self.notes[seq]
