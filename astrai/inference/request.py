"""A request as the scheduler sees it: token ids in, token ids out, and where its row stands.

It knows no text, no tensor and no client: whoever submits a request gives it a ``sink``, which the loop thread calls
with each token.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

from astrai.config import SamplingParams
from astrai.trace.events import FinishReason


class Sampled(NamedTuple):
    """One sampled token: its id, its log-probability and the most likely ones, where asked for."""

    token_id: int
    logprob: float | None = None
    top_logprobs: tuple[tuple[int, float], ...] = ()


class Ending(NamedTuple):
    """Why a request ended, and the message of an error."""

    reason: FinishReason
    message: str = ""


class Sink:
    """Where the tokens of a request go. The loop thread calls it; it must not block."""

    def on_token(self, sampled: Sampled) -> bool | Ending:
        """Take a token. ``True`` ends the request with ``stop`` (a stop string is complete), an ``Ending`` so."""
        return False

    def on_end(self, ending: Ending) -> None:
        """Take the end. Called exactly once, after the last token."""


@dataclass(eq=False, slots=True)
class Request:
    """The state of one request. Only the loop thread changes it after it was submitted.

    Example:
        A prompt of 5 tokens, 3 of them found in the cache: ``cached_len`` 3, ``extend_len`` 2. After prefill
        ``context_len`` is 5 and one token is sampled; after one decode ``context_len`` is 6 and two are.
    """

    request_id: int
    prompt_ids: tuple[int, ...]
    sampling: SamplingParams
    sink: Sink = field(default_factory=Sink)
    deadline: float | None = None  # in seconds of time.monotonic()

    slot: int | None = None
    version: int = 0
    cached_len: int = 0  # prompt tokens whose KV was found
    context_len: int = 0  # tokens with valid KV in the row
    output_ids: list[int] = field(default_factory=list)
    output_limit: int = 0  # tokens that it may generate, and those that end it: known when it arrives at the scheduler
    ending_ids: frozenset[int] = frozenset()
    leader_id: int | None = None  # the running request it was last held for
    shared_len: int = 0  # prompt tokens that the two share
    ending: Ending | None = None

    @property
    def prompt_len(self) -> int:
        """Tokens of the prompt."""
        return len(self.prompt_ids)

    @property
    def extend_len(self) -> int:
        """Prompt tokens that are still to be computed."""
        return max(0, self.prompt_len - self.context_len)

    @property
    def is_finished(self) -> bool:
        """Whether it has ended, for whatever reason."""
        return self.ending is not None

    @property
    def is_prefilling(self) -> bool:
        """Whether it runs and part of its prompt is not computed yet."""
        return self.context_len < len(self.prompt_ids) and self.ending is None and self.slot is not None

    @property
    def is_decoding(self) -> bool:
        """Whether it runs and has a sampled token whose KV is to be computed next."""
        return bool(self.output_ids) and self.ending is None and self.slot is not None

    @property
    def next_input_id(self) -> int:
        """The token that the next decode feeds, at position ``context_len``."""
        return self.output_ids[-1]

    def resident_ids(self) -> tuple[int, ...]:
        """The tokens whose KV the row holds: of prompt + output, the first ``context_len``."""
        return (*self.prompt_ids, *self.output_ids)[: self.context_len]


class PrefillChunk(NamedTuple):
    """A piece of work: the prompt tokens at positions ``start`` to ``end`` (exclusive) of a request."""

    request: Request
    start: int
    end: int
