"""Small random models of many shapes, and the same weights in Hugging Face's ``LlamaForCausalLM``.

The weights travel through our own checkpoint in the Hugging Face layout, so that the two share nothing but a folder.
"""

from __future__ import annotations

import random
from pathlib import Path
from typing import NamedTuple

import torch
from transformers import LlamaForCausalLM

from astrai.config import Llama3RopeScaling, ModelConfig
from astrai.model.checkpoint import save
from astrai.model.transformer import Transformer

HEADS = {  # (query heads, kv heads)
    "mha": [(1, 1), (2, 2), (3, 3), (4, 4)],
    "gqa6": [(12, 2), (18, 3), (12, 2), (24, 4)],
    "mqa": [(6, 1), (3, 1), (5, 1), (2, 1)],
    "gqa": [(4, 2), (6, 2), (10, 5), (8, 2)],
}


class Pair(NamedTuple):
    """One set of weights in both implementations."""

    ours: Transformer
    theirs: LlamaForCausalLM


def random_config(index: int) -> ModelConfig:
    """Configuration number ``index`` of an endless list: kinds of heads and head ties in turn, odd sizes at random."""
    rng = random.Random(f"config {index}")
    kinds = list(HEADS)
    num_heads, num_kv_heads = rng.choice(HEADS[kinds[index % len(kinds)]])
    vocab_size = rng.choice([37, 53, 64, 97, 131])
    num_layers, max_seq_len = rng.choice([1, 1, 2, 2, 3]), rng.choice([23, 32, 41, 64])
    original = max_seq_len // 2
    return ModelConfig(
        vocab_size=vocab_size,
        # NOTE: a multiple of the number of heads because LlamaConfig wants it; ours does not.
        hidden_size=num_heads * rng.choice([n for n in range(1, 40) if 11 <= n * num_heads <= 49]),
        num_layers=num_layers,
        num_heads=num_heads,
        num_kv_heads=num_kv_heads,
        head_dim=rng.choice([2, 4, 6, 8, 10, 14]),
        intermediate_size=rng.randint(5, 60),
        max_seq_len=max_seq_len,
        rope_theta=rng.choice([100.0, 10_000.0, 500_000.0]),
        rope_scaling=Llama3RopeScaling(4.0, 1.0, 4.0, original) if rng.random() < 0.25 else None,
        norm_eps=rng.choice([1e-6, 1e-5]),
        tie_embeddings=index // len(kinds) % 2 == 0,
        eos_ids=tuple(rng.sample(range(vocab_size), rng.choice([0, 1, 2]))),
    )


def config_name(index: int) -> str:
    """What a test report calls configuration ``index``. Example: ``"3-gqa-4to2-L2-D24-E6-V53-M64-tied"``."""
    config = random_config(index)
    kind = list(HEADS)[index % len(HEADS)]
    return (
        f"{index}-{kind}-{config.num_heads}to{config.num_kv_heads}-L{config.num_layers}-D{config.hidden_size}"
        f"-E{config.head_dim}-V{config.vocab_size}-M{config.max_seq_len}"
        f"-{'tied' if config.tie_embeddings else 'untied'}{'-llama3rope' if config.rope_scaling else ''}"
    )


def random_model(config: ModelConfig, seed: int) -> Transformer:
    """A model whose next token depends on all tokens before it and on where they stand.

    ``Transformer.random`` is made to be trained: its attention is nearly flat and its logits nearly equal, so that
    most mistakes of a cache would not change a single greedy token.
    """
    model = Transformer.empty(config)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("norm.weight"):
                parameter.uniform_(0.5, 1.5, generator=generator)
            elif "embed" in name:
                # NOTE: small, or a tied head would answer most tokens with the token itself.
                parameter.normal_(0.0, 0.15, generator=generator)
            else:
                gain = 1.5 if "q_proj" in name or "k_proj" in name else 1.0
                parameter.normal_(0.0, gain / parameter.shape[1] ** 0.5, generator=generator)
    return model.eval()


def hf_twin(model: Transformer, folder: Path) -> LlamaForCausalLM:
    """Hugging Face's model with the same weights in float32 and its own plain attention."""
    save(model, folder, layout="hf")
    theirs, report = LlamaForCausalLM.from_pretrained(
        folder, dtype=torch.float32, attn_implementation="eager", output_loading_info=True
    )
    assert not report["missing_keys"] and not report["unexpected_keys"] and not report["mismatched_keys"]
    return theirs.eval()


def random_pair(index: int, folder: Path) -> Pair:
    """Configuration ``index`` with weights of the same seed."""
    model = random_model(random_config(index), seed=index)
    return Pair(model, hf_twin(model, folder))
