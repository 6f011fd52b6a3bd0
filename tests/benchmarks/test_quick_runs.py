"""The benchmarks that need minutes or a GPU, each on a load that takes a moment and saves nothing."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from astrai.config import EngineConfig
from astrai.inference.engine import InferenceEngine
from astrai.model.transformer import Transformer
from astrai.trace.events import Prefilled, TokensDecoded
from benchmarks import gpu, latency
from benchmarks.loads import mixed
from benchmarks.measure import RESULTS
from tests.benchmarks.micro import MICRO


@pytest.fixture
def saved_before() -> dict[Path, float]:
    return {path: path.stat().st_mtime for path in RESULTS.iterdir()}


def test_the_run_for_a_gpu_goes_through_on_a_cpu(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], saved_before: dict[Path, float]
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(sys, "argv", ["gpu", "--quick"])
    gpu.main()
    printed = capsys.readouterr().out
    assert printed.startswith("correct on CPU: {'requests': 12,")
    assert "2 rows at 20:" in printed and "a prefix of 384 tokens copied" in printed and "Self CPU" in printed
    assert {path: path.stat().st_mtime for path in RESULTS.iterdir()} == saved_before


def test_the_run_for_a_gpu_asks_for_one(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(sys, "argv", ["gpu"])
    with pytest.raises(SystemExit):
        gpu.main()
    assert "--quick shows on the CPU that all works" in capsys.readouterr().err


def test_a_wrong_token_stops_the_run_for_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    right = gpu._uncached
    monkeypatch.setattr(gpu, "_uncached", lambda *given: tuple((token + 1) % 997 for token in right(*given)))
    with pytest.raises(AssertionError, match="not the tokens of the loop without a cache"):
        gpu.correctness("cpu", 1)


def test_gaps_are_the_times_between_the_tokens_of_each_stream() -> None:
    model = Transformer.random(MICRO, seed=0)
    with InferenceEngine(model, config=EngineConfig(num_slots=3), start=False) as engine:
        streams = [engine.submit(request) for request in mixed(3, (3, 9), (6, 6))]
        while engine.scheduler.has_work:
            engine.scheduler.step()
        times = [record.time for record in engine.trace.records if isinstance(record.event, TokensDecoded)]
        watched = {streams[0].request_id, streams[2].request_id}
        found = latency.gaps(engine, watched)
    assert len(times) == 5 and len(found) == 8  # five decoded tokens each: the first comes from prefill
    assert sum(found) == pytest.approx(2 * (times[-1] - times[0]))


def test_latency_is_measured_beside_prompts_in_chunks_of_the_budget(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(latency, "PROMPT_LEN", 300)
    engines = []

    class Kept(InferenceEngine):
        def __init__(self, *given, **named) -> None:
            super().__init__(*given, **named)
            engines.append(self)

    monkeypatch.setattr(latency, "InferenceEngine", Kept)
    model = Transformer.random(replace(MICRO, max_seq_len=512), seed=0)
    found = latency.beside_prompts(model, budget=64, prompts=2, output_len=200)
    chunks = [record.event for record in engines[0].trace.records if isinstance(record.event, Prefilled)]
    assert max(chunk.end - chunk.start for chunk in chunks) == 64
    assert found["prompts"] >= 1 and found["p99_over_median"] == pytest.approx(found["p99_ms"] / found["median_ms"])
    assert found["p99_ms"] >= found["median_ms"] > 0
