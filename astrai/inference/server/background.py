"""A server beside whatever else runs in this process: for notebooks, where a cell is run again and again.

It has a thread and an event loop of its own, so it works inside a running loop, and touches no signal handler.
"""

from __future__ import annotations

import asyncio
import socket
import threading
from types import TracebackType
from typing import Any, Self

from astrai.inference.engine import InferenceEngine
from astrai.inference.server.app import create_app
from astrai.inference.server.config import ServerConfig
from astrai.inference.server.listening import Server, bind, url_of, warn_if_open

STOP_TIMEOUT = 5.0


class BackgroundServer:
    """A running server. Leave the ``with`` block or call :meth:`stop` to end it; the engine goes on."""

    def __init__(self, thread: _ServerThread) -> None:
        self.url = thread.url  # such as http://127.0.0.1:8000, without the /v1 of OpenAI's clients
        self._thread = thread

    def stop(self) -> None:
        """End running requests with a stated reason and close the port, within a second; again does nothing."""
        self._thread.stop()

    @property
    def is_running(self) -> bool:
        """Whether it still serves."""
        return self._thread.is_alive()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def __repr__(self) -> str:
        return f"<AstrAI server at {self.url}, {'running' if self.is_running else 'stopped'}>"


def serve_in_background(
    engine: InferenceEngine,
    port: int = 0,
    *,
    host: str = "127.0.0.1",
    write_timeout: float = 30.0,
    **settings: Any,
) -> BackgroundServer:
    """Serve ``engine`` over HTTP from a thread; keywords are fields of :class:`ServerConfig`.

    A server that this process runs for the same engine, or on the same port, is stopped first, so a notebook cell can
    be run again. Port 0 takes a free one. ``write_timeout`` is the seconds after which a reader that takes nothing is
    dropped.

    Raises:
        PortInUseError: another program listens there.

    Example:
        >>> with serve_in_background(engine) as server:  # doctest: +SKIP
        ...     client = openai.OpenAI(base_url=f"{server.url}/v1", api_key="none")
    """
    config = ServerConfig(**settings)
    _stop_earlier(engine, port)
    sock = bind(host, port)
    warn_if_open(host, config.api_key)
    server = Server(create_app(engine, config), grace=0.0, write_timeout=write_timeout)
    thread = _ServerThread(engine, server, sock)
    thread.start()
    thread.wait_until_it_listens()
    return BackgroundServer(thread)


class _ServerThread(threading.Thread):
    def __init__(self, engine: InferenceEngine, server: Server, sock: socket.socket) -> None:
        super().__init__(name="astrai-server", daemon=True)
        self.engine = engine
        self.server = server
        self.url = url_of(sock)
        self.port = sock.getsockname()[1]
        self._socket = sock

    def run(self) -> None:
        try:
            asyncio.run(self.server.serve(sockets=[self._socket]))
        finally:
            self._socket.close()
            self.server.listens.set()

    def wait_until_it_listens(self) -> None:
        self.server.listens.wait()
        if not self.server.started:
            raise RuntimeError("the server could not start: its thread's traceback says why")

    def stop(self) -> None:
        self.server.should_exit = True
        if self is not threading.current_thread():
            self.join(STOP_TIMEOUT)


def _stop_earlier(engine: InferenceEngine, port: int) -> None:
    """The interpreter's own list of threads knows our servers, so no list of ours can go stale."""
    for thread in threading.enumerate():
        if isinstance(thread, _ServerThread) and (thread.engine is engine or thread.port == port):
            thread.stop()
