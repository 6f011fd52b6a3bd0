"""A small paged KV cache for the chapter on slot versions: the real model reads and writes through page tables.

A page is a few positions of all layers. A request's page table is the list of its pages, each as a handle of an
allocator. ``Pages`` goes by a table whatever has happened to its pages since: planted, as one real engine did.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from astrai.inference.cache.slots import Handle, Slots
from astrai.model.attention import Attend
from astrai.model.transformer import Transformer

PAGE = 4  # positions


class Pages:
    """The pages of a model's KV cache. ``slots`` hands them out; slot and page are the same here."""

    def __init__(self, model: Transformer, slots: Slots) -> None:
        config = model.config
        shape = (config.num_layers, slots.num_slots, config.num_kv_heads, PAGE, config.head_dim)
        self.model, self.slots = model, slots
        self.k_pages = torch.zeros(shape, dtype=model.embed.weight.dtype, device=model.device)  # (L, P, K, 4, E)
        self.v_pages = torch.zeros_like(self.k_pages)  # (L, P, K, 4, E)

    def find(self, table: Sequence[Handle]) -> list[int]:
        """The numbers of the pages to read, in order. Planted: nobody asks whether they changed hands."""
        return [handle.slot for handle in table]

    def attend(self, table: Sequence[Handle], start: int) -> Attend:
        """Attention for one sequence: its new tokens stand from position ``start`` on, the others are in its pages."""

        def attend(layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
            pages, end = self.find(table), start + k.shape[1]
            for i in range(k.shape[1]):
                page, offset = pages[(start + i) // PAGE], (start + i) % PAGE
                self.k_pages[layer, page, :, offset] = k[0, i]  # (K, E)
                self.v_pages[layer, page, :, offset] = v[0, i]  # (K, E)
            keys = self.k_pages[layer, pages].transpose(0, 1).flatten(1, 2)[None, :, :end]  # (1, K, end, E)
            values = self.v_pages[layer, pages].transpose(0, 1).flatten(1, 2)[None, :, :end]  # (1, K, end, E)
            mask = torch.ones(k.shape[1], end, dtype=torch.bool, device=q.device).tril(start)  # none sees the future
            out = F.scaled_dot_product_attention(q.transpose(1, 2), keys, values, attn_mask=mask, enable_gqa=True)
            return out.transpose(1, 2)  # (1, T, H, E)

        return attend

    @torch.inference_mode()
    def go_on(self, table: list[Handle], token_ids: list[int], num_tokens: int, start: int | None = None) -> None:
        """Append the ``num_tokens`` most likely tokens, and pages to the table as they are needed.

        The KV before position ``start`` is in the pages; by default only that of the last token is missing.
        """
        start = len(token_ids) - 1 if start is None else start
        for _ in range(num_tokens):
            while len(table) * PAGE < len(token_ids):
                table.append(self.slots.allocate())
            new = torch.tensor([token_ids[start:]], device=self.model.device)
            positions = torch.arange(start, len(token_ids), device=self.model.device)[None]
            logits = self.model(new, positions, self.attend(table, start))
            start = len(token_ids)
            token_ids.append(int(logits[0, -1].argmax()))
