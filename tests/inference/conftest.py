"""A small random model and a tokenizer of bytes, for everything that needs an engine."""

import pytest
import torch

from astrai.config import ModelConfig
from astrai.inference.engine import InferenceEngine
from astrai.model.transformer import Transformer
from astrai.tokenizer import Tokenizer
from astrai.training.tokenizer import train_tokenizer


@pytest.fixture(scope="session", autouse=True)
def one_thread():
    """Small matrices on a busy machine: two threads can be ten times slower than one."""
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def tokenizer() -> Tokenizer:
    return train_tokenizer(["The fox ran to the café. 狐狸 🦊 naïve"], vocab_size=300)


@pytest.fixture(scope="session")
def model(tokenizer: Tokenizer) -> Transformer:
    config = ModelConfig(
        vocab_size=tokenizer.vocab_size,
        hidden_size=32,
        num_layers=2,
        num_heads=6,
        num_kv_heads=1,
        head_dim=8,
        intermediate_size=64,
        max_seq_len=128,
    )
    return Transformer.random(config, seed=1)


@pytest.fixture
def make_engine(model: Transformer, tokenizer: Tokenizer):
    """Engines that are shut down at the end of the test, poisoned unless told otherwise."""
    engines = []

    def make(**settings) -> InferenceEngine:
        settings = {"num_slots": 4, "poison": True, "tokenizer": tokenizer} | settings
        engine = InferenceEngine(settings.pop("model", model), settings.pop("tokenizer"), **settings)
        engines.append(engine)
        return engine

    yield make
    for engine in engines:
        assert engine.shutdown(10), "the engine did not end"
