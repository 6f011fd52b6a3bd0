"""Decode in fixed shapes, so that on a GPU a whole step is one CUDA graph: entry ``i`` of the batch is row ``i``.

A row of the KV cache never moves, which is what a graph needs: the same addresses and shapes every time. So the first
rows are computed all together, up to the last one that runs, rounded up; those between that do not run compute
nothing that anyone reads, and write to a spare column that no request owns. A graph is captured when a pair of rounded
sizes first occurs. On a CPU the same steps run without a graph, which is how they are tested.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from astrai.inference.cache.kv_cache import KVCache
from astrai.model.fast import FastTransformer

LEAST_LENGTH = 128  # positions that the shortest graph reads; each longer one reads twice as many
WARM_UP_RUNS = 2  # before a capture: libraries allocate what they need at the first run


class Size(NamedTuple):
    """What a graph is made for: rows that it computes, and positions that each reads."""

    rows: int
    length: int


class DecodeGraphs:
    """The decode steps of a model over the rows of a cache with a spare column.

    ``warm_up_seconds`` and ``graph_bytes`` say what capturing has cost so far. There are at most
    ``log2(slots) + 2`` times ``log2(positions / 128) + 2`` graphs.
    """

    def __init__(self, model: FastTransformer, kv_cache: KVCache) -> None:
        assert kv_cache.spare_column is not None, "fixed shapes need a KV cache with a spare column"
        self.model, self.kv_cache, self.spare_column = model, kv_cache, kv_cache.spare_column
        device = kv_cache.k_cache.device
        self.uses_graphs = device.type == "cuda"
        self.ids = torch.zeros(kv_cache.num_slots, dtype=torch.int64, device=device)  # (S,), always at one address
        self.positions = torch.zeros_like(self.ids)  # (S,)
        self.warm_up_seconds, self.graph_bytes = 0.0, 0
        self._revision = model.revision
        self._graphs: dict[Size, tuple[torch.cuda.CUDAGraph, Tensor]] = {}
        self._pool = torch.cuda.graph_pool_handle() if self.uses_graphs else None

    def __call__(self, slots: Sequence[int], positions: Sequence[int], ids: Sequence[int]) -> Tensor:
        """Logits (B, V) after one token of each row, which is written to its position; ``slots`` are sorted."""
        size = self._size(slots[-1] + 1, max(positions) + 1)
        self._fill(size.rows, slots, positions, ids)
        logits = self._replayed(size) if self.uses_graphs and not self.model.is_watched else self._computed(size)
        return logits[torch.tensor(slots, device=logits.device)]  # (B, V)

    def _size(self, rows: int, length: int) -> Size:
        rounded_rows = 1 << (rows - 1).bit_length()
        rounded_length = max(LEAST_LENGTH, 1 << (length - 1).bit_length())
        return Size(min(rounded_rows, self.kv_cache.num_slots), min(rounded_length, self.kv_cache.max_seq_len))

    def _fill(self, rows: int, slots: Sequence[int], positions: Sequence[int], ids: Sequence[int]) -> None:
        table = [[0] * rows, [self.spare_column] * rows]  # rows that do not run write there
        for slot, position, token_id in zip(slots, positions, ids, strict=True):
            table[0][slot], table[1][slot] = token_id, position
        new = torch.tensor(table).to(self.ids.device, non_blocking=True)  # (2, rows)
        self.ids[:rows], self.positions[:rows] = new[0], new[1]

    def _computed(self, size: Size) -> Tensor:
        """(rows, V)."""
        positions = self.positions[: size.rows]
        attend = self.kv_cache.rows_attend(positions, size.length)
        return self.model(self.ids[: size.rows, None], positions[:, None], attend)[:, 0]

    def _replayed(self, size: Size) -> Tensor:
        self.model.refresh()
        if self._revision != self.model.revision:  # the old graphs read matrices that are no more
            self._graphs.clear()
            self._revision = self.model.revision
        if size not in self._graphs:
            self._graphs[size] = self._capture(size)
        graph, logits = self._graphs[size]
        graph.replay()
        return logits

    def _capture(self, size: Size) -> tuple[torch.cuda.CUDAGraph, Tensor]:
        started, free = time.perf_counter(), torch.cuda.mem_get_info(self.ids.device)[0]
        stream = torch.cuda.Stream(self.ids.device)
        stream.wait_stream(torch.cuda.current_stream(self.ids.device))
        with torch.cuda.stream(stream):
            for _ in range(WARM_UP_RUNS):
                self._computed(size)
        torch.cuda.current_stream(self.ids.device).wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=self._pool):
            logits = self._computed(size)
        torch.cuda.synchronize(self.ids.device)
        self.warm_up_seconds += time.perf_counter() - started
        self.graph_bytes += max(0, free - torch.cuda.mem_get_info(self.ids.device)[0])
        return graph, logits
