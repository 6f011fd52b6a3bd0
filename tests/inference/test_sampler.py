"""The sampler against Hugging Face's logits processors, numpy, and the frequencies that probabilities promise."""

from __future__ import annotations

import math
from collections import Counter

import numpy as np
import pytest
import torch
from transformers.generation.logits_process import (
    LogitsProcessorList,
    MinPLogitsWarper,
    RepetitionPenaltyLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from astrai.config import SamplingParams
from astrai.inference.request import Request, Sampled
from astrai.inference.sampler import Sampler, uniform

VOCAB = 23
DRAWS = 2500


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def make_request(request_id: int = 0, prompt=(1,), output=(), **sampling: object) -> Request:
    return Request(request_id, tuple(prompt), SamplingParams(**sampling), output_ids=list(output))


def make_logits(rows: int = 1, seed: int = 0, vocab: int = VOCAB) -> torch.Tensor:
    return torch.randn(rows, vocab, generator=torch.Generator().manual_seed(seed)) * 2


def draw(logits: torch.Tensor, prompt=(1,), output=(), **sampling: object) -> list[int]:
    """Tokens of one row of logits under ``DRAWS`` seeds, in one batch."""
    requests = [make_request(seed, prompt, output, seed=seed, **sampling) for seed in range(DRAWS)]
    return [sampled.token_id for sampled in Sampler()(logits.expand(DRAWS, -1), requests)]


def hf_probabilities(logits: torch.Tensor, history: list[int], params: SamplingParams) -> np.ndarray:
    """What Hugging Face's ``generate`` would sample from."""
    chain = LogitsProcessorList()
    if params.repetition_penalty != 1.0:
        chain.append(RepetitionPenaltyLogitsProcessor(params.repetition_penalty))
    chain.append(TemperatureLogitsWarper(params.temperature))
    if params.top_k:
        chain.append(TopKLogitsWarper(params.top_k))
    if params.top_p < 1.0:
        chain.append(TopPLogitsWarper(params.top_p))
    if params.min_p:
        chain.append(MinPLogitsWarper(params.min_p))
    return chain(torch.tensor([history]), logits.clone()).double().softmax(-1)[0].numpy()


def assert_frequencies(tokens: list[int], probabilities: np.ndarray) -> None:
    """No token of probability 0, and a chi-square statistic that chance exceeds about once in 10,000 times."""
    counts = np.bincount(tokens, minlength=len(probabilities)).astype(float)
    assert not counts[probabilities == 0].any(), "a token that was cut off was sampled"
    expected = probabilities * len(tokens)
    rare = expected < 5  # counted as one cell: the statistic means nothing for such small numbers
    counts = np.append(counts[~rare], counts[rare].sum())
    expected = np.append(expected[~rare], max(expected[rare].sum(), 1.0))
    statistic = float(((counts - expected) ** 2 / expected).sum())
    freedom = len(expected) - 1
    assert statistic < freedom + 4 * math.sqrt(2 * freedom) + 8


CASES = {
    "temperature alone": dict(temperature=1.0),
    "hot": dict(temperature=3.0),
    "cold": dict(temperature=0.4),
    "top_k": dict(temperature=1.0, top_k=5),
    "top_k larger than the vocabulary": dict(temperature=1.0, top_k=500),
    "top_p": dict(temperature=1.0, top_p=0.7),
    "top_p so small that one is left": dict(temperature=1.0, top_p=1e-6),
    "min_p": dict(temperature=1.0, min_p=0.2),
    "top_k and top_p": dict(temperature=2.0, top_k=7, top_p=0.8),
    "all of them": dict(temperature=1.5, top_k=12, top_p=0.9, min_p=0.1, repetition_penalty=1.4),
    "repetition": dict(temperature=1.0, repetition_penalty=1.7),
    "repetition is welcome": dict(temperature=1.0, repetition_penalty=0.6),
}


@pytest.mark.parametrize("case", CASES)
def test_tokens_come_as_often_as_hugging_face_would_sample_them(case: str) -> None:
    logits = make_logits(seed=len(case))
    prompt, output = [3, 4, 4, 5], [6, 7, 7]
    expected = hf_probabilities(logits, prompt + output, SamplingParams(**CASES[case]))
    assert_frequencies(draw(logits, prompt, output, **CASES[case]), expected)


def test_penalties_and_bias_equal_a_plain_loop_in_numpy() -> None:
    logits = make_logits(seed=2)
    prompt, output = [3, 4, 4, 5], [6, 7, 7, 7, 4]
    scores = logits[0].double().numpy().copy()
    for token in set(prompt + output):
        scores[token] = scores[token] / 1.3 if scores[token] > 0 else scores[token] * 1.3
    for token, count in Counter(output).items():
        scores[token] -= 0.5 + 0.25 * count
    scores[7] += 3.0
    scores[11] -= 2.0
    expected = np.exp(scores) / np.exp(scores).sum()
    settings = dict(
        repetition_penalty=1.3, presence_penalty=0.5, frequency_penalty=0.25, logit_bias=((7, 3.0), (11, -2.0))
    )
    assert_frequencies(draw(logits, prompt, output, temperature=1.0, **settings), expected)
    [greedy] = Sampler()(logits, [make_request(0, prompt, output, **settings)])
    assert greedy.token_id == scores.argmax()


def test_presence_and_frequency_look_at_the_output_only() -> None:
    logits = torch.tensor([[1.0, 0.9, 0.0]])
    settings = dict(presence_penalty=2.0, frequency_penalty=2.0)
    assert Sampler()(logits, [make_request(prompt=[0, 0], **settings)])[0].token_id == 0
    assert Sampler()(logits, [make_request(prompt=[0], output=[0], **settings)])[0].token_id == 1
    assert Sampler()(logits, [make_request(prompt=[0], repetition_penalty=2.0)])[0].token_id == 1


def test_a_bias_of_minus_100_bans_and_plus_100_forces_a_token() -> None:
    logits = make_logits()
    best = int(logits.argmax())
    assert best not in draw(logits, temperature=1.0, logit_bias={best: -100.0})
    assert set(draw(logits, temperature=1.0, logit_bias={9: 100.0})) == {9}
    assert Sampler()(logits, [make_request(logit_bias={9: 100.0})])[0].token_id == 9


def test_temperature_0_is_the_argmax_and_needs_no_seed() -> None:
    logits = make_logits(rows=8)
    results = Sampler()(logits, [make_request(i) for i in range(8)])
    assert results == [Sampled(token_id) for token_id in logits.argmax(-1).tolist()]


@pytest.mark.parametrize("temperature", [1e-300, 1e-40, 1e-20, 1e-8])
def test_a_tiny_temperature_is_as_good_as_greedy(temperature: float) -> None:
    logits = make_logits(rows=4)
    results = Sampler()(logits, [make_request(i, temperature=temperature, seed=i) for i in range(4)])
    assert [result.token_id for result in results] == logits.argmax(-1).tolist()


def test_a_greedy_request_beside_one_with_top_k_50_stays_greedy() -> None:
    logits = make_logits(rows=1, vocab=200).expand(2, -1)
    best = int(logits[0].argmax())
    others = set()
    for seed in range(50):
        greedy, sampled = Sampler()(logits, [make_request(0), make_request(1, temperature=5.0, top_k=50, seed=seed)])
        assert greedy.token_id == best
        others.add(sampled.token_id)
    assert len(others) > 10


def test_top_k_of_one_row_is_not_that_of_another() -> None:
    logits = make_logits(rows=1).expand(3, -1)
    two_best = set(logits[0].topk(2).indices.tolist())
    for seed in range(100):
        requests = [
            make_request(0, temperature=9.0, top_k=2, seed=seed),
            make_request(1, temperature=9.0, top_k=20, seed=seed),
            make_request(2, temperature=9.0, seed=seed),
        ]
        assert Sampler()(logits, requests)[0].token_id in two_best


def test_top_k_keeps_k_tokens_even_where_logits_tie() -> None:
    logits = torch.zeros(1, VOCAB)
    assert set(draw(logits, temperature=1.0, top_k=1)) == {0}
    assert set(draw(logits, temperature=1.0, top_k=3)) == {0, 1, 2}


@pytest.mark.parametrize("seed", range(5))
def test_what_runs_beside_a_request_never_changes_its_token(seed: int) -> None:
    rng = np.random.default_rng(seed)
    logits = make_logits(rows=12, seed=seed)
    requests = []
    for i in range(12):
        sampling = dict(
            temperature=float(rng.choice([0.0, 0.7, 1.5])),
            top_k=int(rng.choice([0, 1, 4])),
            top_p=float(rng.choice([1.0, 0.6])),
            min_p=float(rng.choice([0.0, 0.1])),
            repetition_penalty=float(rng.choice([1.0, 1.3])),
            presence_penalty=float(rng.choice([0.0, 0.4])),
            logit_bias={3: 1.0} if rng.random() < 0.3 else {},
            logprobs=[None, 0, 3][rng.integers(3)],
        )
        requests.append(make_request(i, rng.integers(VOCAB, size=5).tolist(), [2] * i, seed=7, **sampling))
    alone = [Sampler()(logits[i : i + 1], [request])[0] for i, request in enumerate(requests)]
    assert Sampler()(logits, requests) == alone
    for _ in range(5):
        order = rng.permutation(12)[: rng.integers(1, 13)].tolist()
        assert Sampler()(logits[order], [requests[i] for i in order]) == [alone[i] for i in order]


def test_a_seed_repeats_itself_and_each_step_draws_anew() -> None:
    logits = torch.zeros(1, 1000)

    def tokens(seed: int) -> list[int]:
        requests = [make_request(0, output=[0] * step, temperature=1.0, seed=seed) for step in range(50)]
        return [Sampler()(logits, [request])[0].token_id for request in requests]

    assert tokens(1) == tokens(1)
    assert len(set(tokens(1))) > 40
    assert tokens(1) != tokens(2)


def test_uniform_numbers_are_uniform_over_seeds_and_over_steps() -> None:
    for numbers in ([uniform(5, i) for i in range(10_000)], [uniform(i, 5) for i in range(-5_000, 5_000)]):
        assert min(numbers) >= 0.0 and max(numbers) < 1.0
        assert_frequencies([int(number * 50) for number in numbers], np.full(50, 1 / 50))
        pairs = [int(a * 7) * 7 + int(b * 7) for a, b in zip(numbers[::2], numbers[1::2], strict=True)]
        assert_frequencies(pairs, np.full(49, 1 / 49))
    assert uniform(2**70 + 1, 3) == uniform(2**70 + 1, 3) != uniform(2**70 + 2, 3)


def test_logprobs_are_those_of_the_model_before_temperature_and_penalties() -> None:
    logits = make_logits(rows=3)
    requests = [
        make_request(0, logprobs=4, logit_bias={5: 100.0}),
        make_request(1),
        make_request(2, logprobs=0, temperature=2.0, seed=1, repetition_penalty=3.0),
    ]
    first, without, own_only = Sampler()(logits, requests)
    expected = np.log(np.exp(logits.double().numpy()) / np.exp(logits.double().numpy()).sum(-1, keepdims=True))
    assert first.token_id == 5
    assert first.logprob == pytest.approx(expected[0, 5], abs=1e-5)
    best = sorted(range(VOCAB), key=lambda token: -expected[0, token])[:4]
    assert [token for token, _ in first.top_logprobs] == best
    assert [value for _, value in first.top_logprobs] == pytest.approx([expected[0, token] for token in best], abs=1e-5)
    assert without == Sampled(without.token_id, None, ())
    assert own_only.logprob == pytest.approx(expected[2, own_only.token_id], abs=1e-5)
    assert own_only.top_logprobs == ()


def test_more_logprobs_than_there_are_tokens_gives_all_tokens() -> None:
    [result] = Sampler()(make_logits(vocab=6), [make_request(logprobs=20)])
    assert sorted(token for token, _ in result.top_logprobs) == list(range(6))


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_logits_that_are_not_finite_are_an_error_that_names_the_requests(value: float) -> None:
    logits = make_logits(rows=4)
    logits[1, 5] = logits[3, 0] = value
    for sampling in (dict(), dict(temperature=1.0, top_p=0.5, seed=1), dict(logit_bias={3: 1.0}, logprobs=2)):
        requests = [make_request(10 + i, **sampling) for i in range(4)]
        with pytest.raises(ValueError, match=r"the logits of request\(s\) 11, 13 are not finite"):
            Sampler()(logits, requests)
    logits[:] = -math.inf
    with pytest.raises(ValueError, match="10, 11, 12, 13"):
        Sampler()(logits, [make_request(10 + i) for i in range(4)])


def test_a_row_that_is_to_be_sampled_needs_a_seed() -> None:
    with pytest.raises(ValueError, match="request 4 is to be sampled but has no seed"):
        Sampler()(make_logits(), [make_request(4, temperature=1.0)])


def test_extreme_parameters_never_make_logits_that_are_not_finite() -> None:
    logits = make_logits()
    for sampling in (
        dict(repetition_penalty=5e-324),
        dict(repetition_penalty=1e308),
        dict(presence_penalty=1e308, frequency_penalty=1e308),
        dict(presence_penalty=-1e308, frequency_penalty=-1e308),
        dict(repetition_penalty=1e-300, presence_penalty=1e308, logit_bias={1: 1e308, 2: -1e308}),
        dict(min_p=1.0),
        dict(top_k=2**40, top_p=5e-324),
    ):
        for temperature in (0.0, 1e-10, 1.0, 1e300):
            request = make_request(0, list(range(VOCAB)), [1, 2, 2], temperature=temperature, seed=3, **sampling)
            [result] = Sampler()(logits, [request])
            assert 0 <= result.token_id < VOCAB


def test_bfloat16_logits_are_compared_in_float32_and_the_inputs_stay_as_they_were() -> None:
    logits = make_logits(rows=2).bfloat16()
    before = logits.clone()
    results = Sampler()(logits, [make_request(0, logit_bias={3: 0.001}), make_request(1, temperature=1.0, seed=1)])
    assert torch.equal(logits, before)
    assert results[0].token_id == logits[0].argmax()
    exact = make_logits(rows=2)
    kept = exact.clone()
    Sampler()(exact, [make_request(0, logit_bias={3: 9.0}), make_request(1, temperature=1.0, seed=1, top_k=3)])
    assert torch.equal(exact, kept)
