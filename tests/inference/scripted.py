"""A runner without tensors whose tokens depend on everything a row holds, and the reference it is compared with.

Each row is a list of tokens. The next token is a hash of the row up to the position that was fed, so a row that is
wrong anywhere gives wrong tokens; reading what was never written, or feeding a token twice, fails at once.
"""

from __future__ import annotations

from collections.abc import Sequence

from astrai.inference.request import PrefillChunk, Request, Sampled
from astrai.trace.events import PrefixCopied


def next_token(token_ids: Sequence[int], vocab_size: int) -> int:
    """The model: any function of all tokens will do."""
    state = 17
    for token in token_ids:
        state = (state * 1_000_003 + token + 1) % 2_147_483_647
    return state % vocab_size


def reference(
    prompt_ids: Sequence[int],
    max_tokens: int,
    max_seq_len: int,
    vocab_size: int,
    stop_ids: Sequence[int] = (),
) -> list[int]:
    """What a request must produce, computed alone and without any cache."""
    tokens, output = list(prompt_ids), []
    while len(output) < max_tokens and len(tokens) < max_seq_len:
        output.append(next_token(tokens, vocab_size))
        tokens.append(output[-1])
        if output[-1] in stop_ids:
            break
    return output


class ScriptedRunner:
    """Rows of tokens in place of a KV cache. ``fail_next`` makes the next call of that name raise."""

    def __init__(self, num_slots: int, max_seq_len: int, vocab_size: int = 50) -> None:
        self.rows: list[list[int | None]] = [[None] * max_seq_len for _ in range(num_slots)]
        self.vocab_size = vocab_size
        self.fail_next: set[str] = set()
        self.prefilled_tokens = 0
        self.group_sizes: list[int] = []

    def copy(self, copies: Sequence[PrefixCopied]) -> None:
        self._maybe_fail("copy")
        for copy in copies:
            self.rows[copy.dst][: copy.length] = self.rows[copy.src][: copy.length]

    def prefill(self, chunks: Sequence[PrefillChunk]) -> list[Sampled | None]:
        self._maybe_fail("prefill")
        return [self._prefill_one(*chunk) for chunk in chunks]

    def decode(self, requests: Sequence[Request]) -> list[Sampled]:
        self._maybe_fail("decode")
        self.group_sizes.append(len(requests))
        return [self._feed(request, request.context_len, [request.next_input_id]) for request in requests]

    def _prefill_one(self, request: Request, start: int, end: int) -> Sampled | None:
        assert start == request.context_len and start < end <= request.prompt_len
        self.prefilled_tokens += end - start
        sampled = self._feed(request, start, request.prompt_ids[start:end])
        return sampled if end == request.prompt_len else None

    def _feed(self, request: Request, start: int, token_ids: Sequence[int]) -> Sampled:
        assert request.slot is not None
        row, end = self.rows[request.slot], start + len(token_ids)
        row[start:end] = token_ids
        context = row[:end]
        expected = [*request.prompt_ids, *request.output_ids][:end]
        assert context == expected, f"request {request.request_id} reads {context}, but its tokens are {expected}"
        return Sampled(next_token(context, self.vocab_size))

    def _maybe_fail(self, name: str) -> None:
        if name in self.fail_next:
            self.fail_next.remove(name)
            raise RuntimeError(f"planted failure in {name}")
