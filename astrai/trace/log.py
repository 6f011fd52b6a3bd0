"""The engine's memory of what happened: a bounded ring of stamped events over a state that the older ones add up to.

What leaves the ring is folded into the base, so a replay is exact however long the engine runs, and memory stays
bounded. One thread emits, any thread reads. The log knows no engine: it is told a header and writes it into files.
"""

from __future__ import annotations

import json
import os
import threading
import time
from collections import deque
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

from astrai.trace import jsonl
from astrai.trace.events import Event, StepStarted
from astrai.trace.jsonl import Record, TraceError
from astrai.trace.replay import Replayer, ReplayError
from astrai.trace.snapshot import Snapshot

_new_record = tuple.__new__  # half the time of Record(...), in the one place that runs for every event


class LogView(NamedTuple):
    """The log at one moment: the state before record ``first_seq``, and all records from there on."""

    base: Snapshot
    first_seq: int
    records: list[Record]


class EventLog:
    """The last events one by one, and the sum of all before them.

    At most ``capacity`` events are kept: one more, and the oldest 256 (a quarter, if that is less) are folded.
    ``header`` holds plain values that say what was run (configurations, tokenizer hash); files carry it. ``clock``
    gives seconds.

    Example:
        >>> log = EventLog(num_slots=2, capacity=1)
        >>> log.emit(StepStarted(1)), log.emit(StepStarted(2))
        (None, None)
        >>> log.first_seq, log.next_seq, log.view().base.step
        (1, 2, 1)
    """

    def __init__(
        self,
        num_slots: int,
        capacity: int = 65_536,
        clock: Callable[[], float] = time.monotonic,
        header: dict[str, Any] | None = None,
    ) -> None:
        if capacity < 1:
            raise ValueError(f"capacity is {capacity}, but must be at least 1")
        self.header: dict[str, Any] = json.loads(json.dumps(header or {}))
        if taken := self.header.keys() & set(jsonl.RESERVED):
            raise ValueError(f"the header names {', '.join(sorted(taken))}, which the log writes itself")
        self.num_slots = num_slots
        self.capacity = capacity
        self.error: ReplayError | None = None  # an impossible event left the ring: there is no base any more
        self._clock = clock
        # Folding many at a time finds the processor's caches warm: one by one it takes an engine three times as long.
        self._batch = min(256, (capacity + 3) // 4)
        self._lock = threading.Lock()  # guards all below
        self._base = Replayer(num_slots)
        self._tail: deque[Record] = deque()
        self._next_seq = 0
        self._step = 0
        self._recordings: tuple[Recording, ...] = ()

    def emit(self, event: Event) -> None:
        """Stamp and keep an event. It never raises: what goes wrong is raised where the log is read or closed."""
        with self._lock:
            if type(event) is StepStarted:
                self._step = event.step
            record = _new_record(Record, (self._next_seq, self._step, self._clock(), event))
            self._next_seq += 1
            self._tail.append(record)
            if len(self._tail) > self.capacity:
                self._fold()
            if self._recordings:
                self._write(record)

    # --- reading, from any thread -------------------------------------------------------------------------------------

    def __len__(self) -> int:
        """How many events can be read one by one."""
        return len(self._tail)

    @property
    def next_seq(self) -> int:
        """How many events there were in the whole run."""
        return self._next_seq

    @property
    def first_seq(self) -> int:
        """The number of the oldest event that can still be read."""
        with self._lock:
            return self._first_seq()

    @property
    def records(self) -> list[Record]:
        """All events that can be read one by one, oldest first."""
        return self.tail(0)

    def tail(self, since_seq: int) -> list[Record]:
        """The events from ``since_seq`` on, without those that left the ring; in time linear in their number."""
        with self._lock:
            return self._since(since_seq)

    def view(self) -> LogView:
        """The base and all events after it, of one and the same moment.

        Raises:
            ReplayError: an impossible event has left the ring, so that nothing after it can be replayed.
        """
        with self._lock:
            return LogView(self._base_snapshot(), self._first_seq(), list(self._tail))

    def catch_up(self, replayer: Replayer | None = None) -> Replayer:
        """Bring a reader's own replayer of this log up to now, or make one; use what is returned.

        A reader that looks often applies only what is new: ``replayer = log.catch_up(replayer)``.

        Raises:
            ReplayError: an event is impossible.
            ValueError: the replayer has seen more events than there were.
        """
        with self._lock:
            if replayer is not None and replayer.applied > self._next_seq:
                raise ValueError(f"the replayer has seen {replayer.applied:,} events, but this log {self._next_seq:,}")
            if replayer is None or replayer.applied < self._first_seq():
                base, first_seq = self._base_snapshot(), self._first_seq()
                replayer = None
            records = self._since(replayer.applied if replayer else 0)
        if replayer is None:
            replayer = Replayer.from_snapshot(base, first_seq)
        for record in records:
            replayer.apply(record.event)
        return replayer

    # --- files --------------------------------------------------------------------------------------------------------

    def record(self, path: str | os.PathLike[str]) -> Recording:
        """Write every event from now on to a file, until the returned context manager is left or closed.

        Raises:
            OSError: the file cannot be written.
            ReplayError: the state up to now cannot be replayed.
        """
        replayer = None
        file = Path(path).open("wb", buffering=1 << 20)  # noqa: SIM115 (the recording closes it)
        try:
            while True:
                # The long part is done while the loop goes on. What it emits meanwhile is written in the lock.
                replayer = self.catch_up(replayer)
                header = jsonl.header_line(self.header, replayer.applied, replayer.snapshot())
                with self._lock:
                    if replayer.applied >= self._first_seq():
                        file.write(header)
                        file.writelines(jsonl.record_line(record) for record in self._since(replayer.applied))
                        recording = Recording(self, file)
                        self._recordings += (recording,)
                        return recording
        except BaseException:
            file.close()
            raise

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write what the log holds now, base and events."""
        view = self.view()
        with Path(path).open("wb") as file:
            file.write(jsonl.header_line(self.header, view.first_seq, view.base))
            file.writelines(jsonl.record_line(record) for record in view.records)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Self:
        """Read a file that :meth:`save` or :meth:`record` wrote.

        Raises:
            TraceError: the file is not a trace, of an unknown schema, damaged or cut off; with path and line number.
            OSError: it cannot be opened or read.
        """
        trace = jsonl.read(path)
        log = cls(trace.num_slots, capacity=max(65_536, len(trace.records)), header=trace.header)
        if trace.state is not None:
            try:
                log._base = Replayer.from_snapshot(trace.state, trace.first_seq)
            except (ValueError, LookupError, TypeError) as error:
                raise TraceError(f"{path}:1: the state does not fit together: {error}") from error
        log._tail.extend(trace.records)
        log._next_seq = trace.first_seq + len(trace.records)
        log._step = trace.records[-1].step if trace.records else log._base.step
        return log

    # --- the parts, called with the lock held -------------------------------------------------------------------------

    def _fold(self) -> None:
        for _ in range(self._batch):
            event = self._tail.popleft().event
            if self.error is None:
                try:
                    self._base.apply(event)
                except ReplayError as error:
                    self.error = error

    def _base_snapshot(self) -> Snapshot:
        if self.error is not None:
            raise self.error
        return self._base.snapshot()

    def _first_seq(self) -> int:
        return self._next_seq - len(self._tail)

    def _since(self, seq: int) -> list[Record]:
        count = min(len(self._tail), max(0, self._next_seq - seq))
        return list(islice(reversed(self._tail), count))[::-1]

    def _write(self, record: Record) -> None:
        for recording in self._recordings:
            recording.write(record)
        self._recordings = tuple(recording for recording in self._recordings if recording.error is None)

    def _detach(self, recording: Recording) -> None:
        with self._lock:
            self._recordings = tuple(other for other in self._recordings if other is not recording)


class Recording:
    """A file that a log writes to. ``error`` is what stopped it, if something did: the engine goes on without it."""

    def __init__(self, log: EventLog, file: Any) -> None:
        self.error: Exception | None = None
        self._log = log
        self._file = file

    def write(self, record: Record) -> None:
        """Write one event; an error stops the recording and is kept."""
        try:
            self._file.write(jsonl.record_line(record))
        except Exception as error:
            error.add_note(f"the recording to {self._file.name} stopped at event {record.seq:,}")
            self.error = error

    def close(self) -> None:
        """Write what is buffered and close the file; a second call does nothing.

        Raises:
            Exception: what stopped the recording, such as an ``OSError`` for a full disk.
        """
        if self._file.closed:
            return
        self._log._detach(self)
        try:
            self._file.close()
        except OSError as error:
            self.error = self.error or error
        if self.error is not None:
            raise self.error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, raised: BaseException | None, _: TracebackType | None) -> None:
        try:
            self.close()
        except Exception as error:
            if raised is None:
                raise
            raised.add_note(f"besides, the recording failed: {error!r}")
