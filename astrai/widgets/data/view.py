"""A run as plain JSON, which every picture draws: live notebooks, recordings, saved pages, the server's page.

``RunView.state`` is one moment (its form: ``state.py``, ``rows.py``, ``news.py``), ``RunView.timeline`` the way there
(``steps.py``). Both come from the trace alone: this module knows no engine and no picture.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Self

from astrai.trace.events import Event
from astrai.trace.jsonl import Record
from astrai.trace.log import EventLog, LogView
from astrai.trace.replay import Replayer
from astrai.trace.snapshot import Snapshot
from astrai.widgets.data.news import News
from astrai.widgets.data.rows import Rows
from astrai.widgets.data.state import add_ids, counters_json, nodes_json, requests_json, slots_json
from astrai.widgets.data.steps import Steps
from astrai.widgets.data.texts import Decode, Texts

KEPT_STEPS = 2000


class RunView:
    """Folds the records of a trace. One thread at a time may use it.

    Args:
        row_len: positions that a row can hold, where that is known.
        decode: turns token ids into text; without it ids are shown.
        base: the state before record ``first_seq``, for a run that is watched from its middle on.
        keep_steps: how many steps the timeline remembers, beside the 400 requests that ended last; ``None``: all.
        scripted: whether nothing was computed in this run, so that its times mean nothing.

    Example:
        >>> from astrai.trace.events import StepStarted
        >>> view = RunView(num_slots=2)
        >>> view.apply(Record(0, 1, 0.0, StepStarted(1)))
        >>> view.state()["step"], view.timeline()["first"]
        (1, 1)
    """

    def __init__(
        self,
        num_slots: int,
        *,
        row_len: int | None = None,
        decode: Decode | None = None,
        base: Snapshot | None = None,
        first_seq: int = 0,
        keep_steps: int | None = KEPT_STEPS,
        scripted: bool = False,
    ) -> None:
        self.row_len = row_len
        self.scripted = scripted
        self._replayer = Replayer(num_slots) if base is None else Replayer.from_snapshot(base, first_seq)
        base = self._replayer.snapshot() if base is None else base
        self._texts = Texts(decode)
        self._rows = Rows(base)
        self._steps = Steps(base, self._rows, keep_steps)
        self._news = News(base, self._rows, self._steps)
        self._folds: dict[type[Event], list[Callable[[Record], None]]] = {}
        for part in (self._rows, self._steps, self._news):
            for kind, fold in part.handlers().items():
                self._folds.setdefault(kind, []).append(fold)

    @classmethod
    def of(
        cls,
        log: EventLog,
        decode: Decode | None = None,
        seen: LogView | None = None,
        keep_steps: int | None = KEPT_STEPS,
    ) -> Self:
        """A view of the moment before the first record that a log still has; ``seen`` is that log's ``view()``."""
        seen = seen or log.view()
        configs = [log.header.get(name) or {} for name in ("engine_config", "model_config")]
        return cls(
            log.num_slots,
            row_len=next((config["max_seq_len"] for config in configs if config.get("max_seq_len")), None),
            decode=decode,
            base=seen.base,
            first_seq=seen.first_seq,
            keep_steps=keep_steps,
            scripted=bool(log.header.get("scripted")),
        )

    @property
    def seq(self) -> int:
        """How many events of the run it has seen, which is the number of the next one."""
        return self._replayer.applied

    @property
    def decode(self) -> Decode | None:
        """What turns token ids into text."""
        return self._texts.decode

    def apply(self, record: Record) -> None:
        """Take one record into account.

        Raises:
            ReplayError: its event cannot follow the ones before it. The view is then of no further use.
        """
        event = record.event
        self._replayer.apply(event)
        for fold in self._folds.get(type(event), ()):
            fold(record)

    def snapshot(self) -> Snapshot:
        """The moment as the trace's own words have it."""
        return self._replayer.snapshot()

    def vocab(self, ids: Iterable[int]) -> dict[str, str]:
        """The text of single tokens, by id."""
        return {str(token_id): self._texts.token(token_id) for token_id in ids}

    def timeline(self, last: int | None = 240) -> dict[str, Any]:
        """The last steps and the requests that lived in them, at most 200; ``None``: all that is known.

        Those that wait at the end of a long queue are left out first, then those that ended first.
        """
        timeline = self._steps.timeline(last)
        return {**timeline, "scripted": True} if self.scripted else timeline

    def state(self, focus: int | None = None, all_ids: bool = False) -> dict[str, Any]:
        """This moment, with the tokens of slot ``focus``, or with those of all slots."""
        now = self._replayer.snapshot()
        slots = slots_json(now, self._rows.rows)
        if all_ids or focus is not None:
            add_ids(slots, now, slice(None) if all_ids else slice(focus, focus + 1))
        return {
            "seq": self._replayer.applied,
            "step": now.step,
            "phase": now.phase,
            "row_len": self.row_len,
            "slots": slots,
            "nodes": nodes_json(now, self._texts),
            "waiting": list(now.waiting),
            "running": list(now.running),
            "requests": requests_json(now, self._texts),
            "counters": counters_json(now.counters),
            "news": self._news.items(self._texts.edge),
        }


def follow(log: EventLog, view: RunView | None = None, decode: Decode | None = None) -> RunView:
    """Bring a view of a log up to now, or make one; use what is returned.

    A view that missed events which have left the log is replaced by one that begins with what the log still has.

    Raises:
        ReplayError: an event is impossible.
        ValueError: the view has seen more events than there were.
    """
    if view is not None and view.seq == log.next_seq:
        return view
    if view is not None and view.seq > log.next_seq:
        raise ValueError(f"the view has seen {view.seq:,} events, but this log only {log.next_seq:,}")
    records = log.tail(view.seq) if view is not None else []
    if view is None or records[0].seq > view.seq:
        seen = log.view()
        view, records = RunView.of(log, decode or (view and view.decode), seen), seen.records
    for record in records:
        view.apply(record)
    return view
