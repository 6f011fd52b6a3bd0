"""``astrai serve``: one process that loads a model and serves it until it is told to stop."""

from __future__ import annotations

import asyncio
import logging
import os
from pathlib import Path
from typing import Any

from astrai.inference.engine import InferenceEngine
from astrai.inference.server.app import create_app
from astrai.inference.server.config import ServerConfig
from astrai.inference.server.listening import Server, bind, url_of, warn_if_open
from astrai.model.checkpoint import load

log = logging.getLogger("astrai.server")
SHUTDOWN_TIMEOUT = 5.0


def serve(
    model: str = "tiny",
    *,
    host: str = "127.0.0.1",
    port: int = 8000,
    max_batch_size: int = 16,
    num_slots: int | None = None,
    max_seq_len: int | None = None,
    max_waiting: int = 4096,
    dtype: str | None = None,
    device: str | None = None,
    grace: float = 10.0,
    write_timeout: float = 30.0,
    **settings: Any,
) -> None:
    """Serve until SIGINT or SIGTERM; a second one quits at once. The port is opened first, the model loaded then.

    ``max_batch_size`` requests run at once; ``num_slots`` rows (as many, unless given) remember prefixes. When told to
    stop, running requests may finish for ``grace`` seconds; a reader that takes nothing for ``write_timeout`` seconds
    is dropped. More keywords are fields of :class:`ServerConfig`; without ``api_key`` the environment's
    ``ASTRAI_API_KEY`` is used, without ``model_name`` the folder's name.

    Raises:
        ValueError: a setting or the model cannot be used.
        OSError: the port cannot be opened (``PortInUseError``), or a file cannot be read.
    """
    _log_to_stderr()
    settings.setdefault("model_name", Path(model).expanduser().resolve().name if Path(model).is_dir() else model)
    if settings.get("api_key") is None:
        settings["api_key"] = os.environ.get("ASTRAI_API_KEY") or None
    config = ServerConfig(**settings)
    sock = bind(host, port)
    url = url_of(sock)

    def load_engine() -> InferenceEngine:
        log.info("%s is open, loading %s", url, model)
        return InferenceEngine(
            *load(model, dtype=dtype, device=device),
            num_slots=num_slots or max_batch_size,
            max_running=max_batch_size,
            max_seq_len=max_seq_len,
            max_waiting=max_waiting,
        )

    with sock:
        warn_if_open(host, config.api_key)
        server = Server(create_app(None, config), grace=grace, write_timeout=write_timeout, load=load_engine)
        asyncio.run(server.serve(sockets=[sock]))
    if server.service.engine is not None:
        server.service.engine.shutdown(SHUTDOWN_TIMEOUT)
    if server.failure is not None:
        raise server.failure


def _log_to_stderr() -> None:
    """Unless whoever calls has arranged for our log."""
    package = logging.getLogger("astrai")
    if not package.hasHandlers():
        handler = logging.StreamHandler()
        handler.setFormatter(logging.Formatter("%(asctime)s %(message)s"))
        package.addHandler(handler)
        package.setLevel(logging.INFO)
