"""The engine's events over HTTP: what ``GET /v1/trace`` sends, as server-sent events.

``header`` carries the line that a trace file begins with (the state up to that moment in it), every event after it the
line of one record, with its number as ``id``. A reader that fell behind the ring is sent a new header and goes on from
there; one that reconnects with ``Last-Event-ID`` goes on where it was, if that can still be read.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator

from starlette.requests import Request

from astrai.inference.engine import InferenceEngine
from astrai.trace.jsonl import header_line, record_line
from astrai.trace.log import EventLog

INTERVAL = 0.1  # seconds between two looks at the log
BATCH = 256  # records sent at once
QUIET_LOOKS = 150  # after which a comment says that the connection lives


async def trace_events(engine: InferenceEngine, request: Request) -> AsyncGenerator[bytes, None]:
    """Follow ``engine.trace`` for ever; whoever asked ends it by leaving. A look that finds nothing yields ``b""``."""
    log = engine.trace
    next_seq = _resume_at(request, log)
    quiet_looks = 0
    while True:
        if next_seq is None:
            header, next_seq = await asyncio.to_thread(_header, log)
            yield header
        blocks, next_seq = await asyncio.to_thread(_read, log, next_seq)
        for block in blocks:
            yield block
        quiet_looks = 0 if blocks else quiet_looks + 1
        if not blocks:
            yield b"" if quiet_looks % QUIET_LOOKS else b": nothing yet\n\n"
        await asyncio.sleep(INTERVAL)


def _resume_at(request: Request, log: EventLog) -> int | None:
    """The record after the last one that the reader has seen; ``None`` when it must begin with the state."""
    last_id = request.headers.get("last-event-id", "")
    if not (last_id.isascii() and last_id.isdigit() and len(last_id) < 20):
        return None
    next_seq = int(last_id) + 1
    return next_seq if log.first_seq <= next_seq <= log.next_seq else None


def _header(log: EventLog) -> tuple[bytes, int]:
    """The state now, and the number of the first record after it."""
    replayer = log.catch_up()
    line = header_line(log.header, replayer.applied, replayer.snapshot())
    return b"event: header\ndata: " + line + b"\n", replayer.applied


def _read(log: EventLog, next_seq: int) -> tuple[list[bytes], int | None]:
    """The records from ``next_seq`` on in blocks, and where to go on; ``None`` if records between were lost."""
    records = log.tail(next_seq)
    if records and records[0].seq != next_seq:
        return [b": you fell behind what is kept; here is the state anew\n\n"], None
    lines = [b"id: %d\ndata: %b\n" % (record.seq, record_line(record)) for record in records]
    return [b"".join(lines[start : start + BATCH]) for start in range(0, len(lines), BATCH)], next_seq + len(lines)
