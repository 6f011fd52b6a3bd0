"""One film in a process of its own: started, followed and, if need be, stopped.

The child reports on its standard output, one JSON value a line. Its standard input is never written to: it ends when
that is closed, so that no child outlives the program that started it, however that one ends.
"""

from __future__ import annotations

import atexit
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from astrai.films import catalogue
from astrai.films.catalogue import HOW_TO_INSTALL, FilmInfo
from astrai.trace.log import EventLog

ERRORS = "errors.txt"
TAIL = 6  # lines of an unexpected error that are shown
GRACE = 10  # seconds in which a child that was killed has to be gone


class FilmError(RuntimeError):
    """A film could not be rendered. ``everywhere`` says that no other film can be, either."""

    def __init__(self, message: str, everywhere: bool = False) -> None:
        super().__init__(message)
        self.everywhere = everywhere


class Progress(NamedTuple):
    """How far a film is: ``done`` of ``total`` seconds. ``total`` is 0 while it is not yet known."""

    done: float
    total: float


@dataclass(frozen=True, slots=True)
class Rendered:
    """A finished film: the video, its length, how long it took (both in seconds), and what there is of a GIF."""

    path: Path
    seconds: float
    wall: float
    gif: dict[str, Any] | None = None


class FilmProcess:
    """Renders one film. It starts at once; :meth:`follow` is to be called once, from any thread.

    ``out`` is the folder for the video and its subtitles, ``trace`` a recorded run to play instead of the kept one.
    """

    def __init__(
        self,
        info: FilmInfo,
        quality: str = "l",
        out: Path = Path("films"),
        trace: EventLog | Path | None = None,
        gif: bool = False,
    ) -> None:
        self.info = info
        self._started = time.monotonic()
        self._stopped = False
        self._lock = threading.Lock()  # the temporary folder is removed once
        self._folder = tempfile.TemporaryDirectory(prefix="astrai-films-", ignore_cleanup_errors=True)
        self.folder = Path(self._folder.name)  # where it works; removed with it
        if isinstance(trace, EventLog):
            log, trace = trace, self.folder / "run.jsonl"
            log.save(trace)
        package, _, root = catalogue.home()
        command = [sys.executable, "-m", f"{package}.render", info.name, "--folder", str(self.folder)]
        command += ["--quality", quality, "--out", str(out.resolve())]
        command += ["--trace", str(trace.resolve())] if trace else []
        command += ["--gif"] if gif else []
        paths = filter(None, [str(root), os.environ.get("PYTHONPATH")])
        with (self.folder / ERRORS).open("wb") as errors:
            self._process = subprocess.Popen(
                command,
                cwd=self.folder,
                env=os.environ | {"PYTHONPATH": os.pathsep.join(paths)},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                start_new_session=True,  # an interrupt is for whoever waits: a notebook's other cells stop no film
            )
        atexit.register(self.stop)

    @property
    def pid(self) -> int:
        """The child's number with the operating system."""
        return self._process.pid

    def follow(self, tell: Callable[[Progress], None] = lambda progress: None) -> Rendered:
        """Wait for the film, telling how far it is.

        Raises:
            FilmError: it could not be rendered, or was stopped.
        """
        total, last = 0.0, {"kind": "", "message": ""}
        assert self._process.stdout is not None
        try:
            for line in self._process.stdout:
                try:
                    last = json.loads(line)
                except json.JSONDecodeError as error:
                    raise FilmError(f"{self.info.name}: its process wrote {line!r}, which is no report") from error
                if last["kind"] == "started":
                    total = last["seconds"]
                    tell(Progress(0.0, total))
                elif last["kind"] == "beat":
                    tell(Progress(last["at"], total))
            return self._result(self._process.wait(), last)
        finally:
            self.stop()
            self._process.stdout.close()

    def stop(self) -> None:
        """End the child if it still runs, and remove what it left behind. A second call does nothing."""
        with self._lock:
            if self._stopped:
                return
            self._stopped = True
            self._process.kill()
            self._process.wait(GRACE)
            assert self._process.stdin is not None
            self._process.stdin.close()
            self._folder.cleanup()
        atexit.unregister(self.stop)

    def _result(self, code: int, last: dict[str, Any]) -> Rendered:
        name, wall = self.info.name, time.monotonic() - self._started
        if self._stopped:
            raise FilmError(f"{name} was stopped")
        if code == 0 and last["kind"] == "done":
            return Rendered(Path(last["path"]), last["seconds"], wall, last.get("gif"))
        if last["kind"] == "unusable":
            raise FilmError(f"manim is installed, but cannot be used: {last['message']}: {HOW_TO_INSTALL}", True)
        if last["kind"] == "failed" and last["message"]:
            raise FilmError(f"{name}: {last['message']}")
        tail = (self.folder / ERRORS).read_text(errors="replace").strip().splitlines()[-TAIL:]
        raise FilmError("\n    ".join([f"{name}: the film's process ended with code {code}", *tail]))
