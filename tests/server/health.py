"""A client that asks ``/health`` all the time while something else happens."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import httpx


@dataclass
class Checkups:
    """What ``/health`` said, and in how many seconds."""

    statuses: list[int] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)


@contextmanager
def checkups(url: str) -> Iterator[Checkups]:
    """Ask every few milliseconds until the block ends; at least once."""
    done, seen = threading.Event(), Checkups()

    def ask() -> None:
        with httpx.Client(base_url=url, timeout=30) as client:
            while True:
                started = time.perf_counter()
                seen.statuses.append(client.get("/health").status_code)
                seen.seconds.append(time.perf_counter() - started)
                if done.wait(0.005):
                    return

    thread = threading.Thread(target=ask)
    thread.start()
    try:
        yield seen
    finally:
        done.set()
        thread.join()
    assert seen.statuses, "/health did not answer"
