"""The scheduler's loop on a thread of its own, and how it ends.

It knows when to step and when to sleep, never what a step does. Whatever happens, each request is told its end: by
shutdown as ``cancelled``, by a dead loop as ``error``.
"""

from __future__ import annotations

import logging
import threading

from astrai.inference.request import Ending
from astrai.inference.scheduler import InferenceScheduler

log = logging.getLogger("astrai.scheduler")


class SchedulerDaemon:
    """Steps a scheduler while there is work, and sleeps without polling while there is none."""

    def __init__(self, scheduler: InferenceScheduler) -> None:
        self.scheduler = scheduler
        self.error: BaseException | None = None
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()

    @property
    def is_alive(self) -> bool:
        """Whether the loop's thread runs."""
        return self._thread is not None and self._thread.is_alive()

    def start(self) -> None:
        """Start the thread, once."""
        with self._lock:
            if self._thread is None:
                self._thread = threading.Thread(target=self._loop, name="astrai-scheduler", daemon=True)
                self._thread.start()

    def stop(self, timeout: float | None = None) -> bool:
        """Take no more requests and end all there are; ``False`` if a step outlasted ``timeout`` seconds."""
        self.scheduler.inbox.close("the engine was shut down")
        with self._lock:
            thread = self._thread
        if thread is None:
            self.scheduler.end_all(Ending("cancelled", "the engine was shut down"))
            return True
        if thread is not threading.current_thread():
            thread.join(timeout)
        return not thread.is_alive()

    def _loop(self) -> None:
        scheduler = self.scheduler
        try:
            while scheduler.inbox.wait(lambda: scheduler.has_work):
                scheduler.step()
            scheduler.end_all(Ending("cancelled", scheduler.inbox.why_closed or ""))
        except BaseException as error:
            log.exception("the scheduler's loop has died")
            self.error = error
            ending = Ending("error", f"the engine's loop has died: {error!r}")
            scheduler.inbox.close(ending.message)
            scheduler.abandon(ending)
