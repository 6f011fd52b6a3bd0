"""The two layers that are neither attention nor embedding: RMSNorm and the SwiGLU feed-forward network.

They see one vector per token and know nothing of positions, caches or batches.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn, ones


class RMSNorm(nn.Module):
    """Divides each vector by its root mean square, then scales it (Zhang and Sennrich 2019, arXiv:1910.07467).

    The mean of squares is taken in float32 whatever the dtype of the vectors, as Hugging Face Llama does.
    """

    def __init__(self, dim: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(ones(dim))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        """``x``: (..., D), same shape and dtype out."""
        x32 = x.float()
        scale = (x32.square().mean(-1, keepdim=True) + self.eps).rsqrt()  # (..., 1)
        return self.weight * (x32 * scale).to(x.dtype)


class SwiGLU(nn.Module):
    """``down(silu(gate(x)) * up(x))``: a feed-forward network with a gate (Shazeer 2020, arXiv:2002.05202)."""

    def __init__(self, hidden_size: int, intermediate_size: int) -> None:
        super().__init__()
        self.gate_proj = nn.Linear(hidden_size, intermediate_size, bias=False)
        self.up_proj = nn.Linear(hidden_size, intermediate_size, bias=False)
        self.down_proj = nn.Linear(intermediate_size, hidden_size, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """``x``: (..., D), same shape out."""
        return self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))
