"""Drives a real scheduler by hand, a step or a phase at a time, and takes down what each phase did.

What a phase raises is kept with its frame and raised again: a learner's own class may well be wrong. Whether the
scheduler can go on after that is asked of the trace and of the scheduler's own books.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from astrai.trace.events import PHASES, Phase
from astrai.trace.replay import ReplayError
from astrai.widgets.data.texts import Decode
from astrai.widgets.stepping.at_work import Place, noting, place_of_error
from astrai.widgets.stepping.history import Frame, History


class StepperError(RuntimeError):
    """What was asked cannot be done to this scheduler, at least not now. The message says what can."""


class Driver:
    """The scheduler of an engine that does not step by itself.

    Raises:
        StepperError: the engine does.
    """

    def __init__(self, engine: Any, decode: Decode | None = None) -> None:
        self.engine = engine
        self.scheduler = engine.scheduler
        self.error: BaseException | None = None  # what the phase that ran last has raised
        self.broken = ""  # why the scheduler cannot be driven any more
        self._refuse_running_engine()
        self.history = History(engine.trace, decode)
        self.next_phase: Phase = _after(self.history.last_phase)

    @property
    def has_own_step(self) -> bool:
        """Whether the scheduler's class has another ``step`` than the class that counts the steps."""
        homes = [next(c for c in type(self.scheduler).__mro__ if name in vars(c)) for name in ("step", "start_step")]
        return homes[0] is not homes[1]

    def step(self) -> list[Frame]:
        """Turn the loop once, or finish the turn that was begun phase by phase. Returns the new frames.

        Raises:
            StepperError: the scheduler cannot be driven.
            Exception: what a phase raised.
        """
        self._look()
        if self.next_phase == "cleanup":
            return self._run(self.scheduler.step, None)
        return [frame for phase in PHASES[PHASES.index(self.next_phase) :] for frame in self._run_phase(phase)]

    def phase(self) -> list[Frame]:
        """Run the next phase: cleanup, which begins a step, then refill, prefill, decode. Returns the new frames.

        Raises:
            StepperError: the scheduler cannot be driven, or has a ``step`` of its own.
            Exception: what the phase raised.
        """
        self._look()
        if self.has_own_step:
            name = type(self.scheduler).__name__
            raise StepperError(f"{name} has a step() of its own, which alone knows its phases: go on with step()")
        return self._run_phase(self.next_phase)

    def _look(self) -> None:
        if self.broken:
            raise StepperError(self.broken)
        self._refuse_running_engine()
        if self.history.read():  # somebody else drove it
            self.next_phase = _after(self.history.last_phase)

    def _run_phase(self, phase: Phase) -> list[Frame]:
        method = getattr(self.scheduler, phase)

        def begin() -> None:
            self.scheduler.start_step()
            method()

        return self._run(begin if phase == "cleanup" else method, phase)

    def _run(self, act: Callable[[], None], phase: Phase | None) -> list[Frame]:
        log, history = self.engine.trace, self.history
        before, self.error, place = history.newest, None, None
        with noting(self.scheduler, lambda: log.next_seq) as notes:
            try:
                act()
            except BaseException as error:
                self.error, place = error, place_of_error(self.scheduler, error)
        history.notes |= notes
        new = history.read()
        if self.error is not None:
            last = new[-1].phase if new else None
            history.close(*_words_of(self.error, place, phase or last), self.scheduler.step_count)
        elif phase is not None and not new:  # it does not tell the trace when it ends
            history.close(phase, "", None, self.scheduler.step_count)
        self.next_phase = "cleanup" if self.error is not None or phase is None else _after(phase)
        self._check()
        if self.error is not None:
            raise self.error
        return [history[number] for number in range(before + 1, history.newest + 1)]

    def _check(self) -> None:
        """Whether the scheduler is still worth driving."""
        history, why = self.history, ""
        try:
            view = history.playback.at(history[history.newest].seq)
            if self.error is not None:
                phase = view.snapshot().phase
                why = f"{phase} did not tell the trace that it ended" if phase else self._quarrel()
        except ReplayError as error:
            why = f"its events do not fit together any more: {error}"
            history.cut(history.playback.refused)
        if why:
            self.broken = f"This scheduler cannot go on: {why}. Look back as you like; to go on, make a new engine."

    def _quarrel(self) -> str:
        try:
            self.scheduler.check_integrity()
        except Exception as error:
            return f"its books do not agree any more: {error or type(error).__name__}"
        return ""

    def _refuse_running_engine(self) -> None:
        daemon = getattr(self.engine, "daemon", None)
        if daemon is not None and daemon.is_alive:
            raise StepperError(
                "this engine steps by itself, on a thread of its own, and two cannot drive one scheduler: make it with "
                "start=False, as in InferenceEngine(model, tokenizer, start=False)"
            )


def _words_of(error: BaseException, place: Place | None, phase: Phase | None) -> tuple[Phase, str, int | None]:
    words = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    if place is None:
        return phase or "cleanup", f"the step raised {words}", None
    return place.phase, f"{place.phase} raised {words}, in line {place.line}", place.line


def _after(phase: Phase | None) -> Phase:
    return PHASES[(PHASES.index(phase) + 1) % len(PHASES)] if phase else "cleanup"
