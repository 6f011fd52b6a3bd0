"""The runner over a real (small) model: whatever is packed, shuffled or copied, tokens equal the uncached loop."""

from __future__ import annotations

import random

import pytest
import torch

from astrai.config import ModelConfig, SamplingParams
from astrai.inference.cache.kv_cache import POISON, KVCache
from astrai.inference.request import PrefillChunk, Request, Sampled
from astrai.inference.runner import TransformerRunner
from astrai.inference.sampler import Sampler
from astrai.model.transformer import Transformer
from astrai.trace.events import PrefixCopied

CONFIG = ModelConfig(
    vocab_size=61,
    hidden_size=24,
    num_layers=2,
    num_heads=6,
    num_kv_heads=1,
    head_dim=8,
    intermediate_size=30,
    max_seq_len=64,
)


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def model() -> Transformer:
    model = Transformer.random(CONFIG, seed=0)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.mul_(1.0 if "norm" in name else 10.0)
    return model.eval()


@pytest.fixture(params=[False, True], ids=["each row to its end", "fixed shapes"])
def runner(model: Transformer, request: pytest.FixtureRequest) -> TransformerRunner:
    """With a spare column it decodes in the fixed shapes that CUDA graphs need, here without the graphs."""
    kv_cache = KVCache(CONFIG, 8, 64, poison=True, spare_column=request.param)
    runner = TransformerRunner(model, kv_cache, Sampler())
    assert (runner.graphs is not None) == request.param
    return runner


def make_request(request_id: int, slot: int, prompt: list[int]) -> Request:
    return Request(request_id, tuple(prompt), SamplingParams(), slot=slot)


def prefill(runner: TransformerRunner, chunks: list[PrefillChunk]) -> list[Sampled | None]:
    """Run the chunks, and do to the requests what the scheduler does."""
    results = runner.prefill(chunks)
    for chunk, sampled in zip(chunks, results, strict=True):
        chunk.request.context_len = chunk.end
        if sampled:
            chunk.request.output_ids.append(sampled.token_id)
    return results


def decode(runner: TransformerRunner, requests: list[Request]) -> None:
    for request, sampled in zip(requests, runner.decode(requests), strict=True):
        request.context_len += 1
        request.output_ids.append(sampled.token_id)


@torch.inference_mode()
def reference(model: Transformer, prompt: tuple[int, ...], count: int) -> list[int]:
    """The plain loop without a cache; refuses to compare where two logits tie."""
    tokens = list(prompt)
    for _ in range(count):
        best, second = model(torch.tensor([tokens]))[0, -1].topk(2).values.tolist()
        assert best - second > 1e-4, "a tie: choose another seed"
        tokens.append(int(model(torch.tensor([tokens]))[0, -1].argmax()))
    return tokens[len(prompt) :]


def test_the_first_token_comes_from_prefill_and_no_token_is_fed_twice(model, runner) -> None:
    request = make_request(0, 3, [5, 6, 7, 8])
    [first] = prefill(runner, [PrefillChunk(request, 0, 4)])
    assert first is not None
    for _ in range(5):
        decode(runner, [request])
    assert request.output_ids == reference(model, request.prompt_ids, 6)
    assert request.context_len == 4 + 5


@pytest.mark.parametrize("seed", range(8))
def test_random_chunks_slots_and_orders_give_the_tokens_of_the_uncached_loop(seed: int, model, runner) -> None:
    rng = random.Random(seed)
    slots = rng.sample(range(8), rng.randint(1, 6))
    requests = [
        make_request(i, slot, [rng.randrange(61) for _ in range(rng.randint(1, 30))]) for i, slot in enumerate(slots)
    ]
    wanted = {request.request_id: rng.randint(1, 12) for request in requests}
    while open_requests := [r for r in requests if len(r.output_ids) < wanted[r.request_id]]:
        some = rng.sample(open_requests, rng.randint(1, len(open_requests)))
        chunks = [
            PrefillChunk(r, r.context_len, rng.randint(r.context_len + 1, r.prompt_len)) for r in some if r.extend_len
        ]
        if chunks:
            results = prefill(runner, chunks)
            assert [result is None for result in results] == [chunk.end < chunk.request.prompt_len for chunk in chunks]
        if decoding := [r for r in some if r.output_ids and len(r.output_ids) < wanted[r.request_id]]:
            decode(runner, decoding)
    for request in requests:
        assert request.output_ids == reference(model, request.prompt_ids, wanted[request.request_id])


