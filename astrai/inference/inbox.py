"""The one door between client threads and the scheduler's loop.

Clients post requests and cancellations; the loop takes everything at once at the start of a step. That is all the two
sides share, so the loop's own state needs no lock. The inbox also bounds the queue, since only it sees each submit.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable
from typing import NamedTuple

from astrai.inference.request import Request


class QueueFullError(RuntimeError):
    """As many requests wait as the engine takes."""


class EngineDeadError(RuntimeError):
    """The loop has ended, by shutdown or by an error, and takes no requests."""


class Commands(NamedTuple):
    """What was posted since the last look, in order."""

    submitted_or_cancelled: list[Request | int]  # a cancellation is the request's id
    rejected: Counter[str]  # refused submits by reason


class Inbox:
    """Thread-safe: every method may be called from any thread."""

    def __init__(self, max_waiting: int) -> None:
        self.max_waiting = max_waiting
        self._wake = threading.Condition()
        self._commands: list[Request | int] = []
        self._rejected: Counter[str] = Counter()
        self._queued = 0  # requests that were submitted and have not left the queue
        self._why_closed: str | None = None

    def __bool__(self) -> bool:
        return bool(self._commands or self._rejected)

    @property
    def why_closed(self) -> str | None:
        """Why nothing is taken any more, or ``None`` while the inbox is open."""
        return self._why_closed

    def submit(self, request: Request, check: Callable[[Request], None]) -> None:
        """Post a request that ``check`` lets pass (it raises ``ValueError`` otherwise)."""
        with self._wake:
            if self._why_closed is not None:
                raise EngineDeadError(self._why_closed)
            try:
                check(request)
            except ValueError:
                self._reject("invalid")
                raise
            if self._queued >= self.max_waiting:
                self._reject("queue full")
                raise QueueFullError(f"{self._queued:,} requests wait already (max_waiting): try again later")
            self._queued += 1
            self._commands.append(request)
            self._wake.notify()

    def cancel(self, request_id: int) -> None:
        """Post a cancellation."""
        with self._wake:
            self._commands.append(request_id)
            self._wake.notify()

    def take(self) -> Commands:
        """Take all that was posted."""
        with self._wake:
            commands = Commands(self._commands, self._rejected)
            self._commands, self._rejected = [], Counter()
            return commands

    def leave_queue(self) -> None:
        """One request no longer waits."""
        with self._wake:
            self._queued -= 1

    def close(self, why: str) -> None:
        """Take nothing more, and wake the loop. The first reason given is kept."""
        with self._wake:
            self._why_closed = self._why_closed or why
            self._wake.notify_all()

    def wait(self, has_work: Callable[[], bool]) -> bool:
        """Sleep until something was posted, ``has_work`` or the inbox is closed; ``False`` when it is closed."""
        with self._wake:
            self._wake.wait_for(lambda: self._why_closed is not None or self or has_work())
            return self._why_closed is None

    def _reject(self, reason: str) -> None:
        self._rejected[reason] += 1
        self._wake.notify()
