"""A film in a notebook: it is rendered beside the notebook's own work, and shown when it is done."""

from __future__ import annotations

import base64
import html
import os
import threading
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Self

from astrai.films import catalogue
from astrai.films.child import FilmError, FilmProcess, Progress
from astrai.trace.log import EventLog

STYLE = "max-width:854px;width:100%"


def film(
    name: str,
    trace: EventLog | str | os.PathLike[str] | None = None,
    quality: str = "l",
    to: str | os.PathLike[str] = "films",
) -> Rendering:
    """Render a film, of your own run if you give its ``trace``, and show it when it is done.

    ``trace`` is a log such as ``engine.trace``, as it is now, or a file that one was recorded to. ``quality`` is ``l``
    (854x480), ``m`` or ``h``; ``to`` is the folder for the video. It returns at once: the work is done in a process of
    its own.

    Raises:
        ValueError: there is no such film or quality, it plays no trace, the file is no trace, or manim is missing.
        OSError: the file cannot be read.

    Example:
        >>> astrai.film("FourPhases", trace=engine.trace)  # doctest: +SKIP
    """
    (info,) = catalogue.choose([name], trace)
    catalogue.check_quality(quality)
    run = trace if trace is None or isinstance(trace, EventLog) else Path(trace)
    if run is not None:
        catalogue.check_trace(run)
    catalogue.check_manim()
    return Rendering(FilmProcess(info, quality, Path(to), run), Path(to).resolve() / f"{info.name}.mp4")


class Rendering:
    """A film on its way, which a notebook shows as a bar and then as a video.

    ``path`` is where the video will be. ``error`` says why there will be none, and is empty otherwise.
    """

    def __init__(self, process: FilmProcess, path: Path) -> None:
        self.path = path
        self.error = ""
        self.progress = Progress(0.0, 0.0)
        self._process = process
        self._over = threading.Event()
        self.widget: Any = None
        if find_spec("ipywidgets"):
            from ipywidgets import HTML

            self.widget = HTML(self._as_html())
        threading.Thread(target=self._follow, name=f"film-{process.info.name}", daemon=True).start()

    @property
    def done(self) -> bool:
        """Whether the video is there."""
        return self._over.is_set() and not self.error

    def wait(self, timeout: float | None = None) -> Path:
        """The video's path, once it is there.

        Raises:
            FilmError: it could not be rendered, or was cancelled.
            TimeoutError: it is not there after ``timeout`` seconds; it goes on all the same.
        """
        if not self._over.wait(timeout):
            raise TimeoutError(f"{self!r} after {timeout} s")
        if self.error:
            raise FilmError(self.error)
        return self.path

    def cancel(self) -> None:
        """Stop rendering. A film that is done stays."""
        self._process.stop()
        self._over.wait()

    def close(self) -> None:
        """Cancel it, and take it off the page."""
        self.cancel()
        if self.widget is not None:
            self.widget.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.cancel()

    def __repr__(self) -> str:
        name = self._process.info.name
        if self.error:
            return f"no film: {self.error}"
        if self.done:
            return f"{name}: {self.path}"
        done, total = self.progress
        return f"{name} is being rendered: {done:.0f} of {total:.0f} s" if total else f"{name} begins to be rendered"

    def _repr_mimebundle_(self, **options: Any) -> Any:
        still = {"text/plain": repr(self), "text/html": self._as_html(kept=True)}
        shown = self.widget._repr_mimebundle_(**options) if self.widget is not None else None
        if shown is None:
            return still
        data, metadata = shown if isinstance(shown, tuple) else (shown, {})
        return {**data, **still}, metadata

    def _follow(self) -> None:
        try:
            self._process.follow(self._tell)
        except Exception as error:
            self.error = str(error)
        self._over.set()
        self._show()

    def _tell(self, progress: Progress) -> None:
        self.progress = progress
        self._show()

    def _show(self) -> None:
        if self.widget is not None and self.widget.comm is not None:
            self.widget.value = self._as_html()

    def _as_html(self, kept: bool = False) -> str:
        """What there is to see now. ``kept`` is for a page without Python: a still instead of a bar."""
        info = self._process.info
        about = html.escape(f"{info.title}: {info.about}")
        if self.error:
            return f'<pre role="alert">{html.escape(repr(self))}</pre>'
        if self.done:
            shown = f'aria-label="{about}" style="{STYLE}" src="{_embedded(self.path)}"'
            return f"<video controls playsinline {shown}></video>"
        still = catalogue.home().folder / "stills" / f"{info.name}.png"
        if kept and still.is_file():
            return f'<img alt="{about}" style="{STYLE}" src="{_embedded(still)}">'
        done, total = self.progress
        share = f' value="{done:.1f}" max="{total:.1f}"' if total else ""
        percent = f"{100 * done / total:.0f} %" if total else "..."
        label = f'aria-label="{info.name} is being rendered"'
        return f"<label>{info.name} <progress {label}{share}></progress> {percent}</label>"


def _embedded(path: Path) -> str:
    kind = {".mp4": "video/mp4", ".png": "image/png"}[path.suffix]
    return f"data:{kind};base64,{base64.b64encode(path.read_bytes()).decode()}"
