"""Limits on what comes before a body: the size of a request's head, and the time that it may take.

Uvicorn has neither, and both come before any key is asked for. It knows bytes and clocks, and no routes.
"""

from __future__ import annotations

import time
from http import HTTPStatus
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from astrai.inference.server.errors import ApiError

MAX_HEAD_BYTES = 64 * 2**10


class LimitedHeads(HttpToolsProtocol):
    """A connection that ends when a request's head grows too large. ``head_since`` is when it began to wait for one.

    ``head_since`` is in seconds of ``time.monotonic``, ``None`` while no head is awaited: a request is being answered,
    or the connection rests between two, for which uvicorn has a time.
    """

    def connection_made(self, transport: Any) -> None:
        """The first head is awaited from now on."""
        self.head_since: float | None = time.monotonic()
        self._head_bytes = 0
        super().connection_made(transport)

    def on_message_begin(self) -> None:
        """A head begins."""
        self.head_since, self._head_bytes = time.monotonic(), 0
        super().on_message_begin()

    def on_url(self, url: bytes) -> None:
        """A piece of the path and the query."""
        self._head_bytes += len(url)
        if self._head_bytes <= MAX_HEAD_BYTES:
            super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """Count, and keep no more than the limit."""
        self._head_bytes += len(name) + len(value)
        if self._head_bytes <= MAX_HEAD_BYTES:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """The head is there: from here on the body's limits count."""
        self.head_since = None
        if self._head_bytes > MAX_HEAD_BYTES:
            self.refuse(431, f"the head of the request has more than the {MAX_HEAD_BYTES:,} bytes allowed")
        else:
            super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """Of a request that was refused nothing is kept."""
        if not self.transport.is_closing():
            super().on_body(body)

    def on_message_complete(self) -> None:
        """A request that was refused never became one."""
        if not self.transport.is_closing():
            super().on_message_complete()

    def data_received(self, data: bytes) -> None:
        """Refuse a head that is too large before its end has come."""
        if self.transport.is_closing():
            return
        parsed = self._head_bytes
        super().data_received(data)
        if self.head_since is not None and not self.transport.is_closing():
            # One header without an end is not seen by on_header: count what came and told nothing.
            self._head_bytes += len(data) if self._head_bytes == parsed else 0
            if self._head_bytes > MAX_HEAD_BYTES:
                self.refuse(431, f"the head of the request has more than the {MAX_HEAD_BYTES:,} bytes allowed")

    def refuse(self, status: int, message: str) -> None:
        """Answer in OpenAI's shape, and close."""
        body = ApiError(status, message).to_json()
        head = (
            f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\ncontent-type: application/json\r\n"
            f"content-length: {len(body)}\r\nconnection: close\r\n\r\n"
        )
        self.head_since = None
        self.transport.write(head.encode("ascii") + body)
        self.transport.close()
