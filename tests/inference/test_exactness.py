"""The engine against Hugging Face's ``LlamaForCausalLM`` on the same weights, token for token."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from functools import cache, partial
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from astrai.config import EngineConfig, SamplingParams
from astrai.inference.engine import GenerationRequest, InferenceEngine
from astrai.inference.request import Request, Sampled
from astrai.inference.sampler import Sampler
from astrai.model.fast import fast_path
from astrai.model.transformer import Transformer
from tests.inference.audit import audit, audit_books
from tests.inference.loads import BUDGETS, Played, Turn, drive, random_load, random_settings
from tests.inference.models import Pair, config_name, hf_twin, random_config, random_model, random_pair
from tests.inference.reference import TIE, Reference, Tally

NUM_CONFIGS = 44
COMBINATIONS = list(product(("ragged", "grouped"), (True, False)))  # decode policy, prefix cache
# The largest difference that rounding to bfloat16 may make in logits with a deviation of about 1, after 1 to 3 layers.
BFLOAT16_BOUND = 0.08  # between two forwards of ours, which round at the same places but add in another order
BFLOAT16_ERROR = 0.4  # to the same weights in float32

every_config = pytest.mark.parametrize("pair", range(NUM_CONFIGS), indirect=True, ids=config_name)
some_configs = pytest.mark.parametrize("pair", range(0, NUM_CONFIGS, 9), indirect=True, ids=config_name)


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def tally(pytestconfig: pytest.Config) -> Iterator[Tally]:
    """Says at the end what was compared, and where float32 could not decide: such places must be rare."""
    tally = Tally()
    yield tally
    with pytestconfig.pluginmanager.getplugin("capturemanager").global_and_fixture_disabled():
        print(f"\n{tally.requests:,} requests with {tally.tokens:,} tokens equal Hugging Face's;", end=" ")
        print(f"{len(tally.ties)} places where two logits tie within {TIE}", *tally.ties, sep="\n  ")
    assert len(tally.ties) <= max(1, 0.02 * tally.requests)


@pytest.fixture(scope="module")
def pair(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Pair:
    return random_pair(request.param, tmp_path_factory.mktemp("hf"))


@contextmanager
def hand_driven(model: Transformer, sampler: Sampler | None = None, **settings: Any) -> Iterator[InferenceEngine]:
    engine = InferenceEngine(model, config=EngineConfig(**settings), sampler=sampler, start=False)
    try:
        yield engine
    finally:
        engine.shutdown()


def alone(model: Transformer, prompt_ids: tuple[int, ...], sampling: SamplingParams, **settings: Any) -> Played:
    """A request in an engine of its own."""
    with hand_driven(model, num_slots=1, **settings) as engine:
        (played,) = drive(engine, [Turn(prompt_ids, sampling, arrives=0)])
    return played


@every_config
def test_a_request_alone_gives_the_tokens_of_hugging_face(pair: Pair, tally: Tally, request) -> None:
    """Here they are asked token by token, in a loop that never sees ours."""
    reference, rng = Reference(pair, tally, request.node.name), random.Random(request.node.name)
    config = pair.ours.config
    for policy, cached in COMBINATIONS:
        prompt = tuple(rng.randrange(config.vocab_size) for _ in range(rng.choice([1, 2, rng.randint(3, 22)])))
        settings = dict(decode_policy=policy, prefix_cache=cached, prefill_budget=rng.choice(BUDGETS), poison=True)
        played = alone(pair.ours, prompt, SamplingParams(max_tokens=8), **settings)
        reference.check(played, config.max_seq_len)
        expected = reference.greedy(prompt, len(played.result.token_ids))
        assert played.result.token_ids[: len(expected)] == expected


@every_config
def test_requests_in_company_give_the_tokens_of_hugging_face(pair: Pair, tally: Tally, request) -> None:
    check_in_company(pair, tally, request.node.name, request.node.name)


def check_in_company(pair: Pair, tally: Tally, name: str, seed: str) -> None:
    """One random load, on an engine of each combination with random settings."""
    reference, rng = Reference(pair, tally, name), random.Random(seed)
    load = random_load(rng, pair.ours.config, count=rng.randint(1, 16))
    for policy, cached in COMBINATIONS:
        settings = random_settings(rng)
        with hand_driven(pair.ours, decode_policy=policy, prefix_cache=cached, **settings) as engine:
            for played in drive(engine, load):
                reference.check(played, engine.max_seq_len)
            audit_books(engine)


@some_configs
def test_requests_of_many_threads_give_the_tokens_of_hugging_face(pair: Pair, tally: Tally, request) -> None:
    reference, rng = Reference(pair, tally, request.node.name), random.Random(request.node.name)
    load = random_load(rng, pair.ours.config, count=16)
    settings = {**random_settings(rng), "poison": True}

    def play(turn: Turn) -> Played:
        time.sleep(turn.arrives / 5000)
        stream = engine.submit(GenerationRequest(turn.prompt_ids, sampling=turn.sampling))
        if turn.cancelled_after is not None:
            time.sleep(turn.cancelled_after / 2000)
            stream.cancel()
        return Played(turn.prompt_ids, turn.sampling, stream.result(timeout=60))

    with InferenceEngine(pair.ours, **settings) as engine, ThreadPoolExecutor(8) as clients:
        for played in clients.map(play, load):
            reference.check(played, engine.max_seq_len)
    audit_books(engine)
    audit(engine)


@some_configs
def test_a_seeded_request_gives_the_same_tokens_alone_and_in_company(pair: Pair, request) -> None:
    rng = random.Random(request.node.name)
    load = [
        replace(turn, sampling=random_sampling(rng, turn.sampling.max_tokens))
        for turn in random_load(rng, pair.ours.config, count=8)
    ]
    alone_once = cache(partial(alone, pair.ours, prefix_cache=False))  # a request is the same in each combination
    differ = 0
    for policy, cached in COMBINATIONS:
        with hand_driven(pair.ours, decode_policy=policy, prefix_cache=cached, **random_settings(rng)) as engine:
            for prompt_ids, sampling, result in drive(engine, load):
                expected = alone_once(prompt_ids, sampling).result.token_ids
                if result.finish_reason == "cancelled":
                    expected = expected[: len(result.token_ids)]
                assert result.token_ids == expected
                greedy = alone_once(prompt_ids, SamplingParams(max_tokens=sampling.max_tokens)).result.token_ids
                differ += expected != greedy[: len(expected)]
    assert differ > 4, "sampling chose like the greedy sampler: nothing was tested"


def random_sampling(rng: random.Random, max_tokens: int) -> SamplingParams:
    """Greedy or not, with a seed and some of the filters and penalties."""
    return SamplingParams(
        max_tokens=max_tokens,
        temperature=rng.choice([0.0, 0.7, 1.0, 1.5]),
        top_k=rng.choice([0, 0, 3, 20]),
        top_p=rng.choice([1.0, 1.0, 0.8]),
        min_p=rng.choice([0.0, 0.0, 0.05]),
        repetition_penalty=rng.choice([1.0, 1.3]),
        frequency_penalty=rng.choice([0.0, 0.5]),
        seed=rng.getrandbits(60),
    )


class RecordingSampler(Sampler):
    """Keeps the logits from which each token was chosen."""

    def __init__(self) -> None:
        self.logits: dict[tuple[int, int], Tensor] = {}  # by request id and number of the token

    def __call__(self, logits: Tensor, requests: Sequence[Request]) -> list[Sampled]:
        for row, request in zip(logits, requests, strict=True):
            self.logits[request.request_id, len(request.output_ids)] = row.float()
        return super().__call__(logits, requests)


@pytest.mark.parametrize("index", range(0, NUM_CONFIGS, 7), ids=config_name)
def test_bfloat16_logits_stay_within_the_bounds(index: int, tmp_path: Path) -> None:
    """Of our own uncached forward, and of Hugging Face's in float32; tokens count where the margin is larger."""
    model = random_model(replace(random_config(index), dtype="bfloat16"), seed=index)
    pair, rng = Pair(model, hf_twin(model, tmp_path)), random.Random(index)
    load = random_load(rng, model.config, count=12)
    compared = 0
    for policy, cached in COMBINATIONS:
        sampler, settings = RecordingSampler(), random_settings(rng)
        with hand_driven(model, sampler=sampler, decode_policy=policy, prefix_cache=cached, **settings) as engine:
            for prompt_ids, _, result in drive(engine, load):
                if result.token_ids:
                    ids = (*prompt_ids, *result.token_ids[:-1])
                    given = [sampler.logits[result.request_id, i] for i in range(result.completion_tokens)]
                    ours, exact = plain_logits(pair, ids)
                    for expected, bound in ((ours, BFLOAT16_BOUND), (exact, BFLOAT16_ERROR)):
                        compared += check_bfloat16(torch.stack(given), expected, result.token_ids, bound)
    assert compared > 50


