"""A small random model behind a real server on a real socket, and a look at what is left when it has been used."""

import threading
from collections.abc import Callable, Iterator

import psutil
import pytest
import torch

from astrai.config import ModelConfig
from astrai.inference.engine import InferenceEngine
from astrai.inference.server.background import BackgroundServer, serve_in_background
from astrai.model.transformer import Transformer
from astrai.tokenizer import Tokenizer
from astrai.training.tokenizer import train_tokenizer
from tests.inference.models import random_model
from tests.server.waiting import until


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    """Small matrices on a busy machine: two threads can be ten times slower than one."""
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def tokenizer() -> Tokenizer:
    return train_tokenizer(["The fox ran to the café. 狐狸 🦊 naïve"], vocab_size=300)


@pytest.fixture(scope="session")
def model(tokenizer: Tokenizer) -> Transformer:
    config = ModelConfig(
        vocab_size=tokenizer.vocab_size,
        hidden_size=36,
        num_layers=2,
        num_heads=6,
        num_kv_heads=1,
        head_dim=8,
        intermediate_size=64,
        max_seq_len=512,
    )
    return random_model(config, seed=1)


@pytest.fixture
def engine(model: Transformer, tokenizer: Tokenizer) -> Iterator[InferenceEngine]:
    """A running engine of 8 rows that must have given all of them back at the end, unless it died."""
    engine = InferenceEngine(model, tokenizer, num_slots=8, poison=True)
    yield engine
    if engine.stats().alive:
        until(lambda: engine.stats().free_slots == 8 and not engine.stats().waiting)
    assert engine.shutdown(10), "the engine did not end"


@pytest.fixture
def serve(engine: InferenceEngine) -> Iterator[Callable[..., BackgroundServer]]:
    """Starts servers; when they have stopped, no thread and no socket of theirs may be left."""
    threads, files = set(threading.enumerate()), psutil.Process().num_fds()
    servers = []

    def start(**settings: object) -> BackgroundServer:
        servers.append(serve_in_background(engine, **settings))  # type: ignore[arg-type]
        return servers[-1]

    yield start
    for server in servers:
        server.stop()
        assert not server.is_running
    until(lambda: set(threading.enumerate()) <= threads)
    until(lambda: psutil.Process().num_fds() <= files)


@pytest.fixture
def url(serve: Callable[..., BackgroundServer]) -> str:
    """Where a server with ordinary settings listens."""
    return serve().url


@pytest.fixture(scope="module")
def shared_url(model: Transformer, tokenizer: Tokenizer) -> Iterator[str]:
    """One server for all tests of a module that only ask."""
    with InferenceEngine(model, tokenizer, num_slots=8) as engine, serve_in_background(engine) as server:
        yield server.url
