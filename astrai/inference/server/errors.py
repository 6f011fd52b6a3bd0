"""What goes wrong, in the shape that OpenAI's clients read.

One exception carries an HTTP status and the fields of ``{"error": {...}}``. What it says is for the client: it names
what was given, what is allowed and what to do, and never quotes a prompt. It knows no HTTP library.
"""

from __future__ import annotations

import json
from typing import Any

MAX_NAME = 64  # characters of a field's name that are said back


class ApiError(Exception):
    """An answer that is an error. ``kind`` is OpenAI's ``type``; ``headers`` go out with it."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        param: str | None = None,
        code: str | None = None,
        kind: str | None = None,
        headers: dict[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.param = param if param is None else param[:MAX_NAME]
        self.code = code
        self.kind = kind or ("server_error" if status >= 500 else "invalid_request_error")
        self.headers = headers or {}
        self.detail = ""  # for the log alone

    def to_dict(self) -> dict[str, Any]:
        """``{"error": {"message", "type", "param", "code"}}``."""
        return {"error": {"message": self.message, "type": self.kind, "param": self.param, "code": self.code}}

    def to_json(self) -> bytes:
        """The body of the answer, in ASCII, so that even a lone surrogate in a field's name can be said back."""
        return json.dumps(self.to_dict()).encode("ascii")


def invalid(param: str | None, message: str, code: str | None = None) -> ApiError:
    """The client's mistake in one field."""
    return ApiError(400, message, param=param, code=code)


def internal_error() -> ApiError:
    """Ours. The log says more, beside the same request id."""
    return ApiError(500, "the server failed on this request; its log says why", code="internal_error")


def unavailable(reason: str, code: str = "unavailable") -> ApiError:
    """Nothing is taken right now."""
    return ApiError(503, reason, code=code)
