"""A real scheduler, driven by hand: phase by phase, with a way back to every moment, and forks under other policies.

The engine is handed in and known by what it offers: ``scheduler``, ``trace``, ``tokenizer``, ``submit``, ``cancel`` and
``rerun``. Nothing here needs a notebook; in one, a stepper shows itself with buttons (``stepper_view.py``).
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

from astrai.config import SamplingParams
from astrai.trace.events import Phase
from astrai.widgets.run import decoder
from astrai.widgets.stepping import stepper_twins as twins
from astrai.widgets.stepping.at_work import rows_of, source_of
from astrai.widgets.stepping.driver import Driver
from astrai.widgets.stepping.forked import Forked


@dataclass(frozen=True, slots=True)
class _Ask:
    """What an engine's ``submit`` reads of a request."""

    prompt: Any
    messages: Any
    sampling: SamplingParams
    timeout: None = None
    on_token: None = None


class SchedulerStepper:
    """Steps an engine's scheduler, and shows each moment with the source of the phase that led there.

    There is one frame for each phase. Looking back changes nothing: a step always goes on from the newest frame.

    Args:
        engine: an ``InferenceEngine`` made with ``start=False``.
        timings: ``False`` counts tokens where times would stand, so that the same run always looks the same.

    Raises:
        StepperError: the engine steps by itself.

    Example:
        >>> engine = astrai.InferenceEngine(*astrai.load("tiny"), num_slots=4, start=False)  # doctest: +SKIP
        >>> stepper = SchedulerStepper(engine)  # doctest: +SKIP
        >>> stepper.add("Once upon a time", max_tokens=8)  # doctest: +SKIP
        0
        >>> stepper.phase()  # the cleanup, which reads the inbox  # doctest: +SKIP
        >>> print(stepper.text())  # doctest: +SKIP
    """

    def __init__(self, engine: Any, timings: bool = True) -> None:
        self.engine = engine
        self.timings = timings
        self.forked: Forked | None = None
        self.said = "Add requests, then step."  # the last thing to tell
        self.inbox: list[dict[str, Any]] = []  # what was posted here and is read in the next cleanup
        self.changed: Callable[[], None] = lambda: None  # called after every action, on its thread
        self._decode = decoder(engine.tokenizer)
        self._driver = Driver(engine, self._decode)
        self._shown: int | None = None  # a frame's number; None: the newest
        self._view: Any = None
        self._lock = threading.RLock()  # a notebook may answer clicks while a cell runs

    @property
    def scheduler(self) -> Any:
        """The engine's scheduler."""
        return self._driver.scheduler

    @contextmanager
    def _acting(self) -> Iterator[None]:
        with self._lock:
            try:
                yield
            except Exception as error:
                self.said = str(error) or type(error).__name__
                raise
            finally:
                self.changed()

    # --- driving ------------------------------------------------------------------------------------------------------

    def step(self, times: int = 1) -> None:
        """Turn the loop; a step that was begun phase by phase is finished first, as one of ``times``.

        Raises:
            StepperError: the scheduler cannot be driven.
            Exception: what a phase raised. The frame shows where.
        """
        with self._acting():
            for _ in range(times):
                self._drive(self._driver.step)
            self.said = f"Step {self.scheduler.step_count:,} is done."

    def phase(self) -> None:
        """Run the next phase only: cleanup (which begins a step), refill, prefill or decode.

        Raises:
            StepperError: the scheduler cannot be driven, or has a ``step`` of its own.
            Exception: what the phase raised. The frame shows where.
        """
        with self._acting():
            name = self.next_phase
            self._drive(self._driver.phase)
            self.said = f"{name.capitalize()} of step {self.scheduler.step_count:,} is done."

    @property
    def next_phase(self) -> Phase:
        """What :meth:`phase` would run."""
        return self._driver.next_phase

    @property
    def error(self) -> BaseException | None:
        """What the phase that ran last has raised."""
        return self._driver.error

    def _drive(self, act: Callable[[], Any]) -> None:
        self._shown, newest = None, self._driver.history.newest
        try:
            act()
        finally:
            history = self._driver.history
            if any(history[number].phase == "cleanup" for number in range(newest + 1, history.newest + 1)):
                self.inbox.clear()

    # --- looking back -------------------------------------------------------------------------------------------------

    @property
    def shown(self) -> int:
        """The number of the frame that is shown."""
        return self._driver.history.newest if self._shown is None else self._shown

    @property
    def frames(self) -> range:
        """The numbers of the frames that there are."""
        return range(self._driver.history.first, self._driver.history.newest + 1)

    def goto(self, frame: int) -> None:
        """Show a frame.

        Raises:
            ValueError: there is no such frame.
        """
        with self._acting():
            if frame not in self.frames:
                raise ValueError(f"frame {frame} is not there: there are {self.frames[0]} to {self.frames[-1]}")
            is_newest = frame == self.frames[-1]
            self._shown = None if is_newest else frame
            self.said = (
                "This is the newest frame." if is_newest else "A look back: a step goes on from the newest frame."
            )

    def goto_step(self, step: int) -> None:
        """Show the last frame of a step, or the one nearest to it."""
        history = self._driver.history
        self.goto(max((n for n in self.frames if history[n].step <= step), default=self.frames[0]))

    def back(self) -> None:
        """Show the frame before."""
        self.goto(max(self.frames[0], self.shown - 1))

    def forward(self) -> None:
        """Show the frame after. At the newest one nothing happens: to look never drives the engine."""
        self.goto(min(self.frames[-1], self.shown + 1))

    def home(self) -> None:
        """Show the oldest frame."""
        self.goto(self.frames[0])

    def end(self) -> None:
        """Show the newest frame."""
        self.goto(self.frames[-1])

    # --- the queue ----------------------------------------------------------------------------------------------------

    def add(self, prompt: str | Sequence[Any], *, max_tokens: int = 16, **sampling: Any) -> int:
        """Post a request (text, token ids, or the messages of a chat) and return its id. The next cleanup reads it."""
        with self._acting():
            is_chat = not isinstance(prompt, str) and len(prompt) > 0 and isinstance(prompt[0], dict)
            params = SamplingParams(max_tokens=max_tokens, **sampling)
            request_id = self._post(_Ask(None, prompt, params) if is_chat else _Ask(prompt, None, params))
            self.said = f"Request {request_id} is in the inbox: the next cleanup reads it."
            return request_id

    def cancel(self, request_id: int) -> None:
        """Post a cancellation: the next cleanup ends the request.

        Raises:
            ValueError: it neither waits nor runs.
        """
        with self._acting():
            there = {**self.scheduler.waiting, **self.scheduler.running}
            self._need(request_id, there, "neither waits nor runs")
            self._post_cancel(request_id)
            self.said = f"Request {request_id} is to end: the next cleanup reads that."

    def to_back(self, request_id: int) -> int:
        """Send a waiting request to the back of the queue: it is cancelled, and asked again under a new id.

        Raises:
            ValueError: it does not wait.
        """
        with self._acting():
            request = self._need(request_id, self.scheduler.waiting, "does not wait")
            self._post_cancel(request_id)
            new_id = self._post(_Ask(request.prompt_ids, None, request.sampling))
            self.said = f"Request {request_id} is to end, and comes again as request {new_id} at the back."
            return new_id

    def _post(self, asked: _Ask) -> int:
        stream = self.engine.submit(asked)
        self.inbox.append({"do": "add", "request": stream.request_id})
        return stream.request_id

    def _post_cancel(self, request_id: int) -> None:
        self.engine.cancel(request_id)
        self.inbox.append({"do": "cancel", "request": request_id})

    def _need(self, request_id: int, requests: dict[int, Any], otherwise: str) -> Any:
        if request_id not in requests:
            there = ", ".join(map(str, requests)) or "none"
            raise ValueError(f"request {request_id} {otherwise}, only {there}; what is in the inbox is read first")
        return requests[request_id]

    # --- forks --------------------------------------------------------------------------------------------------------

    def fork(self, step: int | None = None, **then: Any) -> Forked:
        """Repeat the run twice: as it was, and with other settings after ``step`` steps. Both end when all have ended.

        ``then`` takes ``decode_policy``, ``prefill_budget``, ``max_running`` and ``scheduler`` (a class of your own).
        By default ``step`` is the last one that is complete in the frame that is shown. Nothing is computed: each
        request gets the tokens that it has got so far, and one that goes on now ends there.

        Raises:
            ValueError: there is no such step, or a setting is unknown.
            RuntimeError: the run could not be repeated; the message says where it differed.
        """
        with self._acting():
            step = self._driver.history.last_complete_step(self.shown) if step is None else step
            logs = self.engine.rerun(step), self.engine.rerun(step, **then)
            alive = [*self.scheduler.waiting.values(), *self.scheduler.running.values()]
            unfinished = sum(not request.is_finished for request in alive)
            self.forked = Forked(step, then, *logs, decode=self._decode, unfinished=unfinished)
            self.said = self.forked.words()
            return self.forked

    def goto_fork(self, step: int) -> None:
        """Show both runs of the fork at the end of a step."""
        with self._acting():
            if self.forked is None:
                raise ValueError("there is no fork to look at: make one with fork()")
            self.forked.goto(step)
            self.said = f"Both runs at the end of step {step:,}."

    def close_fork(self) -> None:
        """Show the fork no more."""
        with self._acting():
            self.forked = None
            self.said = "The fork is closed."

    # --- showing ------------------------------------------------------------------------------------------------------

    def face(self, focus: tuple[str, int] | None = None) -> dict[str, Any]:
        """All that is shown, as plain JSON. ``focus``: a run ("main", "before", "after") and one of its slots."""
        with self._lock:
            driver, history, scheduler = self._driver, self._driver.history, self.scheduler
            frame = history[self.shown]
            source = source_of(scheduler, frame.phase) if frame.phase else None
            return {
                "frames": [self.frames[0], self.frames[-1]],
                "frame": self.shown,
                "label": frame.label,
                "view": self._moment(frame.seq, focus[1] if focus and focus[0] == "main" else None),
                "source": {"title": source.title, "file": source.file} if source else None,
                "rows": rows_of(source, history.happened(frame), frame.error, frame.error_line),
                "error": frame.error,
                "said": self.said,
                "next": driver.next_phase,
                "has_own_step": driver.has_own_step,
                "has_work": bool(scheduler.has_work),
                "broken": driver.broken,
                "inbox": list(self.inbox),
                "waiting": [[request.request_id, request.prompt_len] for request in scheduler.waiting.values()],
                "running": [[r.request_id, r.slot] for r in scheduler.running.values() if not r.is_finished],
                "takes_text": self.engine.tokenizer is not None,
                "forkable": history.last_complete_step(self.shown),
                "settings": {name: getattr(scheduler, name) for name in SETTINGS},
                "num_slots": self.engine.trace.num_slots,
                "fork": self.forked.face(focus) if self.forked else None,
            }

    def _moment(self, seq: int, focus: int | None) -> dict[str, Any]:
        view = self._driver.history.playback.moment(seq, focus)
        return view if self.timings else {**view, "timeline": {**view["timeline"], "scripted": True}}

    def text(self) -> str:
        """What is shown, in words."""
        return twins.text(self.face())

    def svg(self, width: int = 960) -> str:
        """What is shown, as an SVG that stands for itself."""
        return twins.svg(self.face(), width)

    def _repr_mimebundle_(self, **options: Any) -> Any:
        still = {"text/plain": self.text(), "image/svg+xml": self.svg()}
        if self._view is None and find_spec("anywidget") is not None:
            from astrai.widgets.stepping.stepper_view import StepperView

            self._view = StepperView(self)
        shown = self._view._repr_mimebundle_(**options) if self._view is not None else None
        return ({**shown[0], **still}, shown[1]) if shown else still


SETTINGS = ("decode_policy", "prefill_budget", "max_running")
