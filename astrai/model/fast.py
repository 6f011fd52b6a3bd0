"""The fast path: the same model in fewer and larger operations. :class:`Transformer` stays the reference.

A step that decodes a few rows multiplies small inputs by large matrices. Three things cost time there, and each is
taken away where it stands below: matrices that are read in an order that suits training (here they are *packed* once
for the processor's widest instructions), many small calls (q, k and v are one matrix, so are gate and up, and what is
added to the stream is added by the multiplication itself), and a Python object around each of them.

The numbers are those of the reference up to the order of summation: a test compares the logits of both, and the tests
of the engine run on this path, but for those that hook into the model.
"""

from __future__ import annotations

import platform
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from astrai.model.attention import Attend, Attention, causal_attend
from astrai.model.layers import RMSNorm, SwiGLU
from astrai.model.rope import Rotation, rotate
from astrai.model.transformer import DecoderBlock, Transformer

KNOWN = {Transformer, DecoderBlock, Attention, SwiGLU, RMSNorm, nn.Linear, nn.Embedding, nn.ModuleList}
ROWS = 16  # the packing is laid out for batches of about this many tokens


class Matrix:
    """A weight (N, K) in the layout that multiplies fastest here: packed by oneDNN, or as it was."""

    def __init__(self, weight: Tensor) -> None:
        self.packed = can_pack(weight)
        self.weight = torch.ops.mkldnn._reorder_linear_weight(weight, ROWS) if self.packed else weight

    def __call__(self, x: Tensor) -> Tensor:
        """``x @ weight.T``: (..., K) in, (..., N) out."""
        if self.packed:
            return torch.ops.mkldnn._linear_pointwise(x, self.weight, None, "none", [], "")
        return F.linear(x, self.weight)

    def added_to(self, stream: Tensor, x: Tensor) -> Tensor:
        """``stream + x @ weight.T``, in one operation where that exists: ``stream`` (..., N)."""
        if self.packed:
            return torch.ops.mkldnn._linear_pointwise.binary(x, stream, self.weight, None, "add")
        return stream + F.linear(x, self.weight)


class FastBlock(NamedTuple):
    """The weights of one decoder block."""

    attention_norm: Tensor  # (D,)
    qkv: Matrix  # ((H + 2 K) * E, D)
    o: Matrix  # (D, H * E)
    mlp_norm: Tensor  # (D,)
    gate_up: Matrix  # (2 * F, D), F the intermediate size
    down: Matrix  # (D, F)


class FastTransformer:
    """Called as a :class:`Transformer` is, for inference only. Make one with :func:`fast_path`.

    Its matrices are copies: where the model's weights change in place, they are made again before the next forward. Not
    noticed are numbers written through ``.data`` and a parameter that is another object: make a new one after those.
    """

    def __init__(self, model: Transformer) -> None:
        self.model = model
        self.config, self.device = model.config, model.device
        self.revision = 0
        self._modules, self._parameters = list(model.modules()), list(model.parameters())
        self._build()

    @torch.no_grad()
    def _build(self) -> None:
        self.revision += 1
        self._versions = self._weight_versions()
        self.blocks = [_fused(block) for block in self.model.blocks]
        head = self.model.embed if self.model.head is None else self.model.head
        self.head = Matrix(head.weight.detach())

    def _weight_versions(self) -> list[int]:
        # NOTE: weights made in inference mode count no versions, so a change of theirs is not noticed either.
        return [0 if parameter.is_inference() else parameter._version for parameter in self._parameters]

    @property
    def is_watched(self) -> bool:
        """Whether somebody hooked into the model to see what passes: then the model itself runs."""
        return any(module._forward_hooks or module._forward_pre_hooks for module in self._modules)

    def refresh(self) -> None:
        """Make the matrices again if the model's weights changed since; ``revision`` then counts one more."""
        if self._versions != self._weight_versions():
            self._build()

    def __call__(
        self,
        input_ids: Tensor,
        positions: Tensor | None = None,
        attend: Attend | None = None,
        logits_at: Tensor | None = None,
    ) -> Tensor:
        """As ``Transformer.forward``."""
        if self.is_watched:
            return self.model(input_ids, positions, attend, logits_at)
        self.refresh()
        return self.forward(input_ids, positions, attend, logits_at)

    def forward(
        self, input_ids: Tensor, positions: Tensor | None, attend: Attend | None, logits_at: Tensor | None
    ) -> Tensor:
        """The computation of ``Transformer.forward`` in other words."""
        if positions is None:
            positions = torch.arange(input_ids.shape[1], device=input_ids.device)[None]  # (1, T)
        rotation = self.model.rope(positions)
        attend = attend or causal_attend
        x = self.model.embed(input_ids)  # (B, T, D)
        for layer, block in enumerate(self.blocks):
            x = self._block(layer, block, x, rotation, attend)
        if logits_at is not None:
            x = x.flatten(0, 1)[logits_at]  # (N, D)
        return self.head(self._norm(x, self.model.norm.weight))  # (B, T, V) or (N, V)

    def _block(self, layer: int, block: FastBlock, x: Tensor, rotation: Rotation, attend: Attend) -> Tensor:
        """``x``: (B, T, D), same shape out."""
        config = self.config
        heads = block.qkv(self._norm(x, block.attention_norm)).unflatten(-1, (-1, config.head_dim))  # (B, T, H + 2K, E)
        num_rotated = config.num_heads + config.num_kv_heads
        qk, v = rotate(heads[..., :num_rotated, :], rotation), heads[..., num_rotated:, :]
        out = attend(layer, qk[..., : config.num_heads, :], qk[..., config.num_heads :, :], v)  # (B, T, H, E)
        x = block.o.added_to(x, out.flatten(2))
        gate, up = block.gate_up(self._norm(x, block.mlp_norm)).chunk(2, dim=-1)  # (B, T, F) twice
        return block.down.added_to(x, F.silu(gate).mul_(up))

    def _norm(self, x: Tensor, weight: Tensor) -> Tensor:
        return F.rms_norm(x, (x.shape[-1],), weight, self.config.norm_eps)


def fast_path(model: Transformer) -> Transformer | FastTransformer:
    """The model in its fast form; itself, where someone replaced a part of it: then that part must run."""
    is_plain = all(type(module) in KNOWN and "forward" not in vars(module) for module in model.modules())
    return FastTransformer(model) if is_plain else model


def can_pack(weight: Tensor) -> bool:
    """Whether oneDNN packs this weight: on x86, float32 anywhere, bfloat16 where the processor has it."""
    if weight.device.type != "cpu" or platform.machine() not in ("x86_64", "AMD64"):
        return False
    ops = torch.ops.mkldnn
    if not torch.backends.mkldnn.is_available() or not hasattr(ops, "_linear_pointwise"):
        return False
    return weight.dtype == torch.float32 or (weight.dtype == torch.bfloat16 and ops._is_mkldnn_bf16_supported())


def _fused(block: DecoderBlock) -> FastBlock:
    attention, mlp = block.attention, block.mlp
    qkv = torch.cat([attention.q_proj.weight, attention.k_proj.weight, attention.v_proj.weight])
    gate_up = torch.cat([mlp.gate_proj.weight, mlp.up_proj.weight])
    return FastBlock(
        block.attention_norm.weight,
        Matrix(qkv),
        Matrix(attention.o_proj.weight),
        block.mlp_norm.weight,
        Matrix(gate_up),
        Matrix(mlp.down_proj.weight),
    )
