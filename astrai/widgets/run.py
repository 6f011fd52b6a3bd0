"""A run to look at: a log with the words for its tokens, as pictures, text, a recording or a page.

It needs no notebook. ``astrai.widgets.picture`` puts the same run on a learner's screen.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Sequence
from importlib.resources import files
from itertools import takewhile
from pathlib import Path
from typing import Any, Literal, NamedTuple, Self

from astrai.trace.log import EventLog
from astrai.widgets.data import frames
from astrai.widgets.data.view import RunView, follow
from astrai.widgets.twins import sheet
from astrai.widgets.twins.sheet import PARTS

Decode = Callable[[Sequence[int]], str]


class Moment(NamedTuple):
    """What a picture shows: the JSON forms of ``astrai.widgets.data.view``."""

    state: dict[str, Any]
    timeline: dict[str, Any]
    vocab: dict[str, str]


class Run:
    """What a log tells, now and at every step that it still holds. Any thread may ask.

    Args:
        decode: turns token ids into text; ``None`` shows ids.
    """

    def __init__(self, log: EventLog, decode: Decode | None = None) -> None:
        self.log = log
        self.decode = decode
        self._view: RunView | None = None
        self._lock = threading.Lock()  # guards the view, which is brought up to date by whoever asks

    @classmethod
    def open(cls, source: EventLog | str | os.PathLike[str], tokenizer: Any = None) -> Self:
        """A log, or a file that one was recorded to. Without a tokenizer the bundled one is used if it is the run's.

        Raises:
            TraceError: the file is no trace.
            OSError: it cannot be read.
        """
        log = source if isinstance(source, EventLog) else EventLog.load(source)
        return cls(log, decoder(tokenizer or _bundled_tokenizer(log)))

    def now(self, focus: int | None = None, all_ids: bool = False) -> Moment:
        """The moment of the newest event; only what is new since the last call is read.

        ``focus`` is a slot whose tokens are wanted, ``all_ids`` wants them of all.
        """
        with self._lock:
            self._view = follow(self.log, self._view, self.decode)
            return _moment(self._view, focus, all_ids)

    def at(self, step: int) -> Moment:
        """The moment at the end of a step, with all tokens.

        Raises:
            ValueError: the log does not hold that step.
        """
        seen = self.log.view()
        last = seen.records[-1].step if seen.records else seen.base.step
        if not seen.base.step <= step <= last:
            raise ValueError(f"step {step} is not in the log, which holds the steps {seen.base.step} to {last}")
        view = RunView.of(self.log, self.decode, seen)
        for record in takewhile(lambda record: record.step <= step, seen.records):
            view.apply(record)
        return _moment(view, None, all_ids=True)

    def svg(self, step: int | None = None, parts: Sequence[str] = PARTS, width: int = 960) -> str:
        """The pictures at the end of a step (``None``: now) as one SVG."""
        moment = self.now(all_ids=True) if step is None else self.at(step)
        return sheet.svg(moment.state, moment.timeline, parts, width, moment.vocab)

    def text(self, step: int | None = None, parts: Sequence[str] = PARTS) -> str:
        """The same in words."""
        moment = self.now() if step is None else self.at(step)
        return sheet.text(moment.state, moment.timeline, parts)

    def recording(self, by: Literal["step", "phase"] = "step") -> dict[str, Any]:
        """All frames, for a page that plays them."""
        return frames.recording(self.log, by=by, decode=self.decode)

    def save(self, path: str | os.PathLike[str], parts: Sequence[str] = PARTS, title: str = "A run of AstrAI") -> None:
        """Write one page that plays the run, without a server and without a network."""
        Path(path).write_text(sheet.page(self.recording(), parts, title), encoding="utf-8")


def _moment(view: RunView, focus: int | None, all_ids: bool) -> Moment:
    state = view.state(focus=focus, all_ids=all_ids)
    ids = {token_id for slot in state["slots"] for token_id in slot.get("ids", ())}
    return Moment(state, view.timeline(), view.vocab(ids))


def decoder(tokenizer: Any) -> Decode | None:
    """How a tokenizer shows tokens, special ones included; ``None`` without one."""
    return None if tokenizer is None else lambda ids: tokenizer.decode(list(ids), skip_special=False)


def _bundled_tokenizer(log: EventLog) -> Any:
    wanted = log.header.get("tokenizer_hash")
    if wanted is None:
        return None
    from astrai.tokenizer import Tokenizer

    bundled = Tokenizer.load(str(files("astrai").joinpath("assets/tiny")))
    return bundled if bundled.hash == wanted else None
