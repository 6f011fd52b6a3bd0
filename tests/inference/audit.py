"""The audit: what the rows of the KV cache hold, computed again without any cache.

Bookkeeping and trace could agree with each other and both be wrong. The audit asks neither whether the tensors are
right: it takes the tokens that a row claims to hold, runs the plain model over them and compares keys and values.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from astrai.inference.cache.kv_cache import POISON
from astrai.inference.engine import InferenceEngine
from astrai.inference.witness import take_snapshot
from astrai.model.attention import causal_attend
from astrai.model.transformer import Transformer
from astrai.trace.replay import replay


class Audited(NamedTuple):
    """How much was compared: rows that hold anything, and positions over all of them."""

    rows: int
    positions: int


def audit(engine: InferenceEngine, rtol: float = 1e-4, atol: float = 2e-5) -> Audited:
    """Compare the keys and values of every row with those of an uncached forward of the tokens that it holds.

    Call it between two steps, on the thread that makes them. In poison mode also what lies beyond them is looked at.

    Raises:
        AssertionError: naming the row, the layer and the values that differ.
    """
    rows = resident_ids(engine)
    for slot, token_ids in rows.items():
        k, v = uncached_keys_and_values(engine.model, token_ids)  # (L, K, T, E) each
        for name, cache, expected in (("k_cache", engine.kv_cache.k_cache, k), ("v_cache", engine.kv_cache.v_cache, v)):
            torch.testing.assert_close(
                cache[:, slot, :, : len(token_ids)],
                expected,
                rtol=rtol,
                atol=atol,
                msg=lambda text, name=name, slot=slot, ids=token_ids: (
                    f"{name} of slot {slot}, which holds {ids}: {text}"
                ),
            )
    _check_poison(engine)
    return Audited(len(rows), sum(len(token_ids) for token_ids in rows.values()))


def audit_books(engine: InferenceEngine) -> None:
    """Every invariant of the books, and the truth test: the trace replays to the engine's own state."""
    engine.scheduler.check_integrity()
    assert replay(engine.trace) == take_snapshot(engine.scheduler)


def resident_ids(engine: InferenceEngine) -> dict[int, tuple[int, ...]]:
    """The tokens that each row holds, by slot: of an owned row its owner's, of a free row what the tree remembers."""
    owners = {request.slot: request for request in engine.scheduler.running.values()}
    rows = {}
    for slot in range(engine.config.num_slots):
        owner = owners.get(slot)
        rows[slot] = owner.resident_ids() if owner else engine.scheduler.cache.tree.row_ids(slot)
    return {slot: token_ids for slot, token_ids in rows.items() if token_ids}


@torch.inference_mode()
def uncached_keys_and_values(model: Transformer, token_ids: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    """What a forward of these tokens alone hands to attention: k and v, (L, K, T, E) each."""
    keys: list[Tensor] = []
    values: list[Tensor] = []

    def attend(layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        assert layer == len(keys)
        keys.append(k[0].transpose(0, 1))  # (K, T, E)
        values.append(v[0].transpose(0, 1))  # (K, T, E)
        return causal_attend(layer, q, k, v)

    model(torch.tensor([token_ids], device=model.device), attend=attend)
    return torch.stack(keys), torch.stack(values)


def _check_poison(engine: InferenceEngine) -> None:
    """Beyond what a request has written, its row holds poison: otherwise poison mode would prove nothing."""
    if not engine.config.poison:
        return
    for request in engine.scheduler.running.values():
        if request.context_len > request.cached_len:
            beyond = engine.kv_cache.k_cache[:, request.slot, :, request.context_len :]
            assert (beyond.abs() > POISON / 2).all(), f"no poison beyond {request.context_len} in slot {request.slot}"
