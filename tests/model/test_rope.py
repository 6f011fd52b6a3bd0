"""The layout and the frequencies of the rotary embedding against textbook formulas."""

from __future__ import annotations

import math

import numpy as np
import torch

from astrai.config import Llama3RopeScaling, ModelConfig
from astrai.model.rope import RotaryEmbedding, inverse_frequencies, rotate

CONFIG = ModelConfig(
    vocab_size=10,
    hidden_size=8,
    num_layers=1,
    num_heads=2,
    num_kv_heads=1,
    head_dim=16,
    intermediate_size=8,
    max_seq_len=4096,
    rope_theta=10_000.0,
)


def test_dimension_i_is_paired_with_the_one_half_a_head_away() -> None:
    x = np.random.default_rng(0).standard_normal((2, 5, 3, 16))
    positions = np.array([[0, 1, 2, 3, 4], [7, 100, 101, 2000, 4095]])
    angles = positions[:, :, None, None] * 10_000.0 ** (-np.arange(8) / 8)
    pairs = (x[..., :8] + 1j * x[..., 8:]) * np.exp(1j * angles)  # half-split: not x[..., 0::2] + 1j * x[..., 1::2]
    expected = np.concatenate([pairs.real, pairs.imag], axis=-1)
    got = rotate(torch.tensor(x, dtype=torch.float32), RotaryEmbedding(CONFIG)(torch.tensor(positions)))
    np.testing.assert_allclose(got.numpy(), expected, atol=2e-3)  # float32 angles up to 4095 radians
    np.testing.assert_allclose(got[0].numpy(), expected[0], atol=1e-6)


def test_scores_depend_on_the_distance_between_positions_only() -> None:
    rope = RotaryEmbedding(CONFIG)
    q, k = torch.randn(2, 1, 1, 1, 16)
    near, far = (
        (rotate(q, rope(torch.tensor([[n + 9]]))) * rotate(k, rope(torch.tensor([[n]])))).sum() for n in (0, 300)
    )
    torch.testing.assert_close(near, far, rtol=1e-3, atol=1e-3)


def test_rotation_keeps_the_dtype_and_rounds_once() -> None:
    x = torch.randn(1, 3, 2, 16).bfloat16()
    rotation = RotaryEmbedding(CONFIG)(torch.tensor([[5, 6, 700]]))
    assert rotation.cos.dtype == torch.float32
    assert torch.equal(rotate(x, rotation), rotate(x.float(), rotation).bfloat16())


def test_llama3_scaling_slows_long_wavelengths_and_keeps_short_ones() -> None:
    scaling = Llama3RopeScaling(
        factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0, original_max_position_embeddings=64
    )
    plain = inverse_frequencies(CONFIG).tolist()
    scaled = inverse_frequencies(
        ModelConfig.from_dict({**CONFIG.to_dict(), "rope_theta": 1e4, "rope_scaling": scaling})
    ).tolist()
    kinds = set()
    for before, after in zip(plain, scaled, strict=True):
        wavelength = 2 * math.pi / before
        if wavelength < 64 / 4:
            kinds.add("kept")
            assert math.isclose(after, before, rel_tol=1e-6)
        elif wavelength > 64 / 1:
            kinds.add("slowed")
            assert math.isclose(after, before / 8, rel_tol=1e-6)
        else:
            kinds.add("between")
            weight = (64 / wavelength - 1) / (4 - 1)
            assert math.isclose(after, (1 - weight) * before / 8 + weight * before, rel_tol=1e-5)
    assert kinds == {"kept", "slowed", "between"}
