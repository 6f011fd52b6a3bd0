"""A small random Llama of Hugging Face, which the tests hold ours against."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

MakeHf = Callable[..., LlamaForCausalLM]


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture
def make_hf(tmp_path: Path) -> MakeHf:
    """Make a model, saved to ``tmp_path / "hf"``; keyword arguments override its config and how it is saved."""

    def make(seed: int = 0, max_shard_size: str = "1GB", **overrides: object) -> LlamaForCausalLM:
        settings = dict(
            vocab_size=97,
            hidden_size=24,
            num_hidden_layers=2,
            num_attention_heads=6,
            num_key_value_heads=1,
            head_dim=8,
            intermediate_size=40,
            max_position_embeddings=64,
            tie_word_embeddings=True,
            attn_implementation="eager",
        )
        torch.manual_seed(seed)
        model = LlamaForCausalLM(LlamaConfig(**{**settings, **overrides})).eval()
        for name, parameter in model.named_parameters():  # so that no norm is the identity and no logits are flat
            if "norm" in name:
                torch.nn.init.uniform_(parameter, 0.5, 1.5)
            else:
                torch.nn.init.normal_(parameter, std=0.25)
        model.save_pretrained(tmp_path / "hf", max_shard_size=max_shard_size)
        return model

    return make
