"""The door of the server: a request id for everybody, the key, the log line, and no exception beyond it.

Plain ASGI around the whole application. Log lines are JSON, one a request; prompts are in none unless asked for.
"""

from __future__ import annotations

import asyncio
import hmac
import ipaddress
import json
import logging
import time
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from astrai.inference.server.errors import ApiError, internal_error, unavailable
from astrai.inference.server.responses import CLIENT_GONE, RECORD, error_response
from astrai.inference.server.service import Service

log = logging.getLogger("astrai.server")
OPEN_PATHS = ("/", "/health")
QUIET_PATHS = ("/health", "/metrics")


class Gate:
    """What every request passes on its way in, and every answer on its way out."""

    def __init__(self, app: ASGIApp, service: Service) -> None:
        self.app = app
        self.service = service

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, whatever happens in it."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        started = time.monotonic()
        record: dict[str, Any] = {"request_id": f"req_{uuid4().hex}"}
        request_id = (b"x-request-id", record["request_id"].encode())
        scope[RECORD] = record

        async def send_with_id(message: Message) -> None:
            if message["type"] == "http.response.start":
                record.setdefault("status", message["status"])
                message["headers"] = [*message.get("headers", ()), request_id]
            await send(message)

        try:
            await self._answer(scope, receive, send_with_id, record)
        finally:
            self._report(scope, record, time.monotonic() - started)

    async def _answer(self, scope: Scope, receive: Receive, send: Send, record: dict[str, Any]) -> None:
        try:
            self._check_host(scope)
            self._check_key(scope)
            await self.app(scope, receive, send)
        except ClientDisconnect:
            record["status"] = CLIENT_GONE
        except asyncio.CancelledError:
            closing = self.service.closing
            if closing is None or "status" in record:
                raise
            # The server ends, and waits no longer for a body on its way or a prompt that is being cut.
            record["error"] = "closing"
            await error_response(unavailable(closing, code="closing"))(scope, receive, send)
        except Exception as exception:
            if not isinstance(exception, ApiError):
                log.exception("%s: unexpected", record["request_id"])
            if "status" in record:  # too late to say it: the connection is closed instead
                raise
            error = exception if isinstance(exception, ApiError) else internal_error()
            record["error"] = error.code
            await error_response(error)(scope, receive, send)

    def _check_host(self, scope: Scope) -> None:
        """Without a key, this machine's own address answers only to its own names.

        A page on the internet can make its name lead to 127.0.0.1, and would then read what we answer to a browser.
        """
        address = (scope.get("server") or ("",))[0]
        if self.service.config.api_key is not None or address not in ("127.0.0.1", "::1"):
            return
        given = next((value for name, value in scope["headers"] if name == b"host"), b"localhost").decode("latin-1")
        if not _leads_here(given):
            message = "without an API key this address answers only to localhost and 127.0.0.1: use one, or set a key"
            raise ApiError(403, message, code="wrong_host")

    def _check_key(self, scope: Scope) -> None:
        key = self.service.config.api_key
        if key is None or scope["path"] in OPEN_PATHS:
            return
        given = next((value for name, value in scope["headers"] if name == b"authorization"), b"")
        scheme, _, token = given.partition(b" ")
        # NOTE: compared in constant time, so that the time of an answer tells nothing about the key.
        if scheme.lower() != b"bearer" or not hmac.compare_digest(token.strip(), key.encode()):
            message = "the API key is missing or wrong: send it as the header Authorization: Bearer KEY"
            raise ApiError(401, message, code="invalid_api_key", headers={"www-authenticate": "Bearer"})

    def _report(self, scope: Scope, record: dict[str, Any], seconds: float) -> None:
        route = getattr(scope.get("route"), "path", "other")
        status = record.setdefault("status", CLIENT_GONE)
        self.service.metrics.count_http(route, status)
        level = logging.DEBUG if route in QUIET_PATHS else logging.INFO
        if log.isEnabledFor(level):
            values = {"method": scope["method"], "path": scope["path"], **record, "ms": round(seconds * 1000, 1)}
            log.log(level, "%s", json.dumps(values))


def _leads_here(host: str) -> bool:
    """Whether a Host header, with or without a port, is localhost or an address."""
    try:
        name = urlsplit(f"//{host}").hostname or ""
        return name == "localhost" or name.endswith(".localhost") or bool(ipaddress.ip_address(name))
    except ValueError:
        return False
