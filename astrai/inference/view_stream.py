"""What ``GET /v1/trace?view=snapshot`` sends: what the notebook's pictures are fed with, as server-sent events."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator

from astrai.widgets.run import Run
from astrai.widgets.watcher import BYTES_PER_SECOND

INTERVAL = 0.1  # seconds between two looks


async def view_events(run: Run, focus: int | None) -> AsyncGenerator[bytes, None]:
    """The moment after every change, at most ten times a second; a look that finds nothing yields ``b""``.

    ``focus`` is a slot whose tokens are sent too.
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
