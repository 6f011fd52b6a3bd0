"""The comparison with other engines, on loads that take a moment: all compute the same tokens, the sums are right."""

from __future__ import annotations

import pytest
import torch

from astrai.model.transformer import Transformer
from benchmarks import throughput
from benchmarks.ceiling import Machine, ceiling, multiplied
from benchmarks.contenders import Contender, contenders
from benchmarks.loads import mixed, with_shared_prefix
from benchmarks.measure import Seconds, Spread
from benchmarks.throughput import compare, report
from benchmarks.workloads import Workload, sizes, workloads
from tests.benchmarks.micro import MICRO

MIXED = Workload("mixed", mixed(5, (3, 20), (2, 9)), batch=2)
SHARED = Workload("shared prefix", with_shared_prefix(4, 24, 3, 4), batch=2, shared_len=24)


@pytest.fixture(scope="module")
def model() -> Transformer:
    return Transformer.random(MICRO, seed=0)


@pytest.fixture(scope="module")
def everyone(model: Transformer) -> dict[str, Contender]:
    return contenders(model)


@pytest.mark.parametrize("workload", [MIXED, SHARED], ids=["mixed", "shared prefix"])
def test_everyone_computes_the_same_tokens_and_is_measured(
    model: Transformer, everyone: dict[str, Contender], workload: Workload, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(throughput, "measure_machine", lambda dtype, device: Machine(1e9, 1e10))
    figures = compare(model, workload, everyone, repeats=2)
    assert {"astrai", "transformers generate", "transformers continuous batching"} <= set(everyone)
    assert figures["output_tokens"] == sum(request.sampling.max_tokens for request in workload.requests)
    for name, agreement in figures["same_tokens"].items():
        assert agreement["checked"] and agreement["of"] == len(workload.requests), name
    assert set(figures["times_as_fast_as"]) == set(everyone) - {"astrai"}
    text = report(figures)
    assert all(name in text for name in everyone) and "times as fast" in text and "ceiling of this machine" in text


def test_a_contender_with_a_wrong_token_stops_the_benchmark(model: Transformer, everyone: dict[str, Contender]) -> None:
    ours = everyone["astrai"]

    def liar(workload: Workload) -> tuple[list[tuple[int, ...]], Seconds]:
        tokens, seconds = ours(workload)
        first = tuple((token + 1) % MICRO.vocab_size for token in tokens[0])
        return [first, *tokens[1:]], seconds

    with pytest.raises(AssertionError, match="different tokens, although no logits tie"):
        compare(model, MIXED, {"astrai": ours, "liar": liar}, repeats=1)


def test_an_unknown_peer_is_refused_with_the_known_ones(model: Transformer) -> None:
    with pytest.raises(ValueError, match="no contender vllm here: choose from astrai, transformers generate"):
        contenders(model, ["vllm"])


def test_the_ceiling_counts_what_must_be_read_and_multiplied(model: Transformer) -> None:
    weights = multiplied(MICRO)
    assert weights == sum(p.numel() for name, p in model.named_parameters() if name != "embed.weight")
    # Two requests of 5 prompt tokens, of which 3 are shared, and 4 output tokens: three decode steps for both at once.
    load = Workload("two", with_shared_prefix(2, 3, 2, 4), batch=2, shared_len=3)
    assert (load.output_tokens, load.distinct_prompt_tokens, load.least_steps) == (8, 7, 3)
    assert load.positions_read == 2 * (6 + 7 + 8)
    slow_reader = ceiling(model, load, Machine(bytes_per_second=1e6, flops_per_second=1e15))
    read = 3 * weights * 4 + load.positions_read * MICRO.kv_bytes_per_token
    assert slow_reader.decode == pytest.approx(read / 1e6)
    slow_thinker = ceiling(model, load, Machine(bytes_per_second=1e15, flops_per_second=1e6))
    assert slow_thinker.decode == pytest.approx(2 * weights * 6 / 1e6)
    assert slow_thinker.prefill == pytest.approx(2 * weights * 7 / 1e6)
    assert slow_thinker.tokens_per_second(load) == pytest.approx(8 / (slow_thinker.prefill + slow_thinker.decode))


@pytest.mark.parametrize("size", ["s", "1b"])
@pytest.mark.parametrize("quick", [True, False])
def test_every_workload_fits_into_its_model(size: str, quick: bool) -> None:
    config = sizes()[size]
    for load in workloads(size, config, quick):
        for request in load.requests:
            assert len(request.prompt) + request.sampling.max_tokens <= config.max_seq_len
            assert max(request.prompt) < config.vocab_size
        assert load.batch <= len(load.requests)


def test_bfloat16_tokens_are_counted_and_not_judged(model: Transformer) -> None:
    rounded = Transformer.random(MICRO, seed=0).to(torch.bfloat16)
    found = throughput.agreement(rounded, MIXED, [(1, 2), (3,)], [(1, 2), (4,)])
    assert found == {"same": 1, "of": 2, "checked": False}


def test_a_ratio_is_of_two_runs_of_one_repeat() -> None:
    ours, theirs = [Seconds(1.0, 9.0), Seconds(2.0, 9.0)], [Seconds(3.0, 9.0), Seconds(4.0, 9.0)]
    assert Spread(**throughput._speed(theirs, ours, "cpu")) == Spread(2.5, 2.0, 3.0)
