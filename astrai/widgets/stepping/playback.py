"""Any moment of a log: forward by applying what comes next, backward from the nearest moment that was kept."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

from astrai.trace.log import EventLog
from astrai.trace.replay import ReplayError
from astrai.widgets.data.texts import Decode
from astrai.widgets.data.view import RunView

KEEP_EVERY = 2000  # events: to go back costs no more than to apply so many


class Playback:
    """One thread at a time may use it, and while it does nobody may write to the log.

    Example:
        >>> from astrai.trace.events import StepStarted
        >>> log = EventLog(num_slots=2)
        >>> for step in (1, 2, 3):
        ...     log.emit(StepStarted(step))
        >>> playback = Playback(log)
        >>> [playback.at(seq).state()["step"] for seq in (3, 1)]
        [3, 1]
    """

    def __init__(self, log: EventLog, decode: Decode | None = None) -> None:
        self.log = log
        self.decode = decode
        self._kept: list[RunView] = []
        self._view: RunView | None = None
        self.refused = 0  # number of the event that a ReplayError was about

    def at(self, seq: int) -> RunView:
        """The view after the first ``seq`` events of the run. It changes with the next call.

        Raises:
            ValueError: the log no longer holds what leads there.
            ReplayError: an event on the way is impossible.
        """
        view = self._view
        if view is None or not self.log.first_seq <= view.seq <= seq:
            view = self._back(seq)
        self._view = None  # NOTE: a view that refuses an event is of no further use
        for record in self.log.tail(view.seq):
            if record.seq >= seq:
                break
            try:
                view.apply(record)
            except ReplayError:
                self.refused = record.seq
                raise
            self._keep(view)
        self._view = view
        return view

    def _keep(self, view: RunView) -> None:
        if view.seq >= KEEP_EVERY + (self._kept[-1].seq if self._kept else 0):
            self._kept.append(deepcopy(view))

    def _back(self, seq: int) -> RunView:
        first_seq = self.log.first_seq
        self._kept = [view for view in self._kept if view.seq >= first_seq]
        before = [view for view in self._kept if view.seq <= seq]
        if before:
            return deepcopy(before[-1])
        seen = self.log.view()
        if seq < seen.first_seq:
            raise ValueError(
                f"the log no longer holds what happened before event {seen.first_seq:,}: give the engine a larger "
                f"trace_events to look back further"
            )
        return RunView.of(self.log, self.decode, seen)

    def moment(self, seq: int, focus: int | None = None) -> dict[str, Any]:
        """State, timeline and vocab, as the drawing modules want them, with the tokens of slot ``focus``."""
        view = self.at(seq)
        state = view.state(focus=focus)
        timeline = view.timeline()
        ids = {token_id for slot in state["slots"] for token_id in slot.get("ids", ())}
        return {"state": state, "timeline": timeline, "vocab": view.vocab(ids)}