@torch.inference_mode()
def plain_logits(pair: Pair, token_ids: Sequence[int]) -> list[Tensor]:
    """Ours in bfloat16, in the form that the engine runs, and theirs in float32: an uncached forward each, (T, V)."""
    ids = torch.tensor([token_ids])
    return [fast_path(pair.ours)(ids)[0].float(), pair.theirs(ids, use_cache=False).logits[0]]


def check_bfloat16(given: Tensor, expected: Tensor, token_ids: Sequence[int], bound: float) -> int:
    """Compare logits (N, V) and the tokens that they leave no doubt of; how many tokens those are."""
    expected = expected[-len(given) :]  # (N, V)
    torch.testing.assert_close(given, expected, rtol=0.0, atol=bound)
    best, second = expected.topk(2).values.unbind(-1)  # (N,) each
    certain = (best - second > bound).nonzero()[:, 0].tolist()
    for i in certain:
        assert token_ids[i] == int(expected[i].argmax())
    return len(certain)


@pytest.mark.nightly
@pytest.mark.parametrize("seed", range(400))
def test_requests_in_company_give_the_tokens_of_hugging_face_nightly(seed: int, tally: Tally, tmp_path: Path) -> None:
    index = NUM_CONFIGS + seed
    check_in_company(random_pair(index, tmp_path), tally, config_name(index), f"nightly {seed}")
