"""Rotary position embedding: each pair of dimensions of q and k is turned by an angle that grows with the position.

The layout is *half-split*, as in Hugging Face Llama checkpoints: dimension ``i`` is paired with ``i + E/2``. The other
layout in use pairs ``2i`` with ``2i + 1``; weights trained for one give plausible but wrong text in the other.
Su et al. 2021, arXiv:2104.09864.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from astrai.config import Llama3RopeScaling, ModelConfig


class Rotation(NamedTuple):
    """Cosines and signed sines of a batch of positions, both (B, T, 1, E) in float32."""

    cos: Tensor
    sin: Tensor


class RotaryEmbedding:
    """The angles of a model's positions, in float32 whatever its dtype.

    NOTE: not a module with buffers: ``model.to(torch.bfloat16)`` would round the frequencies, and loading a checkpoint
    through the meta device would lose them.
    """

    def __init__(self, config: ModelConfig) -> None:
        self.config = config
        self._frequencies: Tensor | None = None

    def __call__(self, positions: Tensor) -> Rotation:
        """The rotation of ``positions`` (B, T) int64."""
        if self._frequencies is None or self._frequencies.device != positions.device:
            self._frequencies = inverse_frequencies(self.config).to(positions.device)  # (E/2,)
        angles = positions[:, :, None, None] * self._frequencies  # (B, T, 1, E/2)
        angles = torch.cat([-angles, angles], dim=-1)  # (B, T, 1, E): sin(-a) = -sin(a) gives `rotate` its signs
        return Rotation(angles.cos(), angles.sin())


def rotate(x: Tensor, rotation: Rotation) -> Tensor:
    """Turn each pair ``(x[i], x[i + E/2])`` of ``x`` (B, T, H, E) by its angle; same shape and dtype out."""
    swapped = x.roll(x.shape[-1] // 2, dims=-1)  # the second half, then the first: sin carries the signs
    return (x * rotation.cos + swapped * rotation.sin).to(x.dtype)


def inverse_frequencies(config: ModelConfig) -> Tensor:
    """Radians per position of each pair, (E/2,) float32: ``theta ** (-2i/E)``, rescaled where the config says so."""
    exponents = torch.arange(0, config.head_dim, 2, device="cpu").float() / config.head_dim
    frequencies = 1.0 / config.rope_theta**exponents
    return frequencies if config.rope_scaling is None else llama3_rescaled(frequencies, config.rope_scaling)


def llama3_rescaled(frequencies: Tensor, scaling: Llama3RopeScaling) -> Tensor:
    """Slow down the pairs that turn rarely within the original context; in between, interpolate (Llama 3.1).

    Example:
        With an original context of 8192, low 1 and high 4: a pair with a wavelength above 8192 positions is slowed by
        ``factor``, one with a wavelength below 2048 is kept.
    """
    turns = frequencies * scaling.original_max_position_embeddings / (2 * math.pi)  # within the original context
    kept = (turns - scaling.low_freq_factor) / (scaling.high_freq_factor - scaling.low_freq_factor)
    kept = kept.clamp(0.0, 1.0)  # 1: kept as it is, 0: divided by the factor
    return kept * frequencies + (1 - kept) * frequencies / scaling.factor
