"""Logits in, tokens out, each row by the parameters of its own request.

A row's token depends on its own logits, parameters and history only: greedy rows are never sampled, and randomness
comes from a hash of (seed, number of output tokens), so no generator state is shared or kept. The sampler knows
nothing of the vocabulary, the cache or the model.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

import torch
from torch import Tensor

from astrai.inference.request import Request, Sampled

MASK_64 = (1 << 64) - 1
FLOAT32_MAX = torch.finfo(torch.float32).max
MIN_TEMPERATURE = 1e-30  # what float32 can still divide by; as good as greedy


class Sampler:
    """Chooses one token per row."""

    @torch.inference_mode()
    def __call__(self, logits: Tensor, requests: Sequence[Request]) -> list[Sampled]:
        """``logits`` (B, V) of any float dtype; row ``i`` belongs to ``requests[i]``.

        Order of work: repetition penalty (prompt and output, Keskar et al. 2019, arXiv:1909.05858), presence and
        frequency penalties (output only, as in OpenAI's API), logit bias, temperature, top_k, top_p, min_p.

        Raises:
            ValueError: when logits are not finite, or a row is to be sampled without a seed.
        """
        assert logits.shape[0] == len(requests), f"{logits.shape[0]} rows of logits for {len(requests)} requests"
        logits = logits.float()
        scores = self._adjusted(logits, requests)  # (B, V)
        chosen = scores.argmax(-1)  # (B,)
        rows = [i for i, request in enumerate(requests) if not request.sampling.is_greedy]
        if rows:
            chosen[rows] = sample(scores[rows], [requests[i] for i in rows])
        # A row's maximum is nan or infinite if any of its logits is nan or +inf; one transfer brings both home.
        tops = logits.amax(-1).double()
        token_ids, tops = torch.stack([chosen.double(), tops]).tolist()
        _check_finite(tops, requests)
        return self._with_logprobs([int(token_id) for token_id in token_ids], logits, requests)

    def _adjusted(self, logits: Tensor, requests: Sequence[Request]) -> Tensor:
        """The logits after penalties and bias: a copy if there are any."""
        repeated, added = [], []  # (row, token id, value)
        for row, request in enumerate(requests):
            params = request.sampling
            if params.repetition_penalty != 1.0:
                seen = {*request.prompt_ids, *request.output_ids}
                repeated += [(row, token_id, params.repetition_penalty) for token_id in seen]
            if params.presence_penalty or params.frequency_penalty:
                added += [
                    (row, token_id, -params.presence_penalty - params.frequency_penalty * count)
                    for token_id, count in Counter(request.output_ids).items()
                ]
            added += [(row, token_id, bias) for token_id, bias in params.logit_bias]
        if not repeated and not added:
            return logits
        scores = logits.clone()
        if repeated:
            at, penalty = _entries(repeated, logits.device)
            old = scores[at].double()  # float64, so that no penalty overflows on the way
            new = torch.where(old > 0, old / penalty, old * penalty)
            scores[at] = new.clamp(-FLOAT32_MAX, FLOAT32_MAX).float()
        if added:
            at, value = _entries(added, logits.device)
            scores.index_put_(at, value.clamp(-FLOAT32_MAX, FLOAT32_MAX).float(), accumulate=True)
            scores.clamp_(-FLOAT32_MAX, FLOAT32_MAX)
        return scores

    def _with_logprobs(self, token_ids: list[int], logits: Tensor, requests: Sequence[Request]) -> list[Sampled]:
        """Add log-probabilities under the model's own distribution to the rows that asked for them."""
        results = [Sampled(token_id) for token_id in token_ids]
        rows = [i for i, request in enumerate(requests) if request.sampling.logprobs is not None]
        if not rows:
            return results
        logprobs = logits[rows].log_softmax(-1)  # (R, V)
        own = logprobs.gather(-1, torch.tensor([[token_ids[i]] for i in rows], device=logits.device))  # (R, 1)
        counts = [min(requests[i].sampling.logprobs or 0, logits.shape[1]) for i in rows]
        values, ids = logprobs.topk(max(counts), dim=-1)  # (R, max(counts)) each
        for i, n, (logprob,), best, best_ids in zip(
            rows, counts, own.tolist(), values.tolist(), ids.tolist(), strict=True
        ):
            results[i] = Sampled(token_ids[i], logprob, tuple(zip(best_ids[:n], best[:n], strict=True)))
        return results


def sample(scores: Tensor, requests: Sequence[Request]) -> Tensor:
    """One token id per row of ``scores`` (R, V), by temperature, top_k, top_p, min_p and the request's seed: (R,)."""
    table = torch.tensor([_numbers(request) for request in requests], dtype=torch.float64, device=scores.device)
    temperature = table[:, :1].float()  # (R, 1)
    # NOTE: the maximum goes first: at a tiny temperature the quotient overflows to minus infinity, never to nan.
    probs = ((scores - scores.amax(-1, keepdim=True)) / temperature).softmax(-1).double()  # (R, V)
    # Sorting is dear, so only rows with top_k or top_p pay. Which way a row goes depends on no other row.
    is_ranked = [request.sampling.top_k > 0 or request.sampling.top_p < 1.0 for request in requests]
    ranked = [i for i, yes in enumerate(is_ranked) if yes]
    plain = [i for i, yes in enumerate(is_ranked) if not yes]
    chosen = torch.empty(len(requests), dtype=torch.int64, device=scores.device)
    if plain:
        chosen[plain] = _draw(probs[plain], table[plain])
    if ranked:
        ordered, ids = probs[ranked].sort(dim=-1, descending=True, stable=True)  # of equals, the lower id first
        rank = _draw(_nucleus(ordered, table[ranked]), table[ranked])  # (R',)
        chosen[ranked] = ids.gather(-1, rank[:, None])[:, 0]
    return chosen


def uniform(seed: int, index: int) -> float:
    """A number in [0, 1) that depends on both integers and nothing else.

    Two rounds of the finalizer of SplitMix64 (Steele, Lea and Flood 2014), of which the top 48 bits are kept.
    """
    return (_mix(_mix(seed & MASK_64) + index) >> 16) / (1 << 48)


def _mix(value: int) -> int:
    value = (value + 0x9E3779B97F4A7C15) & MASK_64
    value = ((value ^ (value >> 30)) * 0xBF58476D1CE4E5B9) & MASK_64
    value = ((value ^ (value >> 27)) * 0x94D049BB133111EB) & MASK_64
    return value ^ (value >> 31)


def _numbers(request: Request) -> tuple[float, float, float, float, float]:
    """What one row needs: temperature, top_k (infinite if off), top_p (infinite if off), min_p, a uniform number."""
    params = request.sampling
    if params.seed is None:
        raise ValueError(f"request {request.request_id} is to be sampled but has no seed: give it one")
    return (
        max(params.temperature, MIN_TEMPERATURE),
        params.top_k or torch.inf,
        params.top_p if params.top_p < 1.0 else torch.inf,
        params.min_p,
        uniform(params.seed, len(request.output_ids)),
    )


def _nucleus(ordered: Tensor, table: Tensor) -> Tensor:
    """Zero out what top_k and top_p cut from descending probabilities (R, V).

    Example:
        0.5, 0.3, 0.2 with top_p 0.6: the mass before the second entry is below 0.6, before the third it is not, so two
        are kept. The mass is taken of what top_k left.
    """
    top_k, top_p = table[:, 1:2], table[:, 2:3]  # (R, 1) each
    ranks = torch.arange(ordered.shape[1], device=ordered.device)
    ordered = torch.where(ranks < top_k, ordered, 0.0)
    before = ordered.cumsum(-1) - ordered  # (R, V), the mass before each entry
    kept = (before < top_p * ordered.sum(-1, keepdim=True)) | (ranks == 0)
    return torch.where(kept, ordered, 0.0)


def _draw(probs: Tensor, table: Tensor) -> Tensor:
    """Cut by min_p, then one index per row of ``probs`` (R, V), as the inverse of the cumulative distribution: (R,)."""
    min_p, number = table[:, 3:4], table[:, 4:5]  # (R, 1) each
    probs = torch.where(probs >= min_p * probs.amax(-1, keepdim=True), probs, 0.0)
    cumulative = probs.cumsum(-1)  # (R, V)
    index = torch.searchsorted(cumulative, number * cumulative[:, -1:], right=True)[:, 0]  # never one of weight 0
    return index.clamp(max=probs.shape[1] - 1)  # NOTE: nan, which is reported later, would point beyond the end


def _entries(triples: list[tuple[int, int, float]], device: torch.device) -> tuple[tuple[Tensor, Tensor], Tensor]:
    """Index tensors (rows, token ids) and float64 values, (N,) each."""
    rows, token_ids, values = zip(*triples, strict=True)
    at = torch.tensor([rows, token_ids], device=device).unbind()
    return (at[0], at[1]), torch.tensor(values, dtype=torch.float64, device=device)


def _check_finite(tops: list[float], requests: Sequence[Request]) -> None:
    broken = [request.request_id for top, request in zip(tops, requests, strict=True) if not math.isfinite(top)]
    if broken:
        raise ValueError(
            f"the logits of request(s) {', '.join(map(str, broken))} are not finite: check the weights, or load the "
            "model in float32 or bfloat16"
        )
