"""What ``GET /v1/trace?view=snapshot`` sends: what the notebooks' pictures are fed with, as server-sent events."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator

from starlette.requests import Request

from astrai.inference.engine import InferenceEngine
from astrai.inference.server.errors import invalid
from astrai.widgets.run import Run, decoder
from astrai.widgets.watcher import BYTES_PER_SECOND

INTERVAL = 0.1  # seconds between two looks


class SharedRun:
    """One view of the engine's log for all who look at it, so that each event is folded once."""

    def __init__(self) -> None:
        self._run: Run | None = None

    def of(self, engine: InferenceEngine) -> Run:
        """The view of this engine."""
        if self._run is None or self._run.log is not engine.trace:
            self._run = Run(engine.trace, decoder(engine.tokenizer))
        return self._run


def read_focus(request: Request, num_slots: int) -> int | None:
    """The slot in the query whose tokens are wanted too, or ``None``.

    Raises:
        ApiError: (400) there is no such slot.
    """
    given = request.query_params.get("focus")
    if given is None:
        return None
    if not (given.isascii() and given.isdigit() and len(given) < 10 and int(given) < num_slots):
        raise invalid("focus", f"focus is no slot of this engine: its slots are 0 to {num_slots - 1}")
    return int(given)


async def view_events(run: Run, focus: int | None) -> AsyncGenerator[bytes, None]:
    """The moment after every change, at most ten times a second; a look that finds nothing yields ``b""``.

    ``focus`` is a slot whose tokens are sent too. Large moments are sent less often.
    """
    seen = -1
    while True:
        pause, block = INTERVAL, b""
        if run.log.next_seq != seen:
            seen = run.log.next_seq
            block = await asyncio.to_thread(_block, run, focus)
            pause = max(pause, len(block) / BYTES_PER_SECOND)
        yield block
        await asyncio.sleep(pause)


def _block(run: Run, focus: int | None) -> bytes:
    moment = run.now(focus)
    return b"data: " + json.dumps(moment._asdict(), separators=(",", ":")).encode("ascii") + b"\n\n"
