"""What a log says of a run, as far as a scheduler needs it to do the same again.

Commands and failures came from outside and stand in the log under the step in which they took effect; tokens came from
the model. All the rest was decided by the scheduler and is not read here, but compared.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from astrai.config import EngineConfig, SamplingParams
from astrai.inference.request import Ending
from astrai.trace import events as e
from astrai.trace.log import EventLog


@dataclass(eq=False, slots=True)
class Life:
    """What the log says of one request.

    ``ending`` is how it ended with the token that it got last; ``None`` if it ended in another way or not at all.
    ``is_ended_by_client`` is set when it was cancelled, or when its deadline passed (``overdue`` tells where in the
    order of deadlines, in steps).
    """

    request_id: int
    prompt_ids: tuple[int, ...]
    sampling: SamplingParams
    tokens: list[int] = field(default_factory=list)
    ending: Ending | None = None
    overdue: float | None = None
    is_ended_by_client: bool = False
    last_token_in: tuple[int, e.Phase | None] | None = None  # a step and its phase


class Recorded:
    """A log, read.

    Raises:
        ValueError: the log does not reach back to the start of the run, or does not say how the engine was set.
    """

    def __init__(self, log: EventLog) -> None:
        view = log.view()
        if view.first_seq:
            raise ValueError(
                f"the log begins with event {view.first_seq:,} of the run, and a run is repeated from its start: give "
                f"the engine a larger trace_events, or record it from the start with engine.trace.record(path)"
            )
        self.header = log.header
        self.config, self.max_seq_len = _settings(log.header)
        if self.config.num_slots != log.num_slots:
            raise ValueError(f"the log has {log.num_slots} slots, but its engine_config {self.config.num_slots}")
        self.lives: dict[int, Life] = {}
        self.steps: dict[int, list[e.Event]] = {}
        self.commands: dict[int, list[Life | int]] = {}  # by step; a cancellation is the request's id
        self.rejected: dict[int, Counter[str]] = {}  # by step: refused submits by reason
        self.failures: dict[tuple[int, e.Phase | None], dict[int, str]] = {}  # messages of errors by request
        self.last_step = 0  # the last one that is complete
        self._timeouts: Counter[int] = Counter()  # by step
        phase: e.Phase | None = None
        for record in view.records:
            event = record.event
            phase = event.phase if isinstance(event, e.PhaseStarted) else phase
            self.steps.setdefault(record.step, []).append(event)
            self._read(record.step, phase, event)

    def _read(self, step: int, phase: e.Phase | None, event: e.Event) -> None:
        match event:
            case e.RequestArrived():
                self._arrived(step, event)
            case e.RequestsRejected(count, reason):
                self.rejected.setdefault(step, Counter())[reason] += count
            case e.FirstTokenSampled(request_id, token_id):
                self._got(request_id, token_id, (step, phase))
            case e.TokensDecoded():
                for request_id, token_id in zip(event.request_ids, event.token_ids, strict=True):
                    self._got(request_id, token_id, (step, phase))
            case e.RequestFinished():
                self._finished(step, phase, event)
            case e.PhaseEnded("decode"):
                self.last_step = step

    def _arrived(self, step: int, event: e.RequestArrived) -> None:
        if event.request_id in self.lives:
            raise ValueError(f"request {event.request_id} arrived twice: a run is repeated if every id is used once")
        sampling = SamplingParams(**dict(event.sampling))
        life = self.lives[event.request_id] = Life(event.request_id, event.prompt_ids, sampling)
        self.commands.setdefault(step, []).append(life)

    def _got(self, request_id: int, token_id: int, when: tuple[int, e.Phase | None]) -> None:
        life = self.lives[request_id]
        life.tokens.append(token_id)
        life.last_token_in = when

    def _finished(self, step: int, phase: e.Phase | None, event: e.RequestFinished) -> None:
        life = self.lives[event.request_id]
        if life.last_token_in == (step, phase):
            life.ending = Ending(event.reason, event.message)
        elif event.reason == "error":
            self.failures.setdefault((step, phase), {})[event.request_id] = event.message
        elif event.reason == "timeout":
            life.is_ended_by_client = True
            self._timeouts[step] += 1
            life.overdue = step - 1 / (1 + self._timeouts[step])  # after step - 1, in the order of the log, before step
        elif event.reason == "cancelled" and not event.message:  # NOTE: a message says that the engine was shut down
            life.is_ended_by_client = True
            self.commands.setdefault(step, []).append(event.request_id)


def _settings(header: dict[str, Any]) -> tuple[EngineConfig, int]:
    if "engine_config" not in header:
        raise ValueError("the log's header has no engine_config, so nobody knows under which settings the run was made")
    config = EngineConfig(**header["engine_config"]).on("cpu")
    max_seq_len = config.max_seq_len or (header.get("model_config") or {}).get("max_seq_len")
    if max_seq_len is None:
        raise ValueError("the log's header says nowhere how many tokens a row holds (max_seq_len)")
    return config, max_seq_len
