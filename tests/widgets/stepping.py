"""Engines to be stepped by hand: the real one, on a random model so small that a step takes a millisecond."""

from __future__ import annotations

from functools import cache
from typing import Any

from astrai.config import ModelConfig
from astrai.inference.engine import InferenceEngine
from astrai.model.transformer import Transformer
from astrai.tokenizer import Tokenizer
from astrai.training.tokenizer import train_tokenizer
from astrai.widgets.stepping.stepper import SchedulerStepper


@cache
def tokenizer() -> Tokenizer:
    return train_tokenizer(["The fox ran to the river and sat down"], vocab_size=280)


@cache
def model() -> Transformer:
    shape = dict(hidden_size=16, num_layers=1, num_heads=2, num_kv_heads=1, head_dim=8, intermediate_size=16)
    return Transformer.random(ModelConfig(vocab_size=tokenizer().vocab_size, max_seq_len=64, **shape), seed=1)


def make_engine(**settings: Any) -> InferenceEngine:
    settings = {"num_slots": 3, "start": False, "tokenizer": tokenizer()} | settings
    return InferenceEngine(model(), settings.pop("tokenizer"), **settings)


def make_stepper(**settings: Any) -> SchedulerStepper:
    return SchedulerStepper(make_engine(**settings))


def ask(stepper: SchedulerStepper, *lengths: int, max_tokens: int = 4) -> list[int]:
    """Post a request for each length; every prompt begins with the number of its place, so none shares a token."""
    return [
        stepper.add([place + 1] * length, max_tokens=max_tokens, ignore_eos=True)
        for place, length in enumerate(lengths)
    ]
