"""What a scheduler meets when a recorded run is repeated: clients and a model that do what they did.

They know the step that the run is in, and nothing of what the scheduler decides.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from astrai.inference.inbox import Commands, Inbox
from astrai.inference.recorded import Life, Recorded
from astrai.inference.request import Ending, PrefillChunk, Request, Sampled, Sink
from astrai.trace import events as e


@dataclass(slots=True)
class Now:
    """Where the repetition stands."""

    step: int = 0
    phase: e.Phase | None = None
    has_forked: bool = False


class RecordedRequest(Request, Sink):
    """A request of the log, and its own client."""

    def __init__(self, life: Life, now: Now) -> None:
        super().__init__(life.request_id, life.prompt_ids, life.sampling, sink=self, deadline=life.overdue)
        self.life = life
        self._now = now

    @property
    def is_spent(self) -> bool:
        """Whether it has given all its known tokens."""
        return len(self.output_ids) >= len(self.life.tokens)

    @property
    def is_decoding(self) -> bool:
        """As ever, but after the fork only as long as it is known what comes next."""
        return super().is_decoding and not (self._now.has_forked and self.is_spent)

    @property
    def is_at_loss(self) -> bool:
        """Whether no token and no end is known that could follow."""
        is_waiting_for_token = self.is_spent and not self.is_prefilling and not self.is_finished
        return is_waiting_for_token and not self.life.is_ended_by_client

    def on_token(self, sampled: Sampled) -> bool | Ending:
        """A request that reached its length ends by itself, all others as recorded."""
        ending = self.life.ending
        return ending if ending and ending.reason != "length" and self.is_spent else False


class RecordedInbox(Inbox):
    """Gives out in each step what was read in it, besides what is posted now."""

    def __init__(self, recorded: Recorded, now: Now) -> None:
        super().__init__(max_waiting=0)
        self._recorded = recorded
        self._now = now
        self._left = sorted(recorded.commands.keys() | recorded.rejected.keys(), reverse=True)  # steps

    def __bool__(self) -> bool:
        return bool(self._left) or super().__bool__()

    def take(self) -> Commands:
        """All that was posted up to this step, and what the repetition itself posted."""
        rejected = Counter[str]()
        taken: list[Request | int] = []
        while self._left and self._left[-1] <= self._now.step:
            step = self._left.pop()
            for command in self._recorded.commands.get(step, []):
                taken.append(RecordedRequest(command, self._now) if isinstance(command, Life) else command)
            rejected += self._recorded.rejected.get(step, Counter())
        return Commands(taken + super().take().submitted_or_cancelled, rejected)


class RecordedRunner:
    """Gives recorded tokens, and up to the fork fails where the model failed."""

    def __init__(self, recorded: Recorded, now: Now) -> None:
        self._recorded = recorded
        self._now = now
        self.waiting: Mapping[int, Request] = {}  # the scheduler's, since a copy does not say for whom it is

    def copy(self, copies: Sequence[e.PrefixCopied]) -> None:
        """Nothing to do."""
        targets = {copy.dst for copy in copies}
        self._maybe_fail([request for request in self.waiting.values() if request.slot in targets])

    def prefill(self, chunks: Sequence[PrefillChunk]) -> list[Sampled | None]:
        """The first token of each prompt that is complete, if it is known."""
        self._maybe_fail([chunk.request for chunk in chunks])
        return [self._next(chunk.request) if chunk.end == chunk.request.prompt_len else None for chunk in chunks]

    def decode(self, requests: Sequence[Request]) -> list[Sampled]:
        """The next token of each."""
        self._maybe_fail(requests)
        tokens = [token for request in requests if (token := self._next(request))]
        if len(tokens) < len(requests):
            ids = [request.request_id for request in requests if self._next(request) is None]
            raise RuntimeError(f"no further token is known of request(s) {ids}: decode only what is_decoding")
        return tokens

    def _next(self, request: Request) -> Sampled | None:
        tokens, count = self._recorded.lives[request.request_id].tokens, len(request.output_ids)
        return Sampled(tokens[count]) if count < len(tokens) else None

    def _maybe_fail(self, requests: Sequence[Request]) -> None:
        failures = self._recorded.failures.get((self._now.step, self._now.phase), {})
        for request in requests:
            if request.request_id in failures and not self._now.has_forked:
                raise _AsRecorded(failures[request.request_id].removeprefix("the model raised "))


class _AsRecorded(Exception):
    """Shows as the exception that was recorded."""

    def __repr__(self) -> str:
        return str(self)
