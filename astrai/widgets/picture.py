"""Pictures of a run in a notebook: live while the engine generates, or played from a recording.

``astrai.watch(engine)`` and ``astrai.play("run.jsonl")`` put all of them together; each also stands alone. Whatever
they show is in two strings of JSON, so that a page that is reloaded, or opened a second time, shows the same.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from typing import Any, ClassVar

from astrai.trace.log import EventLog
from astrai.widgets.assemble import css, esm
from astrai.widgets.run import Run, decoder
from astrai.widgets.twins.sheet import PARTS, SCRIPTS
from astrai.widgets.watcher import Watcher

try:
    import anywidget
    import traitlets
except ImportError as error:
    raise ImportError(f"live pictures need {error.name}: pip install 'astrai[lab]'", name=error.name) from error


class Picture(anywidget.AnyWidget):
    """One or more pictures of a run.

    Args:
        source: an engine (anything with a ``trace``), a log, or a file that a run was recorded to.
        tokenizer: turns token ids into text; by default the engine's own, or the bundled one if the run used it.
        hz: how often a live picture is renewed, at most; large ones are renewed less often.

    Example:
        >>> engine = astrai.InferenceEngine(*astrai.load("tiny"), num_slots=4)  # doctest: +SKIP
        >>> SlotMap(engine)  # doctest: +SKIP
    """

    names: ClassVar[Sequence[str]] = PARTS
    watcher: Watcher | None = None  # while it is live
    _esm = esm(*SCRIPTS, "widget")
    _css = css()

    parts = traitlets.List(traitlets.Unicode()).tag(sync=True)
    view = traitlets.Unicode().tag(sync=True)  # JSON: state, timeline and vocab of now
    recording = traitlets.Unicode().tag(sync=True)  # JSON, empty while the picture is live
    note = traitlets.Unicode().tag(sync=True)
    can_rewind = traitlets.Bool(False).tag(sync=True)
    focus = traitlets.Int(-1).tag(sync=True)  # from the page: the slot whose tokens it would like
    asked = traitlets.Unicode("live").tag(sync=True)  # from the page: "recording" or "live"

    def __init__(self, source: Any, *, tokenizer: Any = None, hz: float = 10.0) -> None:
        engine = source if hasattr(source, "trace") else None
        if engine is None:
            self.run = Run.open(source, tokenizer)
        else:
            self.run = Run(engine.trace, decoder(tokenizer or getattr(engine, "tokenizer", None)))
        super().__init__(parts=list(self.names))
        if engine is None:
            self._send_view()
            self.recording = _to_json(self.run.recording())
        else:
            self.can_rewind = True
            self.note = "live"
            self._send_view()
            self.watcher = Watcher(self.run.log, self._send_view, engine=engine, ended=self._say_ended, hz=hz)
            self.watcher.start()
            self.observe(self._look_again, "focus")
            self.observe(self._answer, "asked")

    def svg(self, step: int | None = None) -> str:
        """The picture at the end of a step (``None``: now) as an SVG that stands for itself."""
        return self.run.svg(step, self.names)

    def text(self, step: int | None = None) -> str:
        """The same facts in words."""
        return self.run.text(step, self.names)

    def save(self, path: str | os.PathLike[str], title: str = "A run of AstrAI") -> None:
        """Write one page that plays the run, offline."""
        self.run.save(path, self.names, title)

    def stop(self) -> None:
        """Renew the picture no more. The engine goes on."""
        if self.watcher is not None:
            self.watcher.stop()
            self.note = "stopped"

    def close(self) -> None:
        """Stop, and take the picture off the page."""
        self.stop()
        super().close()

    def _repr_mimebundle_(self, **options: Any) -> Any:
        shown = super()._repr_mimebundle_(**options)
        if shown is None:
            return None
        data, metadata = shown
        return {**data, "text/plain": self.text(), "image/svg+xml": self.svg()}, metadata

    def _send_view(self) -> int:
        focus = self.focus if 0 <= self.focus < self.run.log.num_slots else None
        self.view = _to_json(self.run.now(focus)._asdict())
        return len(self.view)

    def _look_again(self, change: Any) -> None:
        if self.watcher is not None and self.watcher.is_alive:
            self.watcher.look_again()
        else:
            self._send_view()

    def _answer(self, change: Any) -> None:
        if self.asked != "recording":
            self.recording = ""
            return
        note, self.note = self.note, "putting the recording together ..."  # of a long run, that takes seconds
        try:
            self.recording = _to_json(self.run.recording())
        finally:
            self.note = note

    def _say_ended(self, why: str) -> None:
        self.note = f"ended: {why}"


class SlotMap(Picture):
    """Rows are slots, columns are positions: what each holds, and how it came there."""

    names = ("slots",)


class RadixTree(Picture):
    """The radix tree: what the slots hold, with the rows that hold it, locks and last use."""

    names = ("tree",)


class PhaseTimeline(Picture):
    """Each step as a bar of its four phases, and the requests below it."""

    names = ("counters", "timeline")


class Dashboard(Picture):
    """All pictures of a run together."""


def watch(engine: Any, *, hz: float = 10.0) -> Dashboard:
    """A live dashboard of an engine. Asked again for the same engine, it is the same one, shown once more.

    Example:
        >>> dashboard = astrai.watch(engine)  # doctest: +SKIP
        >>> dashboard  # in a cell of its own, then generate  # doctest: +SKIP
    """
    if not hasattr(engine, "trace"):
        raise TypeError(f"watch() shows an engine at work, not a {type(engine).__name__}; play() shows recorded runs")
    present = getattr(engine, "dashboard", None)
    if isinstance(present, Dashboard) and present.comm is not None and present.watcher and present.watcher.is_alive:
        return present
    engine.dashboard = Dashboard(engine, hz=hz)
    return engine.dashboard


def play(source: EventLog | str | os.PathLike[str], *, tokenizer: Any = None) -> Dashboard:
    """A dashboard that plays a recorded run: a file from ``engine.trace.record(path)``, or a log.

    Example:
        >>> astrai.play("run.jsonl")  # doctest: +SKIP
    """
    return Dashboard(source, tokenizer=tokenizer)


def _to_json(values: Any) -> str:
    return json.dumps(values, separators=(",", ":"))
