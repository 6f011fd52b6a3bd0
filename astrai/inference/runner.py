"""Where bookkeeping meets tensors: carries out copies, prefills and decodes that the scheduler decided on.

It knows no queue, no tree and no policy. It reads requests and never changes them; results come back in the order in
which the work was given.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor

from astrai.inference.cache.kv_cache import KVCache
from astrai.inference.decode_graphs import DecodeGraphs
from astrai.inference.request import PrefillChunk, Request, Sampled
from astrai.inference.sampler import Sampler
from astrai.model.fast import FastTransformer, fast_path
from astrai.model.transformer import Transformer
from astrai.trace.events import PrefixCopied


class TransformerRunner:
    """Runs a model over the rows of a KV cache and samples from its logits."""

    def __init__(self, model: Transformer, kv_cache: KVCache, sampler: Sampler) -> None:
        self.model = fast_path(model)
        self.kv_cache = kv_cache
        self.sampler = sampler
        is_fixed = kv_cache.spare_column is not None and isinstance(self.model, FastTransformer)
        self.graphs = DecodeGraphs(self.model, kv_cache) if is_fixed else None

    def copy(self, copies: Sequence[PrefixCopied]) -> None:
        """Copy prefixes from row to row, in order: a later one may read what an earlier one wrote."""
        for event in copies:
            self.kv_cache.copy_prefix(event.src, event.dst, event.length)

    @torch.inference_mode()
    def prefill(self, chunks: Sequence[PrefillChunk]) -> list[Sampled | None]:
        """Compute prompt chunks, packed into one forward; a chunk that ends its prompt gives the first output token.

        Logits exist only at the last token of such chunks. The others give ``None``.
        """
        for chunk in chunks:
            if chunk.start == chunk.request.cached_len:
                self.kv_cache.poison_from(_slot(chunk.request), chunk.start)
        ids = [token for chunk in chunks for token in chunk.request.prompt_ids[chunk.start : chunk.end]]
        positions = [position for chunk in chunks for position in range(chunk.start, chunk.end)]
        done, last = [], []  # requests whose prompt is complete, and where their last prompt token is in the batch
        offset = -1
        for chunk in chunks:
            offset += chunk.end - chunk.start
            if chunk.end == chunk.request.prompt_len:
                done.append(chunk.request)
                last.append(offset)
        with self._cleared_on_error([(chunk.request, chunk.start) for chunk in chunks]):
            attend = self.kv_cache.prefill_attend([(_slot(c.request), c.start, c.end - c.start) for c in chunks])
            logits = self.model(self._tensor([ids]), self._tensor([positions]), attend, self._tensor(last))  # (N, V)
            sampled = iter(self.sampler(logits, done) if done else [])
        return [next(sampled) if chunk.end == chunk.request.prompt_len else None for chunk in chunks]

    @torch.inference_mode()
    def decode(self, requests: Sequence[Request]) -> list[Sampled]:
        """Feed each request's last token, one forward for all, and sample the next ones."""
        # NOTE: sorted once, and everything below is built from the sorted list, so no row can meet another's token.
        order = sorted(range(len(requests)), key=lambda i: _slot(requests[i]))
        batch = [requests[i] for i in order]
        slots, positions = [_slot(request) for request in batch], [request.context_len for request in batch]
        with self._cleared_on_error(list(zip(batch, positions, strict=True))):
            logits = self._decode_logits(slots, positions, [request.next_input_id for request in batch])  # (B, V)
            sampled = self.sampler(logits, batch)
        return [result for _, result in sorted(zip(order, sampled, strict=True), key=lambda pair: pair[0])]

    def _decode_logits(self, slots: list[int], positions: list[int], ids: list[int]) -> Tensor:
        if self.graphs is not None:
            return self.graphs(slots, positions, ids)
        attend = self.kv_cache.decode_attend(slots, positions)
        return self.model(self._tensor(ids)[:, None], self._tensor(positions)[:, None], attend)[:, 0]

    def _tensor(self, values: list[int] | list[list[int]]) -> Tensor:
        return torch.tensor(values, dtype=torch.int64, device=self.model.device)

    @contextmanager
    def _cleared_on_error(self, written: list[tuple[Request, int]]) -> Iterator[None]:
        """If the forward fails, wipe what it may have written: a nan left in a row would spread to its next owner."""
        try:
            yield
        except Exception:
            for request, start in written:
                self.kv_cache.clear_from(_slot(request), start)
            raise


def _slot(request: Request) -> int:
    assert request.slot is not None, f"request {request.request_id} owns no slot"
    return request.slot
