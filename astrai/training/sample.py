"""Greedy answers for many prompts at once, with the plainest cache there is: what training and evaluation look at.

Prompts of the same length share a batch and every row keeps all of its keys and values, so nothing is padded. The
engine does this properly; here fifty lines are enough.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from astrai.model.attention import causal_attend
from astrai.model.transformer import Transformer
from astrai.tokenizer import Tokenizer


class GrowingCache:
    """An ``Attend`` that appends the keys and values of each layer and shows all of them to new tokens."""

    def __init__(self) -> None:
        self._keys: dict[int, Tensor] = {}
        self._values: dict[int, Tensor] = {}

    def __call__(self, layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Several tokens at first (causal), then one at a time."""
        if layer not in self._keys:
            self._keys[layer], self._values[layer] = k, v
            return causal_attend(layer, q, k, v)
        self._keys[layer] = k = torch.cat([self._keys[layer], k], dim=1)  # (B, T+1, K, E)
        self._values[layer] = v = torch.cat([self._values[layer], v], dim=1)  # (B, T+1, K, E)
        grouped = q.unflatten(2, (k.shape[2], -1))  # (B, 1, K, G, E)
        scores = torch.einsum("btkge,bske->bkgs", grouped, k) * q.shape[-1] ** -0.5  # (B, K, G, S)
        out = torch.einsum("bkgs,bske->bkge", scores.softmax(-1), v)  # (B, K, G, E)
        return out.flatten(1, 2)[:, None]  # (B, 1, H, E)


@torch.inference_mode()
def greedy(
    model: Transformer, tokenizer: Tokenizer, prompts: Sequence[Sequence[int]], max_tokens: int
) -> list[list[int]]:
    """The most likely answers, without their end token. An answer of ``max_tokens`` ids did not end by itself."""
    answers: list[list[int]] = [[] for _ in prompts]
    for length in sorted({len(prompt) for prompt in prompts}):
        members = [index for index, prompt in enumerate(prompts) if len(prompt) == length]
        _answer_together(model, tokenizer, prompts, members, answers, max_tokens)
    return answers


def _answer_together(
    model: Transformer,
    tokenizer: Tokenizer,
    prompts: Sequence[Sequence[int]],
    members: Sequence[int],
    answers: list[list[int]],
    max_tokens: int,
) -> None:
    cache = GrowingCache()
    ids = torch.tensor([list(prompts[index]) for index in members], device=model.device)  # (B, T)
    position, running = 0, set(members)
    for _ in range(max_tokens):
        positions = torch.arange(position, position + ids.shape[1], device=model.device)[None]
        logits = model(ids, positions, cache)[:, -1]  # (B, V)
        position += ids.shape[1]
        ids = logits.argmax(-1, keepdim=True)  # (B, 1)
        for index, token_id in zip(members, ids[:, 0].tolist(), strict=True):
            if token_id in tokenizer.eos_ids:
                running.discard(index)
            if index in running:
                answers[index].append(token_id)
        if not running:
            return


def answer(model: Transformer, tokenizer: Tokenizer, messages: Sequence[dict[str, str]], max_tokens: int = 200) -> str:
    """The answer to one conversation."""
    [ids] = greedy(model, tokenizer, [tokenizer.apply_chat_template(messages)], max_tokens)
    return tokenizer.decode(ids)
