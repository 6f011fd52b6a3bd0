"""L5, the model: token ids in, logits out. A stack of decoder blocks in the architecture of Llama.

It keeps no state between calls and knows nothing of slots, requests or caches: where keys and values are kept is the
business of the ``attend`` that the caller passes. Without one, a sequence sees only itself.

Dimension key of the shape comments, here and everywhere: B batch, T time, D hidden, H query heads, K kv heads,
G query heads per kv head, E head dim, S slots, M positions in a slot, L layers, V vocabulary, N any count.
"""

from __future__ import annotations

import math
from concurrent.futures import ThreadPoolExecutor
from typing import Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from astrai.config import ModelConfig
from astrai.model.attention import Attend, Attention, causal_attend
from astrai.model.layers import RMSNorm, SwiGLU
from astrai.model.rope import RotaryEmbedding, Rotation

INIT_STD = 0.02


class DecoderBlock(nn.Module):
    """Attention, then a feed-forward network; each reads a normalised copy of the stream and adds to it."""

    def __init__(self, config: ModelConfig, layer: int) -> None:
        super().__init__()
        self.attention_norm = RMSNorm(config.hidden_size, config.norm_eps)
        self.attention = Attention(config, layer)
        self.mlp_norm = RMSNorm(config.hidden_size, config.norm_eps)
        self.mlp = SwiGLU(config.hidden_size, config.intermediate_size)

    def forward(self, x: Tensor, rotation: Rotation, attend: Attend) -> Tensor:
        """``x``: (B, T, D), same shape out."""
        x = x + self.attention(self.attention_norm(x), rotation, attend)
        return x + self.mlp(self.mlp_norm(x))


class Transformer(nn.Module):
    """The whole model, in the dtype of its config.

    Example:
        >>> model = Transformer.random(ModelConfig.preset("tiny"), seed=0)
        >>> model(torch.tensor([[1, 2, 3]])).shape
        torch.Size([1, 3, 4096])
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        # NOTE: nn.Embedding(...) would draw random numbers, which on the meta device imports the compiler: two seconds.
        self.embed = nn.Embedding.from_pretrained(torch.empty(config.vocab_size, config.hidden_size), freeze=False)
        self.blocks = nn.ModuleList(DecoderBlock(config, layer) for layer in range(config.num_layers))
        self.norm = RMSNorm(config.hidden_size, config.norm_eps)
        self.head = None if config.tie_embeddings else nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        self.rope = RotaryEmbedding(config)
        self.to(getattr(torch, config.dtype))

    @classmethod
    def empty(cls, config: ModelConfig, device: str | torch.device = "cpu") -> Self:
        """A model whose weights hold whatever was in memory: to be filled at once by the caller."""
        with torch.device("meta"):
            model = cls(config)
        return model.to_empty(device=device)

    @classmethod
    def random(cls, config: ModelConfig, seed: int, device: str | torch.device = "cpu") -> Self:
        """A model with random weights that depend on the seed, the config and the kind of device.

        Normal with deviation 0.02; what is added to the residual stream is scaled down by the square root of the
        number of additions, so that its size does not grow with depth (as in GPT-2). Norms are 1.
        """
        model = cls.empty(config, device)

        def fill(index: int, name: str, parameter: nn.Parameter) -> None:
            if name.endswith("norm.weight"):
                nn.init.ones_(parameter)
                return
            adds_to_stream = name.endswith(("o_proj.weight", "down_proj.weight"))
            std = INIT_STD / math.sqrt(2 * config.num_layers) if adds_to_stream else INIT_STD
            generator = torch.Generator(device).manual_seed(seed * 1_000_003 + index)
            nn.init.normal_(parameter, 0.0, std, generator)

        # A generator draws on one core only, and 1 B weights take it 10 s: so each tensor has its own.
        with ThreadPoolExecutor() as pool:
            names, parameters = zip(*model.named_parameters(), strict=True)
            list(pool.map(fill, range(len(names)), names, parameters))
        return model

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.embed.weight.device

    def forward(
        self,
        input_ids: Tensor,
        positions: Tensor | None = None,
        attend: Attend | None = None,
        logits_at: Tensor | None = None,
    ) -> Tensor:
        """Logits of the token after each of ``input_ids`` (B, T), in the dtype of the model.

        ``positions`` (B, T) default to 0..T-1. ``logits_at`` (N,) are indices into the B*T tokens: only there logits
        are computed, as (N, V); without it they are (B, T, V). Neither ids nor positions are checked here.
        """
        if positions is None:
            positions = torch.arange(input_ids.shape[1], device=input_ids.device)[None]  # (1, T)
        rotation = self.rope(positions)
        attend = attend or causal_attend
        x = self.embed(input_ids)  # (B, T, D)
        for block in self.blocks:
            x = block(x, rotation, attend)
        if logits_at is not None:
            x = x.flatten(0, 1)[logits_at]  # (N, D)
        head = self.embed if self.head is None else self.head
        return F.linear(self.norm(x), head.weight)  # (B, T, V) or (N, V)
