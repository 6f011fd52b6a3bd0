"""Waiting for something to become true, never for time to pass."""

import time
from collections.abc import Callable


def until(condition: Callable[[], bool], timeout: float = 20.0) -> None:
    """Return as soon as ``condition`` holds; fail if it does not within ``timeout`` seconds."""
    end = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < end, f"not within {timeout} s"
        time.sleep(0.002)
