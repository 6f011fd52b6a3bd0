"""A recorded run once more: as it was up to some step, then under other settings or another scheduler.

What clients did is done again in the steps in which it was read, the real scheduler and the real prefix cache decide
again, and a runner without a model gives each request the tokens that it got. So two policies can be compared on the
same requests and the same answers. What it cannot tell is time: nothing is computed, so count steps and forwards.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace
from itertools import zip_longest
from typing import Any

from astrai.config import EngineConfig
from astrai.inference.cache.prefix_cache import PrefixCacheManager
from astrai.inference.cache.radix_tree import PrefixTree, RadixTree
from astrai.inference.cache.slots import SlotAllocator, Slots
from astrai.inference.recorded import Recorded
from astrai.inference.scheduler import InferenceScheduler
from astrai.inference.stand_ins import Now, RecordedInbox, RecordedRequest, RecordedRunner
from astrai.trace import events as e
from astrai.trace.log import EventLog
from astrai.trace.words import describe

CHANGEABLE = ("decode_policy", "prefill_budget", "max_running")
MOST_IDLE_STEPS = 1000


class RerunError(RuntimeError):
    """A run that was repeated took another course than the log says, or would never end."""


def rerun(
    log: EventLog,
    until_step: int,
    *,
    then: dict[str, Any] | None = None,
    slots: Callable[[int], Slots] = SlotAllocator,
    tree: Callable[[], PrefixTree] = RadixTree,
    prefix_cache: Callable[..., PrefixCacheManager] = PrefixCacheManager,
    scheduler: Callable[..., InferenceScheduler] = InferenceScheduler,
) -> EventLog:
    """Repeat the first ``until_step`` steps of a log, then go on with the settings in ``then`` until all has ended.

    Up to there every event must equal the recorded one. ``then`` takes ``decode_policy``, ``prefill_budget``,
    ``max_running`` and ``scheduler`` (a class); the other keywords are the parts with which the run was recorded.

    After the fork clients still come and cancel in the steps of the log, and deadlines pass in them. Of a request that
    the log saw end early nobody knows the tokens that would have followed: once it has given those that are known, it
    keeps its row until it is cancelled as recorded. If the log has no such end (the recording stopped, the engine was
    shut down, the model failed), it is cancelled in the next cleanup.

    The result's header says ``scripted`` and ``forked_after``; its times are step numbers, its phases take 0 seconds.

    Raises:
        ValueError: the log cannot be repeated, or a setting is unknown.
        RerunError: the course was another one than recorded, or the scheduler stopped making progress.
    """
    recorded = Recorded(log)
    if not 0 <= until_step <= recorded.last_step:
        raise ValueError(
            f"until_step is {until_step}, but this log can be forked after 0 to {recorded.last_step} complete steps"
        )
    settings = dict(then or {})
    other = settings.pop("scheduler", None)
    if unknown := sorted(settings.keys() - set(CHANGEABLE)):
        raise ValueError(f"{', '.join(unknown)} cannot change in mid-run: only {', '.join(CHANGEABLE)} and scheduler")
    config = replace(recorded.config, **settings).on("cpu")
    run = _Rerun(recorded, config, until_step)
    present = run.make(scheduler, recorded.config, _make_cache(recorded.config, slots, tree, prefix_cache))
    run.follow(present, until_step)
    if other is not None:
        present, before = run.make(other, config, present.cache), present
        present.take_over(before)
    present.decode_policy = config.decode_policy
    present.prefill_budget = config.prefill_budget
    present.max_running = config.running_limit
    run.finish(present)
    return run.log


def _make_cache(config: EngineConfig, slots: Any, tree: Any, prefix_cache: Any) -> PrefixCacheManager:
    return prefix_cache(
        slots(config.num_slots), tree(), capacity_tokens=config.capacity_tokens, enabled=config.prefix_cache
    )


class _Rerun:
    """One repetition under way: where it stands, and the log that it writes."""

    def __init__(self, recorded: Recorded, config: EngineConfig, until_step: int) -> None:
        self.recorded = recorded
        self.now = Now()
        self.inbox = RecordedInbox(recorded, self.now)
        told = {"engine_config": config.to_dict(), "scripted": True, "forked_after": until_step}
        # The run is as long as the recorded one, more or less: its log need not forget.
        self.log = EventLog(config.num_slots, sys.maxsize, lambda: float(self.now.step), {**recorded.header, **told})
        self._progress = 0  # events that change more than the phase

    def make(
        self, scheduler: Callable[..., InferenceScheduler], config: EngineConfig, cache: PrefixCacheManager
    ) -> InferenceScheduler:
        """A scheduler that reads the recorded inbox and computes nothing."""
        runner = RecordedRunner(self.recorded, self.now)
        made = scheduler(
            runner,
            cache,
            max_seq_len=self.recorded.max_seq_len,
            max_running=config.running_limit,
            max_waiting=config.max_waiting,
            prefill_budget=config.prefill_budget,
            decode_policy=config.decode_policy,
            eos_ids=(),  # NOTE: a request that stopped says so itself, whatever it was that stopped it
            emit=self._emit,
        )
        made.inbox = self.inbox
        made.clock = lambda: float(self.now.step)
        runner.waiting = made.waiting
        return made

    def follow(self, scheduler: InferenceScheduler, until_step: int) -> None:
        """The steps as recorded."""
        for step in range(1, until_step + 1):
            first, failure = len(self.log), None
            try:
                scheduler.step()
            except Exception as error:
                failure = error
            happened = [record.event for record in self.log.tail(first)]
            _compare(step, first, happened, self.recorded.steps[step])
            if failure is not None:
                raise RerunError(f"the scheduler raised in step {step}, as it did when it was recorded") from failure

    def finish(self, scheduler: InferenceScheduler) -> None:
        """From here on as the scheduler likes, until all requests have ended."""
        self.now.has_forked = True
        idle_steps = 0
        while scheduler.has_work:
            for request in scheduler.running.values():
                if isinstance(request, RecordedRequest) and request.is_at_loss:
                    self.inbox.cancel(request.request_id)
            before = self._progress
            try:
                scheduler.step()
            except Exception as error:
                error.add_note(f"This was in step {self.now.step} of a run that was repeated.")
                raise
            idle_steps = 0 if self.inbox or self._progress > before else idle_steps + 1
            if idle_steps > MOST_IDLE_STEPS:
                raise RerunError(
                    f"nothing has happened for {MOST_IDLE_STEPS:,} steps, but requests are left, waiting: "
                    f"{list(scheduler.waiting)}, running: {list(scheduler.running)}. Does refill admit them all?"
                )

    def _emit(self, event: e.Event) -> None:
        match event:
            case e.StepStarted(step):
                self.now.step = step
            case e.PhaseStarted(phase):
                self.now.phase = phase
            case e.PhaseEnded(phase):
                self.now.phase, event = None, e.PhaseEnded(phase, 0.0)
            case e.RequestHeld():
                pass
            case _:
                self._progress += 1
        self.log.emit(event)


def _compare(step: int, first_seq: int, happened: list[e.Event], expected: list[e.Event]) -> None:
    for seq, (now, then) in enumerate(zip_longest(happened, expected), first_seq):
        is_same = now == then or (
            isinstance(now, e.PhaseEnded) and isinstance(then, e.PhaseEnded) and now.phase == then.phase
        )
        if not is_same:
            words = ["nothing more" if event is None else describe(event) for event in (now, then)]
            raise RerunError(
                f"event {seq:,}, in step {step}, is another one than recorded: {words[0]!r} instead of {words[1]!r}. "
                f"Give the parts with which the run was recorded (slots=, tree=, prefix_cache=, scheduler=)"
            )
