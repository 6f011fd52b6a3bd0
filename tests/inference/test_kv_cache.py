"""Cached attention against the uncached forward, and what the rows of the cache promise."""

from __future__ import annotations

import random

import pytest
import torch
from torch import Tensor

from astrai.config import ModelConfig
from astrai.inference.cache import kv_cache
from astrai.inference.cache.kv_cache import POISON, KVCache, KVCacheTooLarge, available_memory
from astrai.model.transformer import Transformer

CONFIG = ModelConfig(
    vocab_size=61,
    hidden_size=24,
    num_layers=3,
    num_heads=6,
    num_kv_heads=1,
    head_dim=8,
    intermediate_size=30,
    max_seq_len=64,
)
SHAPES = {"6:1": (6, 1), "12:2": (12, 2), "MHA": (3, 3), "MQA": (4, 1)}


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def make_model(heads: tuple[int, int] = (6, 1), dtype: str = "float32") -> Transformer:
    config = {**CONFIG.to_dict(), "num_heads": heads[0], "num_kv_heads": heads[1], "dtype": dtype}
    model = Transformer.random(ModelConfig.from_dict(config), seed=0)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.mul_(1.0 if "norm" in name else 10.0)  # so that attention is not flat
    return model.eval()


def make_cache(model: Transformer, num_slots: int = 8, **options: bool) -> KVCache:
    return KVCache(model.config, num_slots, 40, **options)


@torch.inference_mode()
def prefill(
    model: Transformer, cache: KVCache, rows: dict[int, list[int]], chunks: list[tuple[int, int, int]]
) -> Tensor:
    """Logits (N, V) of packed ``(slot, start, length)`` chunks of the rows' tokens."""
    ids = [token for slot, start, length in chunks for token in rows[slot][start : start + length]]
    positions = [position for _, start, length in chunks for position in range(start, start + length)]
    return model(torch.tensor([ids]), torch.tensor([positions]), cache.prefill_attend(chunks))[0]


@torch.inference_mode()
def decode(model: Transformer, cache: KVCache, rows: dict[int, list[int]], at: dict[int, int]) -> Tensor:
    """Logits (B, V) of one token per row, each at its position, rows in ascending order."""
    slots = sorted(at)
    positions = [at[slot] for slot in slots]
    ids = torch.tensor([[rows[slot][at[slot]]] for slot in slots])
    attend = cache.decode_attend(slots, positions)
    return model(ids, torch.tensor(positions)[:, None], attend)[:, 0]


@torch.inference_mode()
def uncached(model: Transformer, tokens: list[int]) -> Tensor:
    """Logits (T, V) without any cache."""
    return model(torch.tensor([tokens]))[0]


