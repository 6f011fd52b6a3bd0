"""The two small layers against Hugging Face's modules of the same name and purpose."""

from __future__ import annotations

import pytest
import torch
from transformers import LlamaConfig
from transformers.models.llama.modeling_llama import LlamaMLP, LlamaRMSNorm

from astrai.model.layers import RMSNorm, SwiGLU


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_rms_norm_equals_that_of_hugging_face_to_the_last_bit_in_any_dtype(dtype: torch.dtype) -> None:
    x = (torch.randn(5, 7, 96) * 3).to(dtype)
    ours, theirs = RMSNorm(96, eps=1e-3).to(dtype), LlamaRMSNorm(96, eps=1e-3).to(dtype)
    weight = torch.rand(96).to(dtype)
    for norm in (ours, theirs):
        norm.weight.data.copy_(weight)
    assert ours(x).dtype == dtype
    assert torch.equal(ours(x), theirs(x))


def test_swiglu_gates_with_the_gate_projection_as_that_of_hugging_face() -> None:
    ours, theirs = SwiGLU(12, 20), LlamaMLP(LlamaConfig(hidden_size=12, intermediate_size=20, num_attention_heads=3))
    theirs.load_state_dict(ours.state_dict())
    x = torch.randn(3, 4, 12)
    torch.testing.assert_close(ours(x), theirs(x))
