"""A socket, and uvicorn on it with the manners that it lacks: a time to finish, and no patience without end.

What it adds: running requests may finish when the server closes, up to a grace time, and are then ended with a reason;
a connection whose reader takes nothing is dropped; a model can load while the port is open already. It knows no routes.
"""

from __future__ import annotations

import asyncio
import logging
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, NamedTuple

import uvicorn
from fastapi import FastAPI

from astrai.inference.engine import InferenceEngine
from astrai.inference.server.config import LOOPBACK
from astrai.inference.server.heads import LimitedHeads
from astrai.inference.server.service import Service

log = logging.getLogger("astrai.server")
BACKLOG = 2048
LAST_WORDS = 0.5  # seconds after the grace time in which the reasons are sent
SIGNALS = (signal.SIGINT, signal.SIGTERM)


class PortInUseError(OSError):
    """Somebody else listens there."""


class Backlog(NamedTuple):
    """Bytes that a connection's reader has not taken, and since when it takes nothing (monotonic seconds)."""

    size: int
    since: float


def bind(host: str, port: int) -> socket.socket:
    """A listening TCP socket; port 0 takes a free one.

    Raises:
        PortInUseError: the port is taken.
        OSError: there is no such address here, or the port may not be used.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=BACKLOG)
    except OSError as error:
        if error.errno == 98 or "in use" in str(error).lower():
            message = f"port {port} of {host} is in use: stop what runs there, or take another with --port (0: any)"
            raise PortInUseError(message) from None
        raise OSError(f"cannot listen on {host} port {port}: {error.strerror or error}") from error


def url_of(sock: socket.socket) -> str:
    """Where a client on this machine finds the socket."""
    host, port = sock.getsockname()[:2]
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def warn_if_open(host: str, api_key: str | None) -> None:
    """Say it loudly when anybody on the network may use the server."""
    if host not in LOOPBACK and not host.startswith("127.") and api_key is None:
        log.warning(
            "WARNING: the server listens on %s without an API key: everybody who reaches this machine can use it. "
            "Set a key (--api-key, or ASTRAI_API_KEY), or listen on 127.0.0.1",
            host,
        )


class Server(uvicorn.Server):
    """Uvicorn for one app on one socket. ``should_exit = True`` closes it, from any thread.

    ``grace`` and ``write_timeout`` are in seconds. ``load`` makes the engine on a thread while ``/health`` says so;
    what it raises closes the server and is kept in ``failure``.
    """

    def __init__(
        self,
        app: FastAPI,
        *,
        grace: float,
        write_timeout: float,
        load: Callable[[], InferenceEngine] | None = None,
    ) -> None:
        config = uvicorn.Config(
            app, http=LimitedHeads, lifespan="off", ws="none", log_config=None, access_log=False, server_header=False
        )
        config.proxy_headers = False  # nobody stands in front whose word on addresses we would use
        config.timeout_graceful_shutdown = grace + LAST_WORDS  # type: ignore[assignment]  # floats work too
        super().__init__(config)
        self.service: Service = app.state.service
        self.grace = grace
        self.write_timeout = write_timeout
        self.listens = threading.Event()
        self.failure: BaseException | None = None
        self._load = load
        self._backlogs: dict[Any, Backlog] = {}

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen, then load."""
        await super().startup(sockets)
        self.listens.set()
        if self._load is not None:
            # NOTE: a thread that nobody waits for, so that a signal can end the server in the middle of it.
            url = url_of(sockets[0]) if sockets else ""
            threading.Thread(target=self._load_engine, args=(url,), name="astrai-load", daemon=True).start()

    def _load_engine(self, url: str) -> None:
        assert self._load is not None
        started = time.monotonic()
        try:
            self.service.engine = self._load()  # from here on requests are served: said now, and no earlier
            log.info("ready after %.1f s: clients use base_url %s/v1", time.monotonic() - started, url)
        except BaseException as error:
            self.failure = error
            self.should_exit = True

    async def on_tick(self, counter: int) -> bool:
        """Called ten times a second; ``True`` closes the server."""
        now = time.monotonic()
        self._drop_non_readers(now)
        self._refuse_late_heads(now)
        return await super().on_tick(counter)

    def _refuse_late_heads(self, now: float) -> None:
        """End connections that have not sent the head of a request in the time that a body may take."""
        limit = self.service.config.body_timeout
        for connection in list(self.server_state.connections):
            if connection.head_since is not None and now - connection.head_since >= limit:
                connection.refuse(408, f"the head of the request did not arrive within {limit:g} s")

    def _drop_non_readers(self, now: float) -> None:
        """Cut connections whose backlog has not shrunk for ``write_timeout``; their requests then end as cancelled."""
        backlogs = {}
        for connection in self.server_state.connections:
            size = connection.transport.get_write_buffer_size()
            if size:
                last = self._backlogs.get(connection)
                since = last.since if last and size >= last.size else now
                backlogs[connection] = Backlog(size, since)
        self._backlogs = backlogs
        for connection, backlog in backlogs.items():
            if now - backlog.since >= self.write_timeout:
                log.warning("dropped a reader that took nothing for %g s: %s", self.write_timeout, connection.client)
                connection.transport.abort()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Accept nothing more, let running requests finish for ``grace`` seconds, then end them with the reason."""
        self.service.close("the server is shutting down")
        timer = asyncio.get_running_loop().call_later(self.grace, self.service.end_all)
        try:
            await super().shutdown(sockets)
        finally:
            timer.cancel()
            for connection in list(self.server_state.connections):
                connection.transport.abort()
            await asyncio.sleep(0)

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """On the main thread, let SIGINT and SIGTERM close the server; a second one quits at once."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {number: signal.signal(number, self._close_on_signal) for number in SIGNALS}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _close_on_signal(self, number: int, frame: FrameType | None) -> None:
        self.should_exit = True
        for each in SIGNALS:
            signal.signal(each, signal.SIG_DFL)
