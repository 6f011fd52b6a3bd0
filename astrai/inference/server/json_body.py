"""Bytes of a request body to plain values, strictly: what two readers could read differently is refused.

Refused are invalid UTF-8, duplicate keys, NaN and Infinity, numbers too long to be meant, and nesting too deep to walk.
"""

from __future__ import annotations

import json
from typing import Any

from astrai.inference.server.errors import ApiError, invalid

MAX_DIGITS = 40


def parse_object(body: bytes) -> dict[str, Any]:
    """The JSON object in ``body``.

    Raises:
        ApiError: (400) it is none; the message says where and why, without quoting it.
    """
    try:
        text = body.decode("utf-8")
    except UnicodeDecodeError as error:
        raise _refuse(f"byte {error.start} is no UTF-8") from None
    try:
        values = json.loads(text, object_pairs_hook=_object, parse_constant=_constant, parse_int=_integer)
    except json.JSONDecodeError as error:
        raise _refuse(f"{error.msg} at line {error.lineno}, column {error.colno}") from None
    except RecursionError:
        raise _refuse("it is nested too deeply") from None
    if not isinstance(values, dict):
        raise _refuse(f"it holds a {type(values).__name__}, but must be an object such as {{'model': ...}}")
    return values


def _refuse(why: str) -> ApiError:
    return invalid(None, f"the request body is not valid JSON: {why}", code="invalid_json")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) != len(pairs):
        seen: set[str] = set()
        double = next(key for key, _ in pairs if key in seen or seen.add(key))
        raise invalid(double, "the request body has a key twice: send each field once", code="invalid_json")
    return values


def _constant(name: str) -> Any:
    raise _refuse(f"{name} is no JSON number")


def _integer(digits: str) -> int:
    if len(digits) > MAX_DIGITS:
        raise _refuse(f"it has a number of {len(digits):,} digits")
    return int(digits)
