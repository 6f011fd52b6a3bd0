"""What is said while the model loads is true in the moment in which it is said."""

from __future__ import annotations

import asyncio
import logging

import astrai
from astrai.inference.engine import InferenceEngine
from astrai.inference.server.app import create_app
from astrai.inference.server.config import ServerConfig
from astrai.inference.server.listening import Server, bind, url_of
from tests.server.logs import listening


class Witness(logging.Handler):
    """Notes for each message of the log what ``/health`` would say to who reads it at once."""

    def __init__(self) -> None:
        super().__init__()
        self.server: Server | None = None
        self.seen: list[tuple[str, tuple[str, str] | None]] = []

    def emit(self, record: logging.LogRecord) -> None:
        assert self.server is not None
        self.seen.append((record.getMessage(), self.server.service.problem()))
        self.server.should_exit = True


def test_who_reads_that_the_server_is_ready_is_served_at_once() -> None:
    engine, witness = InferenceEngine(*astrai.load("tiny"), num_slots=1), Witness()
    with engine, bind("127.0.0.1", 0) as sock, listening(witness):
        app = create_app(None, ServerConfig(model_name="tiny"))
        witness.server = server = Server(app, grace=1.0, write_timeout=1.0, load=lambda: engine)
        url = url_of(sock)
        asyncio.run(server.serve(sockets=[sock]))
    ((words, problem),) = witness.seen
    assert words.startswith("ready after") and words.endswith(f"base_url {url}/v1")
    assert problem is None
