"""Answers that take their time: one that streams, one that comes whole. Both end when their client goes away.

They know HTTP (as ASGI) and nothing of what they send. An answer begins with its first block, so that a request that
fails before has a status of its own; one that fails later says so in an event, and ends without ``[DONE]``.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Any

from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send

from astrai.inference.server.errors import ApiError, internal_error

log = logging.getLogger("astrai.server")
EVENT_STREAM = {
    "content-type": "text/event-stream; charset=utf-8",
    "cache-control": "no-cache",
    "x-accel-buffering": "no",
}
CLIENT_GONE = 499  # what the log and the metrics call an answer that nobody waited for
RECORD = "astrai.record"  # where in the ASGI scope a request notes what its log line says


def json_response(body: bytes, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """An answer that is there already."""
    return Response(body, status, headers, media_type="application/json")


def error_response(error: ApiError) -> Response:
    """An error in OpenAI's shape."""
    return json_response(error.to_json(), error.status, error.headers)


class EventStream(Response):
    """Server-sent events from ``source``, block by block, each sent before the next is asked for."""

    def __init__(self, source: AsyncGenerator[bytes, None]) -> None:
        super().__init__()
        self._source = source
        self._has_started = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send until the source ends or the client is gone; the source is closed either way."""
        try:
            if not await _unless_gone(self._send_all(scope, receive, send), receive):
                scope.setdefault(RECORD, {})["status"] = CLIENT_GONE
        finally:
            await self._source.aclose()

    async def _send_all(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            async for block in self._source:
                await self._send_block(send, block)
        except Exception as exception:
            error = _note(scope, exception)
            if not self._has_started:
                await error_response(error)(scope, receive, send)
                return
            await self._send_block(send, b"data: " + error.to_json() + b"\n\n")
        await self._send_block(send, b"", more=False)

    async def _send_block(self, send: Send, block: bytes, more: bool = True) -> None:
        if not self._has_started:
            self._has_started = True
            headers = [(name.encode(), value.encode()) for name, value in EVENT_STREAM.items()]
            await send({"type": "http.response.start", "status": 200, "headers": headers})
        if block or not more:
            await send({"type": "http.response.body", "body": block, "more_body": more})


class WholeAnswer(Response):
    """The JSON that ``source`` makes, as soon as it has."""

    def __init__(self, source: Callable[[], Awaitable[bytes]]) -> None:
        super().__init__()
        self._source = source

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Wait for the answer, or for the client to go."""
        if not await _unless_gone(self._send_all(scope, receive, send), receive):
            scope.setdefault(RECORD, {})["status"] = CLIENT_GONE

    async def _send_all(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            response = json_response(await self._source())
        except Exception as exception:
            response = error_response(_note(scope, exception))
        await response(scope, receive, send)


def _note(scope: Scope, exception: Exception) -> ApiError:
    """What to tell the client, and the log."""
    record: dict[str, Any] = scope.setdefault(RECORD, {})
    if isinstance(exception, ApiError):
        error = exception
        if error.detail:
            log.error("%s: %s", record.get("request_id"), error.detail)
    else:
        log.error("%s: an answer failed", record.get("request_id"), exc_info=exception)
        error = internal_error()
    record["error"] = error.code
    return error


async def _unless_gone(answer: Awaitable[None], receive: Receive) -> bool:
    """Await ``answer``; ``False``, and it is cancelled, if the client goes away first."""
    answering = asyncio.ensure_future(answer)
    gone = asyncio.ensure_future(_until_gone(receive))
    try:
        await asyncio.wait((answering, gone), return_when=asyncio.FIRST_COMPLETED)
        if answering.done():
            answering.result()
        return answering.done()
    finally:
        for task in (answering, gone):
            task.cancel()
        await asyncio.gather(answering, gone, return_exceptions=True)


async def _until_gone(receive: Receive) -> None:
    message: Message = {"type": ""}
    while message["type"] != "http.disconnect":
        message = await receive()
