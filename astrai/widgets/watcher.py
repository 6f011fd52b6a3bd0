"""Looks at a log ten times a second, on a thread of its own, and hands on what changed.

The engine knows nothing of it and is not kept alive by it. It ends when the engine has ended or is gone.
"""

from __future__ import annotations

import logging
import threading
import time
import weakref
from collections.abc import Callable
from typing import Any

from astrai.trace.log import EventLog

log = logging.getLogger("astrai.widgets")
BYTES_PER_SECOND = 300_000  # a Jupyter server drops output beyond 1,000,000
SHARE_OF_A_CORE = 0.025  # what looking may take, however large the picture: the engine comes first


class Watcher:
    """Calls ``send`` after every change of a log, at most ``hz`` times a second.

    Args:
        send: takes nothing and returns how many characters it sent. What is large, or takes long, is sent less often.
        engine: looked at for whether it is still there and alive; ``None`` for a log that nobody writes any more.
        ended: is told in words why there will be no more, once, after the last ``send``.
    """

    def __init__(
        self,
        trace: EventLog,
        send: Callable[[], int],
        *,
        engine: Any = None,
        ended: Callable[[str], None] = lambda why: None,
        hz: float = 10.0,
    ) -> None:
        if not 0 < hz <= 60:
            raise ValueError(f"hz is {hz}, but must lie between 0 and 60 pictures a second")
        self.seconds = 0.0  # CPU time that looking and sending took
        self._trace, self._send, self._ended, self._period = trace, send, ended, 1 / hz
        self._engine = None if engine is None else weakref.ref(engine)
        self._wake = threading.Event()
        self._stopped = False
        self._again = False
        self._thread = threading.Thread(target=self._loop, name="astrai-watcher", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """Look no more; returns when the thread has ended."""
        self._stopped = True
        self._wake.set()
        if self._thread.is_alive() and self._thread is not threading.current_thread():
            self._thread.join(5)

    def look_again(self) -> None:
        """Send at the next turn even if nothing happened, since somebody asked for more of it."""
        self._again = True

    @property
    def is_alive(self) -> bool:
        """Whether it still looks."""
        return self._thread.is_alive()

    def _loop(self) -> None:
        seen, pause = -1, 0.0
        try:
            while not self._wake.wait(pause):
                why = self._why_over()  # asked before the look: nothing can happen between the two
                pause = self._period
                if self._trace.next_seq != seen or self._again:
                    seen, self._again = self._trace.next_seq, False
                    pause = max(pause, self._send_and_rest())
                if why is not None:
                    return self._ended(why)
        except Exception as error:
            log.exception("the live picture has stopped")
            self._ended(f"the live picture has stopped: {error!r}")

    def _send_and_rest(self) -> float:
        """Send, and say how many seconds to rest for it, in view of its size and of the CPU time it took."""
        started = time.thread_time()
        size = self._send()
        taken = time.thread_time() - started
        self.seconds += taken
        return max(size / BYTES_PER_SECOND, taken / SHARE_OF_A_CORE)

    def _why_over(self) -> str | None:
        if self._engine is None:
            return "a run that is over"
        engine = self._engine()
        if engine is None:
            return "the engine is gone"
        if not engine.daemon.is_alive and (why := engine.scheduler.inbox.why_closed):
            return why
        return None
