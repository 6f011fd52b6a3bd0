"""Grouped-query attention: several query heads read one kv head (Ainslie et al. 2023, arXiv:2305.13245).

The module projects, rotates and hands q, k, v to an :class:`Attend`. Without one it attends causally within the
sequence, which is all that training needs. It knows nothing of caches: an ``Attend`` may write k and v wherever it
likes and read older ones from there.
"""

from __future__ import annotations

from typing import Protocol

import torch.nn.functional as F
from torch import Tensor, nn

from astrai.config import ModelConfig
from astrai.model.rope import Rotation, rotate


class Attend(Protocol):
    """How rotated queries find the keys and values that they may see."""

    def __call__(self, layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """``q`` (B, T, H, E), ``k`` and ``v`` (B, T, K, E) of the new tokens in; (B, T, H, E) out."""
        ...


def causal_attend(layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Each token sees itself and those before it in its own sequence: an :class:`Attend` that remembers nothing."""
    q, k, v = q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2)  # (B, H, T, E), (B, K, T, E) twice
    out = F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)  # (B, H, T, E)
    return out.transpose(1, 2)  # (B, T, H, E)


class Attention(nn.Module):
    """The attention of one block. Head ``h`` of the queries reads kv head ``h // queries_per_kv``."""

    def __init__(self, config: ModelConfig, layer: int) -> None:
        super().__init__()
        self.layer = layer
        self.head_dim = config.head_dim
        q_size, kv_size = config.num_heads * config.head_dim, config.num_kv_heads * config.head_dim
        self.q_proj = nn.Linear(config.hidden_size, q_size, bias=False)
        self.k_proj = nn.Linear(config.hidden_size, kv_size, bias=False)
        self.v_proj = nn.Linear(config.hidden_size, kv_size, bias=False)
        self.o_proj = nn.Linear(q_size, config.hidden_size, bias=False)

    def forward(self, x: Tensor, rotation: Rotation, attend: Attend) -> Tensor:
        """``x``: (B, T, D), same shape out."""
        q = self.q_proj(x).unflatten(-1, (-1, self.head_dim))  # (B, T, H, E)
        k = self.k_proj(x).unflatten(-1, (-1, self.head_dim))  # (B, T, K, E)
        v = self.v_proj(x).unflatten(-1, (-1, self.head_dim))  # (B, T, K, E)
        out = attend(self.layer, rotate(q, rotation), rotate(k, rotation), v)  # (B, T, H, E)
        return self.o_proj(out.flatten(2))  # (B, T, D)