def test_decode_results_stand_in_the_order_of_the_requests_not_of_the_slots(model, runner) -> None:
    requests = [make_request(i, slot, [i + 1] * (i + 2)) for i, slot in enumerate((6, 1, 4, 0))]
    prefill(runner, [PrefillChunk(request, 0, request.prompt_len) for request in requests])
    for order in ([2, 0, 3, 1], [3, 2, 1, 0], [0, 1, 2, 3], [1, 3]):
        decode(runner, [requests[i] for i in order])
    for request in requests:
        assert request.output_ids == reference(model, request.prompt_ids, len(request.output_ids))
    assert len({tuple(request.output_ids) for request in requests}) == 4, "equal outputs would hide a swap"


def test_logits_are_computed_for_the_last_tokens_of_complete_prompts_only(runner, monkeypatch) -> None:
    shapes = []
    forward = runner.model.forward

    def spy(*args):
        logits = forward(*args)
        shapes.append(tuple(logits.shape))
        return logits

    monkeypatch.setattr(runner.model, "forward", spy)
    whole, part, other = (make_request(i, i, [1 + i] * 10) for i in range(3))
    results = runner.prefill([PrefillChunk(part, 0, 6), PrefillChunk(whole, 0, 10), PrefillChunk(other, 0, 10)])
    assert [result is None for result in results] == [True, False, False]
    assert runner.prefill([PrefillChunk(part, 6, 9)]) == [None]
    assert shapes == [(2, 61), (0, 61)]


def test_copies_are_carried_out_in_order_and_continue_correctly(model, runner) -> None:
    source = make_request(0, 0, list(range(20)))
    prefill(runner, [PrefillChunk(source, 0, 20)])
    runner.copy([PrefixCopied(0, 1, 5, 1, 16), PrefixCopied(5, 1, 7, 1, 10)])
    follower = make_request(1, 7, [*range(10), 50, 51])
    follower.cached_len = follower.context_len = 10
    prefill(runner, [PrefillChunk(follower, 10, 12)])
    for _ in range(4):
        decode(runner, [source, follower])
    for request in (source, follower):
        assert request.output_ids == reference(model, request.prompt_ids, 5)


def test_the_first_chunk_of_a_request_poisons_what_the_row_held_before(model, runner) -> None:
    old = make_request(0, 2, list(range(30)))
    prefill(runner, [PrefillChunk(old, 0, 30)])
    new = make_request(1, 2, [*range(8), 40, 41, 42, 43])
    new.cached_len = new.context_len = 8
    prefill(runner, [PrefillChunk(new, 8, 10)])
    k = runner.kv_cache.k_cache[:, 2]
    assert (k[:, :, 10:].abs() == POISON).all() and (k[:, :, :10].abs() < POISON).all()
    prefill(runner, [PrefillChunk(new, 10, 12)])
    assert (k[:, :, :12].abs() < POISON).all(), "a later chunk must not wipe an earlier one"
    assert new.output_ids == reference(model, new.prompt_ids, 1)


@pytest.mark.parametrize("poison", [True, False])
def test_a_forward_that_fails_leaves_nothing_that_could_spread_to_the_next_owner(poison: bool, model) -> None:
    runner = TransformerRunner(model, KVCache(CONFIG, 8, 64, poison=poison), Sampler())
    good, bad = make_request(0, 0, [1, 2, 3]), make_request(1, 1, [4, 5, 6])
    prefill(runner, [PrefillChunk(good, 0, 3), PrefillChunk(bad, 0, 3)])
    weight = model.blocks[0].attention.v_proj.weight
    kept = weight.detach().clone()
    for fail in (lambda: runner.decode([good, bad]), lambda: runner.prefill([PrefillChunk(bad, 1, 3)])):
        with torch.no_grad():
            weight.fill_(torch.nan)
        with pytest.raises(ValueError, match="not finite"):
            fail()
        with torch.no_grad():
            weight.copy_(kept)
        assert runner.kv_cache.v_cache.isfinite().all()
    decode(runner, [good])
    assert good.output_ids == reference(model, good.prompt_ids, 2)
    short = make_request(2, 1, [9])  # beside a longer row, so its row is read beyond its length
    prefill(runner, [PrefillChunk(short, 0, 1)])
    decode(runner, [good, short])
    assert short.output_ids == reference(model, short.prompt_ids, 2)


def test_a_request_without_a_slot_is_our_own_mistake(runner) -> None:
    request = Request(9, (1, 2), SamplingParams())
    with pytest.raises(AssertionError, match="request 9 owns no slot"):
        runner.prefill([PrefillChunk(request, 0, 2)])
