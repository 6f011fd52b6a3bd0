"""A handler that listens to the server's log for a while."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def listening(handler: logging.Handler) -> Iterator[None]:
    """The handler gets all that the server says from INFO on; afterwards all is as before."""
    log = logging.getLogger("astrai.server")
    level = log.level
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    try:
        yield
    finally:
        log.removeHandler(handler)
        log.setLevel(level)
