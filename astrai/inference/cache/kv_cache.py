"""The KV cache: two tensors, ``k_cache`` and ``v_cache``, and the ways in which attention reads them.

A *slot* is one request's whole row: all layers, all kv heads, positions 0 to ``max_seq_len``. (vLLM and SGLang call a
single token position a slot.) The layout is (L, S, K, M, E): the positions of one head of one row are contiguous, so
attention reads plain views and nothing is gathered per layer and step. This file knows no request, no owner and no
prefix tree: it writes and reads where it is told.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from astrai.config import ModelConfig
from astrai.model.attention import Attend

POISON = 1e4  # large enough to show in any output, finite because a masked nan would spread


class KVCacheTooLarge(ValueError):
    """The rows do not fit into memory. The message has the numbers and what to change."""


class Segment(NamedTuple):
    """Tokens of one prompt in a packed batch: they go to positions ``start`` to ``start + length`` of a row."""

    slot: int
    start: int
    length: int


class Run(NamedTuple):
    """Batch entries ``begin`` to ``end`` that stand in adjacent rows from ``slot`` on."""

    begin: int
    end: int
    slot: int
    longest: int  # positions that the entry with the most context reads
    mask: Tensor | None  # (R, 1, 1, longest), added to the scores; None where all entries read equally far


class KVCache:
    """The tensors of all rows.

    ``memory_limit`` is in bytes; ``None`` asks the device what is available. ``poison`` fills whatever is not valid
    with +-1e4, so that a read of it shows in the output. ``spare_column`` adds a position to each row that no request
    owns: decode in fixed shapes writes there for rows that do not run.

    Raises:
        KVCacheTooLarge: when the rows take more than the limit.
        ValueError: when a row would be longer than the model's positions.
    """

    def __init__(
        self,
        config: ModelConfig,
        num_slots: int,
        max_seq_len: int,
        device: str | torch.device = "cpu",
        dtype: torch.dtype | None = None,
        poison: bool = False,
        memory_limit: int | None = None,
        spare_column: bool = False,
    ) -> None:
        if max_seq_len > config.max_seq_len:
            raise ValueError(
                f"a row of {max_seq_len:,} positions was asked for, but the model knows only "
                f"{config.max_seq_len:,}: lower max_seq_len"
            )
        self.num_slots, self.max_seq_len, self.poison = num_slots, max_seq_len, poison
        self.queries_per_kv = config.queries_per_kv
        self.spare_column = max_seq_len if spare_column else None
        dtype = dtype or getattr(torch, config.dtype)
        columns = max_seq_len + spare_column
        _check_memory(config, num_slots, columns, torch.device(device), dtype, memory_limit)
        shape = (config.num_layers, num_slots, config.num_kv_heads, columns, config.head_dim)
        # NOTE: zeros, not empty: a masked position has weight 0, and 0 times the nan that may lie in memory is nan.
        self.k_cache = torch.zeros(shape, dtype=dtype, device=device)  # (L, S, K, M, E)
        self.v_cache = torch.zeros(shape, dtype=dtype, device=device)  # (L, S, K, M, E)
        for slot in range(num_slots if poison else 0):
            self.clear_from(slot, 0)

    @staticmethod
    def plan_bytes(config: ModelConfig, num_slots: int, max_seq_len: int, dtype: torch.dtype | None = None) -> int:
        """Bytes of ``k_cache`` and ``v_cache`` together."""
        dtype = dtype or getattr(torch, config.dtype)
        per_token = 2 * config.num_layers * config.num_kv_heads * config.head_dim * dtype.itemsize
        return num_slots * max_seq_len * per_token

    @torch.inference_mode()
    def copy_prefix(self, src: int, dst: int, length: int) -> None:
        """Copy the first ``length`` positions of row ``src`` to row ``dst``, all layers, on the device."""
        for cache in (self.k_cache, self.v_cache):
            cache[:, dst, :, :length].copy_(cache[:, src, :, :length])  # (L, K, length, E)

    @torch.inference_mode()
    def clear_from(self, slot: int, length: int) -> None:
        """Overwrite what row ``slot`` holds beyond its first ``length`` positions: zeros, or poison in poison mode."""
        for cache in (self.k_cache, self.v_cache):
            beyond = cache[:, slot, :, length:]  # (L, K, M - length, E)
            if self.poison:
                beyond.copy_(torch.rand(beyond.shape, device=cache.device).sub_(0.5).sign_().mul_(POISON))
            else:
                beyond.zero_()

    def poison_from(self, slot: int, length: int) -> None:
        """In poison mode, make reads of row ``slot`` beyond its first ``length`` positions show."""
        if self.poison:
            self.clear_from(slot, length)

    def prefill_attend(self, segments: Sequence[tuple[int, int, int]]) -> Attend:
        """Attention for a batch (1, N) in which these ``(slot, start, length)`` lie packed one after another.

        Each writes its k and v to its row, then sees the row's first ``start`` positions and, causally, its own. The
        mask has ``start`` more columns than rows: a square one would hide the prefix or show the future.
        """
        segments = [Segment(*segment) for segment in segments]
        assert len({segment.slot for segment in segments}) == len(segments), "a row appears twice in one prefill"
        assert all(segment.start + segment.length <= self.max_seq_len for segment in segments), "beyond the row's end"
        masks = [self._offset_mask(segment) for segment in segments]

        def attend(layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
            outs, begin = [], 0
            for segment, mask in zip(segments, masks, strict=True):
                part = slice(begin, begin + segment.length)
                outs.append(self._attend_segment(layer, segment, q[0, part], k[0, part], v[0, part], mask))
                begin += segment.length
            return torch.cat(outs)[None]  # (1, N, H, E)

        return attend

    def _offset_mask(self, segment: Segment) -> Tensor | None:
        """(length, start + length), added to the scores; None where one token sees all, or the mask is square."""
        if segment.start == 0 or segment.length == 1:
            return None
        mask = self.k_cache.new_full((segment.length, segment.start + segment.length), -torch.inf)
        return mask.triu_(segment.start + 1)

    def _attend_segment(
        self, layer: int, segment: Segment, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None
    ) -> Tensor:
        """``q`` (T, H, E), ``k`` and ``v`` (T, K, E) in; (T, H, E) out."""
        slot, start, length = segment
        end = start + length
        self.k_cache[layer, slot, :, start:end] = k.transpose(0, 1)  # (K, T, E)
        self.v_cache[layer, slot, :, start:end] = v.transpose(0, 1)  # (K, T, E)
        q = q.unflatten(1, (-1, self.queries_per_kv)).permute(1, 2, 0, 3)  # (K, G, T, E)
        shape = (-1, self.queries_per_kv, -1, -1)
        k = self.k_cache[layer, slot, :, None, :end].expand(shape)  # (K, G, end, E), a view of stride 0 along G
        v = self.v_cache[layer, slot, :, None, :end].expand(shape)  # (K, G, end, E), a view of stride 0 along G
        out = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=start == 0)  # (K, G, T, E)
        return out.permute(2, 0, 1, 3).flatten(1, 2)  # (T, H, E)

    def decode_attend(self, slots: Sequence[int], positions: Sequence[int]) -> Attend:
        """Attention for a batch (B, 1) of one token per row, sorted by slot.

        Each writes its k and v at its position, then sees its row up to there. Adjacent rows are read as one view.
        """
        assert all(a < b for a, b in pairwise(slots)), f"rows {list(slots)} are not sorted"
        assert max(positions) < self.max_seq_len, "beyond the row's end"
        runs = self._runs(slots, positions)
        rows = torch.tensor(slots, device=self.k_cache.device)
        columns = torch.tensor(positions, device=self.k_cache.device)

        def attend(layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
            k_rows, v_rows = self.k_cache[layer], self.v_cache[layer]  # (S, K, M, E)
            k_rows[rows, :, columns] = k[:, 0]  # (B, K, E)
            v_rows[rows, :, columns] = v[:, 0]  # (B, K, E)
            # The query heads of a group stand where time usually does: one token, so no mask between them.
            q = q.view(q.shape[0], -1, self.queries_per_kv, q.shape[-1])  # (B, K, G, E)
            outs = [_attend_run(run, q, k_rows, v_rows) for run in runs]
            return (outs[0] if len(outs) == 1 else torch.cat(outs)).flatten(1, 2).unsqueeze(1)  # (B, 1, H, E)

        return attend

    def rows_attend(self, positions: Tensor, length: int) -> Attend:
        """Attention for a batch (R, 1) of which entry ``i`` stands in row ``i``, all of whom read ``length`` positions.

        ``positions`` (R,) may hold other values whenever the same shapes run again: what depends on them is computed
        on the device. An entry at the spare column writes there, and what it reads means nothing.
        """
        rows = torch.arange(len(positions), device=positions.device)
        hidden = torch.arange(length, device=positions.device) > positions[:, None]  # (R, length)
        mask = self.k_cache.new_zeros(hidden.shape).masked_fill_(hidden, -torch.inf)[:, None, None]

        def attend(layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
            k_rows, v_rows = self.k_cache[layer, : len(positions)], self.v_cache[layer, : len(positions)]
            k_rows[rows, :, positions] = k[:, 0]  # (R, K, E)
            v_rows[rows, :, positions] = v[:, 0]  # (R, K, E)
            q = q.view(q.shape[0], -1, self.queries_per_kv, q.shape[-1])  # (R, K, G, E)
            k, v = k_rows[:, :, :length], v_rows[:, :, :length]  # (R, K, length, E), views
            return F.scaled_dot_product_attention(q, k, v, attn_mask=mask).flatten(1, 2).unsqueeze(1)  # (R, 1, H, E)

        return attend

    def _runs(self, slots: Sequence[int], positions: Sequence[int]) -> list[Run]:
        """Maximal runs of adjacent rows.

        Example:
            Slots 2, 3, 5 at positions 9, 7, 4: a run of rows 2-3 that reads 10 positions and hides two of row 3's
            from it, and a run of row 5 that reads 5.
        """
        starts = [i for i, slot in enumerate(slots) if i == 0 or slots[i - 1] != slot - 1]
        runs = []
        for begin, end in zip(starts, [*starts[1:], len(slots)], strict=True):
            lengths = [position + 1 for position in positions[begin:end]]
            mask = None if min(lengths) == max(lengths) else self._length_mask(lengths)
            runs.append(Run(begin, end, slots[begin], max(lengths), mask))
        return runs

    def _length_mask(self, lengths: list[int]) -> Tensor:
        """(R, 1, 1, longest): 0 where a row is valid, minus infinity beyond."""
        columns = torch.arange(max(lengths), device=self.k_cache.device)
        hidden = columns >= torch.tensor(lengths, device=self.k_cache.device)[:, None]  # (R, longest)
        mask = self.k_cache.new_zeros(hidden.shape).masked_fill_(hidden, -torch.inf)
        return mask[:, None, None]


def _attend_run(run: Run, q: Tensor, k_rows: Tensor, v_rows: Tensor) -> Tensor:
    """``q`` (B, K, G, E) of the whole batch, one layer's rows (S, K, M, E); (R, K, G, E) of the run out."""
    rows = slice(run.slot, run.slot + run.end - run.begin)
    k, v = k_rows[rows, :, : run.longest], v_rows[rows, :, : run.longest]  # (R, K, longest, E), views
    return F.scaled_dot_product_attention(q[run.begin : run.end], k, v, attn_mask=run.mask)


def _check_memory(
    config: ModelConfig,
    num_slots: int,
    max_seq_len: int,
    device: torch.device,
    dtype: torch.dtype,
    memory_limit: int | None,
) -> None:
    needed = KVCache.plan_bytes(config, num_slots, max_seq_len, dtype)
    limit = available_memory(device) if memory_limit is None else memory_limit
    if limit is not None and needed > limit:
        per_token = needed // (num_slots * max_seq_len)
        raise KVCacheTooLarge(
            f"the KV cache needs {needed:,} bytes ({num_slots:,} rows x {max_seq_len:,} positions x {per_token:,} "
            f"bytes), but {'the limit is' if memory_limit is not None else f'{device} has'} {limit:,}: at this length "
            f"{limit // (max_seq_len * per_token):,} rows fit; lower num_slots or max_seq_len"
        )


def available_memory(device: torch.device) -> int | None:
    """Bytes that can be taken on a device now; ``None`` where that cannot be known."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    try:
        with open("/proc/meminfo") as lines:
            kilobytes = next(line.split()[1] for line in lines if line.startswith("MemAvailable:"))
    except (OSError, StopIteration):
        return None
    return int(kilobytes) * 1024
