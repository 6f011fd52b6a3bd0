"""A trace on disk: one header line, then one event a line, all of it JSON.

The header holds the schema version, the number of slots and what the engine says of itself; for a trace that begins
in mid-run also the state before its first event, so that every file replays exactly. This module knows the form of
the file, not when it is written.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from astrai import __version__
from astrai.trace.events import Event, StepStarted, from_json, to_json
from astrai.trace.snapshot import Snapshot

SCHEMA = 1
RESERVED = ("schema", "astrai", "num_slots", "first_seq", "state")  # header names that are not the engine's to give

_encode = json.JSONEncoder(separators=(",", ":")).encode


class TraceError(ValueError):
    """A file is not a trace that this version reads. The message begins with its path and line number."""


class Record(NamedTuple):
    """An event with its stamps: its number in the run, the step it happened in, and a monotonic time in seconds."""

    seq: int
    step: int
    time: float
    event: Event


class TraceFile(NamedTuple):
    """What a file holds. ``state`` is that before record ``first_seq``, ``None`` for an engine that has just begun."""

    header: dict[str, Any]
    num_slots: int
    first_seq: int
    state: Snapshot | None
    records: list[Record]


def header_line(header: dict[str, Any], first_seq: int, state: Snapshot) -> bytes:
    """The first line of a trace whose first record is ``first_seq``."""
    values = {"schema": SCHEMA, "astrai": __version__, "num_slots": state.num_slots, "first_seq": first_seq, **header}
    if first_seq:
        values["state"] = state.to_dict()
    return f"{_encode(values)}\n".encode("ascii")


def record_line(record: Record) -> bytes:
    """One line for one event."""
    # NOTE: StepStarted has a field "step" of its own. It is the record's step too.
    values = {"seq": record.seq, "step": record.step, "time": record.time, **to_json(record.event)}
    return f"{_encode(values)}\n".encode("ascii")


def read(path: str | os.PathLike[str]) -> TraceFile:
    """Read a whole trace.

    Raises:
        TraceError: the file is not a trace, is of an unknown schema, is damaged, or was cut off within a line.
        OSError: it cannot be opened or read.
    """
    with Path(path).open("rb") as file:
        lines = enumerate(file, start=1)
        number, line = next(lines, (1, b""))
        header = _parse(path, number, line)
        try:
            trace = _read_header(header)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise TraceError(f"{path}:{number}: {_explain(error)}") from error
        trace.records.extend(_read_records(path, lines, trace))
    return trace


def _read_header(values: dict[str, Any]) -> TraceFile:
    if "schema" not in values:
        raise ValueError("this is not a trace: its first line has no schema")
    if values["schema"] != SCHEMA:
        raise ValueError(
            f"trace schema {values['schema']!r}, written by astrai {values.get('astrai')}, is unknown here: "
            f"astrai {__version__} reads schema {SCHEMA}"
        )
    num_slots, first_seq = values["num_slots"], values["first_seq"]
    if type(num_slots) is not int or num_slots < 1 or type(first_seq) is not int or first_seq < 0:
        raise ValueError(f"num_slots is {num_slots!r} and first_seq {first_seq!r}")
    if ("state" in values) != (first_seq > 0):
        raise ValueError(f"first_seq is {first_seq}, which needs {'a' if first_seq else 'no'} state")
    state = Snapshot.from_dict(values["state"]) if first_seq else None
    if state is not None and state.num_slots != num_slots:
        raise ValueError(f"num_slots is {num_slots}, but the state has {state.num_slots}")
    header = {name: value for name, value in values.items() if name not in RESERVED}
    return TraceFile(header, num_slots, first_seq, state, [])


def _read_records(path: Any, lines: Iterator[tuple[int, bytes]], trace: TraceFile) -> Iterator[Record]:
    seq, step = trace.first_seq, trace.state.step if trace.state else 0
    for number, line in lines:
        values = _parse(path, number, line)
        try:
            event = from_json(values)
            step = event.step if isinstance(event, StepStarted) else step
            if (values["seq"], values["step"]) != (seq, step):
                found = f"{values['seq']} of step {values['step']}"
                raise ValueError(f"event {seq} of step {step} should stand here, not {found}")
            yield Record(seq, step, float(values["time"]), event)
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise TraceError(f"{path}:{number}: {_explain(error)}") from error
        seq += 1


def _parse(path: Any, number: int, line: bytes) -> dict[str, Any]:
    try:
        values = json.loads(line)
    except (ValueError, RecursionError) as error:
        what = "the line is cut off" if not line.endswith(b"\n") else "this is not JSON"
        raise TraceError(f"{path}:{number}: {what} ({error})") from error
    if not isinstance(values, dict):
        raise TraceError(f"{path}:{number}: this is no JSON object, but {line[:40]!r}")
    return values


def _explain(error: Exception) -> str:
    return f"{error} is missing" if isinstance(error, KeyError) else str(error)
