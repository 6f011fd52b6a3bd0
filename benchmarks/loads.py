"""The loads: a model with random weights, lists of requests by seed, and the engine that serves them.

Tokens are random and greedy, and no request ends early, so that every contender computes the same tokens.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

from astrai.config import EngineConfig, ModelConfig, SamplingParams
from astrai.inference.engine import GenerationRequest, GenerationResult, InferenceEngine
from astrai.model.transformer import Transformer
from benchmarks.measure import Seconds, timed

# NOTE: an untied head, because with a tied one random weights mostly repeat the last token, whatever the cache holds.
MODEL_S = ModelConfig(
    vocab_size=4096,
    hidden_size=384,
    num_layers=6,
    num_heads=12,
    num_kv_heads=2,
    head_dim=32,
    intermediate_size=1024,
    max_seq_len=512,
    tie_embeddings=False,
)


def mixed(
    count: int,
    prompt_len: tuple[int, int] = (64, 256),
    output_len: tuple[int, int] = (64, 128),
    seed: int = 1,
    vocab: int = MODEL_S.vocab_size,
) -> list[GenerationRequest]:
    """Requests of lengths between these bounds, both included, that share nothing."""
    rng = random.Random(seed)
    return [request(_ids(rng, rng.randint(*prompt_len), vocab), rng.randint(*output_len)) for _ in range(count)]


def with_shared_prefix(
    count: int, shared_len: int, own_len: int, output_len: int, seed: int = 2, vocab: int = MODEL_S.vocab_size
) -> list[GenerationRequest]:
    """Requests whose prompts begin with the same tokens."""
    rng = random.Random(seed)
    prefix = _ids(rng, shared_len, vocab)
    return [request(prefix + _ids(rng, own_len, vocab), output_len) for _ in range(count)]


def request(prompt_ids: Sequence[int], output_len: int) -> GenerationRequest:
    """Greedy, and exactly ``output_len`` tokens long."""
    return GenerationRequest(prompt_ids, sampling=SamplingParams(max_tokens=output_len, ignore_eos=True))


def _ids(rng: random.Random, count: int, vocab: int) -> list[int]:
    return [rng.randrange(vocab) for _ in range(count)]


def serve(
    model: Transformer, requests: Sequence[GenerationRequest], config: EngineConfig
) -> tuple[list[GenerationResult], Seconds]:
    """All requests at once, through a fresh engine as its users see it: its own thread, its trace on."""
    with InferenceEngine(model, config=config) as engine:
        return timed(lambda: [stream.result() for stream in [engine.submit(each) for each in requests]])
