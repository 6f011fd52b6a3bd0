"""Ours against LlamaForCausalLM on the same weights, and what the model promises its callers."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from astrai.config import ModelConfig
from astrai.model.checkpoint import load_model
from astrai.model.transformer import Transformer

SMALL = ModelConfig(
    vocab_size=50,
    hidden_size=24,
    num_layers=2,
    num_heads=6,
    num_kv_heads=1,
    head_dim=4,
    intermediate_size=32,
    max_seq_len=256,
)
LLAMA3 = dict(
    rope_type="llama3", factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0, original_max_position_embeddings=16
)
SHAPES = {
    "MHA, tied": dict(num_attention_heads=4, num_key_value_heads=4, hidden_size=32),
    "MHA, untied": dict(num_attention_heads=3, num_key_value_heads=3, tie_word_embeddings=False),
    "6:1, tied": dict(num_attention_heads=6, num_key_value_heads=1),
    "12:2, untied": dict(num_attention_heads=12, num_key_value_heads=2, hidden_size=48, tie_word_embeddings=False),
    "MQA, one layer": dict(num_attention_heads=5, num_key_value_heads=1, num_hidden_layers=1, hidden_size=35),
    "odd sizes": dict(vocab_size=101, hidden_size=27, num_attention_heads=9, num_key_value_heads=3, head_dim=10),
    "head_dim 2": dict(num_attention_heads=4, num_key_value_heads=2, head_dim=2, intermediate_size=7),
    "large theta": dict(rope_parameters=dict(rope_type="default", rope_theta=500_000.0)),
    "llama3 scaling": dict(rope_parameters=dict(LLAMA3, rope_theta=1000.0), head_dim=16),
    "other epsilon": dict(rms_norm_eps=0.1),
}


@pytest.mark.parametrize("shape", SHAPES)
def test_logits_equal_those_of_hugging_face_in_float32(shape: str, make_hf, tmp_path: Path) -> None:
    theirs = make_hf(seed=len(shape), **SHAPES[shape])
    ours = load_model(tmp_path / "hf")
    ids = torch.randint(0, theirs.config.vocab_size, (3, 37))
    with torch.no_grad():
        expected = theirs(ids).logits
        got = ours(ids)
    assert expected.std() > 0.5, "flat logits would hide a difference"
    torch.testing.assert_close(got, expected, rtol=1e-5, atol=2e-5)


def test_logits_equal_those_of_hugging_face_at_shifted_positions(make_hf, tmp_path: Path) -> None:
    theirs = make_hf(rope_parameters=dict(LLAMA3, rope_theta=1000.0))
    ours = load_model(tmp_path / "hf")
    ids = torch.randint(0, 97, (2, 9))
    positions = torch.tensor([[*range(20, 29)], [*range(50, 59)]])
    with torch.no_grad():
        torch.testing.assert_close(
            ours(ids, positions), theirs(ids, position_ids=positions).logits, rtol=1e-5, atol=2e-5
        )


def test_bfloat16_is_as_close_to_float32_as_hugging_face_is(make_hf, tmp_path: Path) -> None:
    exact = make_hf(num_hidden_layers=4, vocab_size=301)
    ids = torch.randint(0, 301, (4, 32))
    ours = load_model(tmp_path / "hf", dtype="bfloat16")
    with torch.no_grad():
        reference = exact(ids).logits
        our_error = (ours(ids).float() - reference).abs().mean() / reference.std()
        their_error = (exact.to(torch.bfloat16)(ids).logits.float() - reference).abs().mean() / reference.std()
    assert ours(ids).dtype == torch.bfloat16
    assert our_error < 0.02
    assert our_error < 1.1 * their_error


def test_a_greedy_continuation_equals_that_of_hugging_face(make_hf, tmp_path: Path) -> None:
    theirs = make_hf(vocab_size=211, seed=5)
    ours = load_model(tmp_path / "hf")
    ids = torch.randint(0, 211, (1, 7))
    expected = theirs.generate(ids, max_new_tokens=30, do_sample=False, pad_token_id=0, eos_token_id=None)
    with torch.inference_mode():
        for _ in range(30):
            ids = torch.cat([ids, ours(ids)[:, -1:].argmax(-1)], dim=1)
    assert ids.tolist() == expected.tolist()


def test_gradients_equal_those_of_hugging_face(make_hf, tmp_path: Path) -> None:
    theirs = make_hf(tie_word_embeddings=False)
    ours = load_model(tmp_path / "hf").train()
    ids = torch.randint(0, 97, (2, 11))
    for model, logits in ((theirs, theirs(ids).logits), (ours, ours(ids))):
        loss = torch.nn.functional.cross_entropy(logits[:, :-1].flatten(0, 1), ids[:, 1:].flatten())
        model.zero_grad()
        loss.backward()
    pairs = [
        (ours.embed, theirs.model.embed_tokens),
        (ours.blocks[0].attention.k_proj, theirs.model.layers[0].self_attn.k_proj),
        (ours.blocks[0].attention.q_proj, theirs.model.layers[0].self_attn.q_proj),
        (ours.blocks[1].mlp.gate_proj, theirs.model.layers[1].mlp.gate_proj),
        (ours.blocks[1].mlp_norm, theirs.model.layers[1].post_attention_layernorm),
    ]
    for our_module, their_module in pairs:
        torch.testing.assert_close(our_module.weight.grad, their_module.weight.grad, rtol=1e-4, atol=1e-6)


def test_a_model_can_be_trained_after_it_was_run_in_inference_mode() -> None:
    model = Transformer.random(SMALL, seed=0)
    ids = torch.randint(0, 50, (1, 5))
    with torch.inference_mode():
        model(ids)
    model(ids).sum().backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


def test_the_1b_preset_has_1_050_207_744_parameters() -> None:
    with torch.device("meta"):
        model = Transformer(ModelConfig.preset("1b"))
    assert sum(parameter.numel() for parameter in model.parameters()) == 1_050_207_744
    assert {parameter.dtype for parameter in model.parameters()} == {torch.bfloat16}


@pytest.mark.parametrize("tied", [True, False])
def test_the_config_counts_the_parameters_that_the_model_has(tied: bool) -> None:
    config = ModelConfig.from_dict({**SMALL.to_dict(), "tie_embeddings": tied})
    assert sum(parameter.numel() for parameter in Transformer(config).parameters()) == config.num_parameters


def test_logits_at_gives_the_same_logits_for_a_part_of_the_tokens() -> None:
    model = Transformer.random(SMALL, seed=0)
    ids = torch.randint(0, 50, (3, 7))
    with torch.no_grad():
        everywhere, some = model(ids), model(ids, logits_at=torch.tensor([20, 0, 8]))
    torch.testing.assert_close(some, torch.stack([everywhere[2, 6], everywhere[0, 0], everywhere[1, 1]]))


class LargestTensor(TorchDispatchMode):
    """Remembers the largest new (not viewed) float tensor that any operation returned."""

    elements = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        is_view = any(len(r.alias_info.before_set) > 0 for r in function._schema.returns if r.alias_info)
        if isinstance(result, torch.Tensor) and result.is_floating_point() and not is_view:
            self.elements = max(self.elements, result.untyped_storage().nbytes() // result.element_size())
        return result


def test_logits_at_never_makes_logits_of_the_other_tokens() -> None:
    model = Transformer.random(SMALL, seed=0)  # 50 logits per token, more than any other activation
    with torch.no_grad(), LargestTensor() as largest:
        model(torch.randint(0, 50, (1, 200)), logits_at=torch.tensor([199]))
    assert largest.elements < 200 * 50


def test_kv_heads_are_not_repeated_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    attend_to = torch.nn.functional.scaled_dot_product_attention
    stored = []

    def spy(q, k, v, **options):
        stored.extend(tensor.untyped_storage().nbytes() for tensor in (k, v))
        return attend_to(q, k, v, **options)

    monkeypatch.setattr(torch.nn.functional, "scaled_dot_product_attention", spy)
    Transformer.random(SMALL, seed=0)(torch.randint(0, 50, (2, 30)))
    one_head = 2 * 30 * SMALL.head_dim * 4  # bytes, float32
    assert stored == [one_head] * 2 * SMALL.num_layers


def test_random_weights_depend_on_the_seed_alone() -> None:
    first, again, other = (Transformer.random(SMALL, seed=seed).state_dict() for seed in (1, 1, 2))
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["embed.weight"], other["embed.weight"])
    assert first["embed.weight"].std().item() == pytest.approx(0.02, rel=0.1)
    assert first["blocks.0.attention.o_proj.weight"].std().item() == pytest.approx(0.01, rel=0.2)
    assert torch.equal(first["norm.weight"], torch.ones(24))


def test_casting_a_model_leaves_its_angles_in_float32() -> None:
    model = Transformer.random(SMALL, seed=0)
    before = model.rope(torch.tensor([[200]]))
    after = model.to(torch.bfloat16).rope(torch.tensor([[200]]))
    assert after.cos.dtype == torch.float32
    assert torch.equal(before.cos, after.cos) and torch.equal(before.sin, after.sin)
