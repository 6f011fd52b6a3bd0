"""What the checks of chapter 08 share: a small run of the engine."""

from __future__ import annotations

from typing import Any

TURNS = ((1, 2, 3), (1, 2, 3, 5, 5, 5), (4,), (6, 7), (1, 2, 3, 5, 6), (8, 9), (4, 4))  # prompts of the small run


def small_run(**parts: Any) -> Any:
    """The trace of a few short chats on three rows of a tiny random model, two of them always at once."""
    from astrai.config import ModelConfig, SamplingParams
    from astrai.inference.engine import GenerationRequest, InferenceEngine
    from astrai.model.transformer import Transformer

    config = ModelConfig(
        vocab_size=16,
        hidden_size=8,
        num_layers=1,
        num_heads=2,
        num_kv_heads=1,
        head_dim=4,
        intermediate_size=8,
        max_seq_len=32,
    )
    engine = InferenceEngine(Transformer.random(config, seed=8), num_slots=3, start=False, **parts)
    for number, prompt in enumerate(TURNS):
        engine.submit(GenerationRequest(prompt=list(prompt), sampling=SamplingParams(max_tokens=3)))
        while number % 2 and engine.scheduler.has_work:
            engine.scheduler.step()
    while engine.scheduler.has_work:
        engine.scheduler.step()
    return engine.trace
