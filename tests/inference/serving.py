"""What the tests of the server share: raw sockets for bad manners, and a sampler that stops the model at will."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Callable
from http.client import HTTPConnection, HTTPException
from urllib.parse import urlsplit

from astrai.inference.sampler import Sampler

PATIENCE = 60.0  # seconds, for a slow and busy machine; nothing waits that long when all is well


def wait_until(condition: Callable[[], object], what: str = "the condition") -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, f"{what} did not come true"
        time.sleep(0.01)


def health_of(url: str) -> tuple[int, str] | None:
    """Status and word of ``/health``; ``None`` when nobody listens. Cheap, since tests ask often."""
    connection = HTTPConnection(urlsplit(url).netloc, timeout=PATIENCE)
    try:
        connection.request("GET", "/health")
        response = connection.getresponse()
        return response.status, json.load(response)["status"]
    except (OSError, HTTPException):
        return None
    finally:
        connection.close()


class PacedSampler(Sampler):
    """Lets one step through for each ``release()``, or all after ``open()``; ``fail`` makes the next one raise."""

    def __init__(self) -> None:
        self._steps = threading.Semaphore(0)
        self._is_open = threading.Event()
        self.waits = threading.Event()  # set when a step stands before the barrier
        self.fail: BaseException | None = None

    def release(self, steps: int = 1) -> None:
        self._steps.release(steps)

    def open(self) -> None:
        self._is_open.set()
        self._steps.release()

    def __call__(self, logits, requests):
        if not self._is_open.is_set():
            self.waits.set()
            assert self._steps.acquire(timeout=PATIENCE)
            self.waits.clear()
        if self.fail is not None:
            error, self.fail = self.fail, None
            raise error
        return super().__call__(logits, requests)


class RawClient:
    """An HTTP client that can be as rude as a test needs."""

    def __init__(self, url: str, receive_buffer: int | None = None) -> None:
        parts = urlsplit(url)
        self.socket = socket.socket()
        if receive_buffer is not None:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.socket.settimeout(PATIENCE)
        self.socket.connect((parts.hostname, parts.port))
        self.received = b""

    def post(self, path: str, body: dict | bytes, **headers: str) -> RawClient:
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()
        lines = {"host": "localhost", "content_type": "application/json", "content_length": str(len(raw)), **headers}
        head = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in lines.items())
        self.socket.sendall(f"POST {path} HTTP/1.1\r\n{head}\r\n".encode() + raw)
        return self

    def read_until(self, end: bytes) -> bytes:
        while end not in self.received:
            data = self.socket.recv(65536)
            assert data, f"the server closed after {self.received!r}"
            self.received += data
        return self.received

    def read_all(self) -> bytes:
        while data := self.socket.recv(65536):
            self.received += data
        return self.received

    def close(self) -> None:
        self.socket.close()

    def __enter__(self) -> RawClient:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()
