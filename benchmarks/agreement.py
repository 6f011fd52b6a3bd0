"""Whether two contenders gave the same greedy tokens, and where they did not: whether float32 can tell who is right."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch

from astrai.inference.engine import GenerationRequest
from astrai.model.transformer import Transformer

TIE = 1e-4  # logits closer than this may swap places from one order of summation to another

Tokens = tuple[int, ...]


class Disagreement(NamedTuple):
    """Where two greedy outputs part."""

    index: int  # of the request
    position: int  # in its output
    margin: float  # by which the highest logit there exceeds that of the worse of the two tokens

    @property
    def is_tie(self) -> bool:
        """Whether float32 cannot tell which token is right."""
        return self.margin < TIE


@torch.inference_mode()
def disagreements(
    model: Transformer, requests: Sequence[GenerationRequest], ours: Sequence[Tokens], theirs: Sequence[Tokens]
) -> list[Disagreement]:
    """The first difference of each request, its margin taken from a forward without any cache."""
    found = []
    for index, (request, a, b) in enumerate(zip(requests, ours, theirs, strict=True)):
        assert len(a) == len(b), f"request {index} got {len(a)} tokens on one side, {len(b)} on the other"
        position = next((i for i in range(len(a)) if a[i] != b[i]), None)
        if position is not None:
            ids = torch.tensor([[*request.prompt, *a[:position]]], device=model.device)
            logits = model(ids)[0, -1]  # (V,)
            worse = logits[[a[position], b[position]]].min()
            found.append(Disagreement(index, position, float(logits.max() - worse)))
    return found
