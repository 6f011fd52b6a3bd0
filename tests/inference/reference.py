"""Hugging Face's greedy tokens on the same weights, and the count of what was compared with them.

One plain forward of theirs over prompt and output, without a cache, gives their greedy choice after each prefix: if
each of our tokens is that choice, the two greedy texts are equal (by induction over the tokens). Where their two best
logits lie within ``TIE``, float32 does not decide which token is right: such places are counted and named.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from tests.inference.loads import Played
from tests.inference.models import Pair

TIE = 1e-4


@dataclass
class Tally:
    """What was compared, over all tests of a file."""

    requests: int = 0
    tokens: int = 0
    ties: list[str] = field(default_factory=list)


class Reference:
    """Holds what an engine gave against Hugging Face, and counts."""

    def __init__(self, pair: Pair, tally: Tally, name: str) -> None:
        self.pair, self.tally, self.name = pair, tally, name
        self._checked: set[tuple[tuple[int, ...], tuple[int, ...]]] = set()

    def check(self, played: Played, max_seq_len: int) -> None:
        """Each token is their greedy choice, and the request ended when and as it should."""
        output = played.result.token_ids
        self._check_ending(played, max_seq_len)
        self.tally.requests += 1
        self.tally.tokens += len(output)
        if output and (played.prompt_ids, output) not in self._checked:
            self._checked.add((played.prompt_ids, output))
            self._check_tokens(played.prompt_ids, output)

    @torch.inference_mode()
    def logits(self, token_ids: Sequence[int]) -> Tensor:
        """Theirs after each of these tokens, (T, V), by one plain forward."""
        return self.pair.theirs(torch.tensor([token_ids]), use_cache=False).logits[0]

    def greedy(self, prompt_ids: tuple[int, ...], count: int) -> tuple[int, ...]:
        """Their first ``count`` tokens by the plain loop, up to a tie."""
        tokens = prompt_ids
        for _ in range(count):
            (best, second), ids = (t.tolist() for t in self.logits(tokens)[-1].topk(2))
            if best - second <= TIE:
                break  # which the comparison over the whole output tells
            tokens = (*tokens, ids[0])
        return tokens[len(prompt_ids) :]

    def _check_tokens(self, prompt_ids: tuple[int, ...], output: tuple[int, ...]) -> None:
        logits = self.logits((*prompt_ids, *output[:-1]))[len(prompt_ids) - 1 :]  # (N, V)
        best, second = logits.topk(2).values.unbind(-1)  # (N,) each
        ours = logits[range(len(output)), list(output)]  # (N,)
        for i in range(len(output)):
            if best[i] - second[i] <= TIE:
                self._tell_tie((*prompt_ids, *output[:i]), float(best[i] - second[i]))
                assert best[i] - ours[i] <= TIE, f"token {i} of {output} after {prompt_ids} is none of those that tie"
            else:
                assert ours[i] == best[i], (
                    f"{self.name}: token {i} of {output} after {prompt_ids} should be {int(logits[i].argmax())}: "
                    f"its logit is {float(best[i] - ours[i]):.4f} higher"
                )

    def _tell_tie(self, token_ids: Sequence[int], gap: float) -> None:
        self.tally.ties.append(f"{self.name}: {gap:.1e} apart after {tuple(token_ids)}")

    def _check_ending(self, played: Played, max_seq_len: int) -> None:
        output, reason = played.result.token_ids, played.result.finish_reason
        eos_ids = self.pair.ours.config.eos_ids
        room = min(played.sampling.max_tokens, max_seq_len - len(played.prompt_ids))
        assert not set(output[:-1]) & set(eos_ids), f"{output} goes on after its end"
        if reason == "length":
            assert len(output) == room
        elif reason == "stop":
            assert output[-1] in eos_ids and len(output) <= room
        else:
            assert reason == "cancelled" and len(output) < room, f"{played.result}"
