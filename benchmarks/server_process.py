"""``astrai serve`` as a process of its own, and what can be seen of it from outside."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import psutil

ROOT = Path(__file__).parents[1]
OPEN = re.compile(r"(http://\S+) is open")
READY = "ready after"


class Footprint(NamedTuple):
    """What a process holds."""

    rss: int  # bytes
    threads: int
    files: int  # open descriptors, sockets among them


class ServerProcess:
    """A server that was started. Its log is read all the time, so that it never waits for us."""

    def __init__(self, options: Sequence[str]) -> None:
        command = [sys.executable, "-m", "astrai", "serve", *options]
        path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
        environment = {**os.environ, "PYTHONPATH": path, "PYTHONUNBUFFERED": "1", "OMP_NUM_THREADS": "1"}
        self.process = subprocess.Popen(command, cwd=ROOT, env=environment, stderr=subprocess.PIPE, text=True)
        self.lines: list[str] = []
        self._url: str | None = None
        self._changed = threading.Condition()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            with self._changed:
                self.lines.append(line)
                if (found := OPEN.search(line)) is not None:
                    self._url = found[1]
                self._changed.notify_all()
        with self._changed:
            self.lines.append("")  # the end
            self._changed.notify_all()

    def wait_for(self, text: str, timeout: float = 60.0) -> None:
        """Until its log says ``text``.

        Raises:
            RuntimeError: it ended, or time is up, before it did.
        """
        with self._changed:
            self._changed.wait_for(lambda: any(text in line for line in self.lines) or "" in self.lines, timeout)
            if not any(text in line for line in self.lines):
                raise RuntimeError(f"the server did not say {text!r}, but:\n{self.log}")

    @property
    def url(self) -> str:
        """Where it listens."""
        self.wait_for(" is open")
        assert self._url is not None
        return self._url

    @property
    def log(self) -> str:
        """All that it said so far."""
        return "".join(self.lines)

    def end(self, timeout: float = 30.0) -> int:
        """Wait until it has ended, and all it said is read; returns its exit code."""
        code = self.process.wait(timeout)
        self._reader.join(timeout)
        return code

    def footprint(self) -> Footprint:
        """What it holds now."""
        process = psutil.Process(self.process.pid)
        return Footprint(process.memory_info().rss, process.num_threads(), process.num_fds())

    def get(self, path: str) -> dict[str, Any]:
        """The JSON of one of its pages."""
        return httpx.get(self.url + path, timeout=30).json()


@contextmanager
def server_process(*options: str, port: int = 0) -> Iterator[ServerProcess]:
    """Start a server with these options and kill it at the end, if it still runs."""
    server = ServerProcess(["--port", str(port), *options])
    try:
        yield server
    finally:
        if server.process.poll() is None:
            server.process.kill()
        server.end()
        assert server.process.stderr is not None
        server.process.stderr.close()