def close(got: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("shape", SHAPES)
def test_random_chunks_and_decodes_equal_the_uncached_forward(shape: str, seed: int) -> None:
    rng = random.Random(seed)
    model = make_model(SHAPES[shape])
    cache = make_cache(model, poison=True)
    rows = {slot: [rng.randrange(61) for _ in range(rng.randint(2, 40))] for slot in rng.sample(range(8), 5)}
    expected = {slot: uncached(model, tokens) for slot, tokens in rows.items()}
    done = dict.fromkeys(rows, 0)
    while any(done[slot] < len(rows[slot]) for slot in rows):
        open_rows = [slot for slot in rows if done[slot] < len(rows[slot])]
        some = rng.sample(open_rows, rng.randint(1, len(open_rows)))
        if rng.random() < 0.5:
            chunks = [(slot, done[slot], rng.randint(1, len(rows[slot]) - done[slot])) for slot in some]
            logits = prefill(model, cache, rows, chunks)
            close(logits, torch.cat([expected[slot][start : start + length] for slot, start, length in chunks]))
            done.update({slot: start + length for slot, start, length in chunks})
        else:
            logits = decode(model, cache, rows, {slot: done[slot] for slot in some})
            close(logits, torch.stack([expected[slot][done[slot]] for slot in sorted(some)]))
            done.update({slot: done[slot] + 1 for slot in some})


def test_a_chunk_after_a_prefix_sees_all_of_the_prefix_and_nothing_of_the_future() -> None:
    model = make_model()
    tokens = list(range(20))
    expected = uncached(model, tokens)
    for start in (1, 7, 19):
        cache = make_cache(model, poison=True)
        prefill(model, cache, {0: tokens}, [(0, 0, start)])
        close(prefill(model, cache, {0: tokens}, [(0, start, 20 - start)]), expected[start:])


def test_decode_in_bfloat16_stays_close_to_the_uncached_forward() -> None:
    model = make_model(dtype="bfloat16")
    cache = make_cache(model, poison=True)
    rows = {0: list(range(30)), 1: list(range(5, 25))}
    prefill(model, cache, rows, [(0, 0, 29), (1, 0, 19)])
    got = decode(model, cache, rows, {0: 29, 1: 19}).float()
    expected = torch.stack([uncached(model, rows[0])[-1], uncached(model, rows[1])[-1]]).float()
    assert (got - expected).abs().mean() < 0.02 * expected.std()


def test_the_rows_hold_the_keys_and_values_of_the_uncached_forward() -> None:
    model = make_model((12, 2))
    tokens = [3, 1, 4, 1, 5, 9, 2, 6]
    seen = []

    def spy(layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        seen.append((k[0], v[0]))  # (T, K, E)
        return kv_cache.F.scaled_dot_product_attention(
            *(x.transpose(1, 2) for x in (q, k, v)), is_causal=True, enable_gqa=True
        ).transpose(1, 2)

    with torch.inference_mode():
        model(torch.tensor([tokens]), attend=spy)
    cache = make_cache(model)
    prefill(model, cache, {5: tokens}, [(5, 0, 3)])
    prefill(model, cache, {5: tokens}, [(5, 3, 4)])
    decode(model, cache, {5: tokens}, {5: 7})
    close(cache.k_cache[:, 5, :, :8], torch.stack([k for k, _ in seen]).transpose(1, 2))
    close(cache.v_cache[:, 5, :, :8], torch.stack([v for _, v in seen]).transpose(1, 2))
    assert not cache.k_cache[:, 5, :, 8:].any() and not cache.k_cache[:, 4].any() and not cache.k_cache[:, 6].any()


def test_a_copied_prefix_continues_as_if_it_had_been_computed_there() -> None:
    model = make_model()
    cache = make_cache(model, poison=True)
    first, second = list(range(20)), [*range(12), *range(40, 50)]
    prefill(model, cache, {2: first}, [(2, 0, 20)])
    before = cache.k_cache[:, 6, :, 12:].clone()
    cache.copy_prefix(2, 6, 12)
    assert torch.equal(cache.v_cache[:, 2, :, :12], cache.v_cache[:, 6, :, :12])
    assert torch.equal(cache.k_cache[:, 6, :, 12:], before), "more than the prefix was copied"
    close(prefill(model, cache, {6: second}, [(6, 12, 10)]), uncached(model, second)[12:])


def spy_on_attention(monkeypatch: pytest.MonkeyPatch) -> list[dict]:
    calls = []
    attend_to = torch.nn.functional.scaled_dot_product_attention

    def spy(q, k, v, attn_mask=None, **options):
        calls.append({"k": k, "v": v, "mask": attn_mask})
        return attend_to(q, k, v, attn_mask=attn_mask, **options)

    monkeypatch.setattr(torch.nn.functional, "scaled_dot_product_attention", spy)
    return calls


def test_attention_reads_views_of_the_cache_and_repeats_no_head(monkeypatch: pytest.MonkeyPatch) -> None:
    model = make_model((12, 2))
    cache = make_cache(model)
    rows = {slot: list(range(30)) for slot in range(4)}
    calls = spy_on_attention(monkeypatch)
    prefill(model, cache, rows, [(0, 0, 20), (1, 0, 10), (2, 0, 10), (3, 0, 15)])
    prefill(model, cache, rows, [(1, 10, 5)])
    decode(model, cache, rows, {0: 20, 1: 15, 2: 10, 3: 15})
    assert len(calls) == 3 * (4 + 1 + 1)  # a call per layer and chunk or run
    for call in calls:
        assert call["k"].untyped_storage().data_ptr() == cache.k_cache.untyped_storage().data_ptr()
        assert call["v"].untyped_storage().data_ptr() == cache.v_cache.untyped_storage().data_ptr()


def test_decode_attends_once_per_run_of_adjacent_rows_and_masks_only_unequal_lengths(monkeypatch) -> None:
    model = make_model()
    cache = make_cache(model)
    rows = {slot: list(range(30)) for slot in range(8)}
    calls = spy_on_attention(monkeypatch)
    decode(model, cache, rows, {0: 9, 1: 9, 2: 9, 4: 9, 6: 9, 7: 4})
    first_layer = calls[:3]
    assert len(calls) == 3 * len(first_layer)
    assert [(call["k"].shape[0], call["k"].shape[2]) for call in first_layer] == [(3, 10), (1, 10), (2, 10)]
    assert [call["mask"] is None for call in first_layer] == [True, True, False]
    assert first_layer[2]["mask"][:, 0, 0].isinf().tolist() == [[False] * 10, [False] * 5 + [True] * 5]
    assert calls[2]["mask"] is calls[5]["mask"], "the mask is built once per step, not per layer"


def test_a_decode_of_unsorted_or_doubled_rows_is_our_own_mistake() -> None:
    cache = make_cache(make_model())
    with pytest.raises(AssertionError, match="not sorted"):
        cache.decode_attend([3, 2], [5, 5])
    with pytest.raises(AssertionError, match="not sorted"):
        cache.decode_attend([2, 2], [5, 5])
    with pytest.raises(AssertionError, match="twice"):
        cache.prefill_attend([(1, 0, 4), (1, 4, 4)])
    with pytest.raises(AssertionError, match="beyond"):
        cache.decode_attend([2], [40])
    with pytest.raises(AssertionError, match="beyond"):
        cache.prefill_attend([(1, 38, 3)])


def test_poison_fills_all_rows_at_first_and_only_what_is_beyond_later() -> None:
    cache = make_cache(make_model(), poison=True)
    assert (cache.k_cache.abs() == POISON).all() and (cache.v_cache.abs() == POISON).all()
    assert 0.4 < (cache.v_cache > 0).float().mean() < 0.6, "signs are random, or poison could cancel out"
    cache.k_cache.zero_()
    cache.v_cache.zero_()
    cache.poison_from(3, 10)
    for tensor in (cache.k_cache, cache.v_cache):
        assert (tensor[:, 3, :, 10:].abs() == POISON).all()
        assert not tensor[:, 3, :, :10].any() and not tensor[:, 2].any() and not tensor[:, 4].any()


def test_without_poison_rows_start_at_zero_and_poison_from_does_nothing() -> None:
    cache = make_cache(make_model())
    cache.v_cache.fill_(1.0)
    cache.poison_from(3, 10)
    assert (cache.v_cache == 1.0).all() and not cache.k_cache.any()
    cache.clear_from(3, 10)
    assert not cache.v_cache[:, 3, :, 10:].any() and (cache.v_cache[:, 3, :, :10] == 1.0).all()


@pytest.mark.parametrize("read", ["prefill", "decode"])
def test_a_read_past_the_valid_length_shows_in_poison_mode(read: str) -> None:
    model = make_model()
    cache = make_cache(model, poison=True)
    tokens = list(range(20))
    expected = uncached(model, tokens)
    prefill(model, cache, {0: tokens}, [(0, 0, 10)])
    # Whoever claims that 12 tokens are cached when 10 are reads two positions that nobody wrote.
    if read == "prefill":
        got = prefill(model, cache, {0: tokens}, [(0, 12, 8)])
    else:
        got = decode(model, cache, {0: tokens}, {0: 12})
    assert (got[0] - expected[12]).abs().max() > 0.1


def test_the_bytes_that_are_planned_are_the_bytes_that_are_taken() -> None:
    cache = make_cache(make_model((12, 2)))
    config = make_model((12, 2)).config
    assert KVCache.plan_bytes(config, 8, 40) == cache.k_cache.nbytes + cache.v_cache.nbytes
    assert KVCache.plan_bytes(config, 8, 40, torch.bfloat16) == cache.k_cache.nbytes
    assert KVCache.plan_bytes(config, 1, 1) == config.kv_bytes_per_token
    assert cache.k_cache.shape == (3, 8, 2, 40, 8) and cache.k_cache.is_contiguous()


def test_a_cache_that_does_not_fit_is_refused_with_the_numbers_and_the_remedy() -> None:
    needed = KVCache.plan_bytes(CONFIG, 8, 40)
    assert KVCache(CONFIG, 8, 40, memory_limit=needed).num_slots == 8
    with pytest.raises(KVCacheTooLarge) as error:
        KVCache(CONFIG, 8, 40, memory_limit=needed - 1)
    assert f"needs {needed:,} bytes (8 rows x 40 positions x {needed // 320:,} bytes)" in str(error.value)
    assert f"the limit is {needed - 1:,}: at this length 7 rows fit; lower num_slots or max_seq_len" in str(error.value)


def test_the_default_limit_is_the_memory_that_the_device_has(monkeypatch: pytest.MonkeyPatch) -> None:
    available = available_memory(torch.device("cpu"))
    assert available is None or available > 1_000_000
    with pytest.raises(KVCacheTooLarge, match="cpu has"):
        KVCache(CONFIG, 10**12, 64)
    monkeypatch.setattr(kv_cache, "available_memory", lambda device: None)
    assert KVCache(CONFIG, 2, 64).num_slots == 2, "where memory cannot be known, nothing is refused"


def test_rows_longer_than_the_model_knows_positions_are_refused() -> None:
    with pytest.raises(ValueError, match="a row of 65 positions was asked for, but the model knows only 64"):
        KVCache(CONFIG, 1, 65)
