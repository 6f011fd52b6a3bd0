"""Latency under load: what running streams feel while long prompts arrive, and how soon a cached prefix answers.

Times are those of the trace's own events, so what is measured is what the pictures show. Ratios of times on the clock
within one run: a busy machine stretches both sides.
"""

from __future__ import annotations

import argparse
import statistics
import threading
import time
from collections import defaultdict
from dataclasses import replace
from itertools import pairwise
from typing import Any

import torch

from astrai.config import EngineConfig
from astrai.inference.engine import GenerationStream, InferenceEngine
from astrai.model.transformer import Transformer
from astrai.trace.events import TokensDecoded
from benchmarks.loads import MODEL_S, mixed, with_shared_prefix
from benchmarks.measure import Spread, save

STREAMS = 8
PROMPT_LEN = 2_000
PERCENTILE, ALLOWED = 0.99, 3.0  # of the latency between tokens, over the median
ALLOWED_STEPS = 1.5  # to the first token of a cached prefix


def gaps(engine: InferenceEngine, request_ids: set[int]) -> list[float]:
    """Seconds from each decoded token of these requests to the next, by the trace."""
    times: dict[int, list[float]] = defaultdict(list)
    for record in engine.trace.records:
        if isinstance(record.event, TokensDecoded):
            for request_id in request_ids.intersection(record.event.request_ids):
                times[request_id].append(record.time)
    return [later - earlier for series in times.values() for earlier, later in pairwise(series)]


def beside_prompts(model: Transformer, budget: int, prompts: int, output_len: int) -> dict[str, Any]:
    """Streams that generate while prompts of 2,000 tokens arrive, with 50 undisturbed steps between two of them."""
    config = EngineConfig(num_slots=STREAMS + 1, max_seq_len=PROMPT_LEN + 64, prefill_budget=budget, prefix_cache=False)
    long = mixed(prompts, (PROMPT_LEN,) * 2, (1, 1), seed=5)
    with InferenceEngine(model, config=config) as engine:
        streams = [engine.submit(request) for request in mixed(STREAMS, (32, 32), (output_len,) * 2, seed=6)]
        first_tokens = []
        for request in long:
            started = time.monotonic()
            engine.submit(request).result()
            first_tokens.append(time.monotonic() - started)
            _wait_for_tokens(streams, 50)
            if any(stream.output.ending for stream in streams):
                break
        for stream in streams:
            stream.cancel()
        between = sorted(gaps(engine, {stream.request_id for stream in streams}))
    median = statistics.median(between)
    return {
        "prefill_budget": budget,
        "prompts": len(first_tokens),
        "tokens": len(between),
        "median_ms": 1e3 * median,
        "p99_ms": 1e3 * between[int(PERCENTILE * len(between))],
        "p99_over_median": between[int(PERCENTILE * len(between))] / median,
        "first_token_of_2000_ms": Spread.of([1e3 * each for each in first_tokens])._asdict(),
    }


def cached_prefix(model: Transformer, repeats: int) -> dict[str, Any]:
    """Time to the first token of a prompt of which all but 8 tokens are cached, beside streams that generate."""
    config = EngineConfig(num_slots=STREAMS + 4, max_seq_len=PROMPT_LEN)
    shared = with_shared_prefix(repeats + 1, 1024, 8, 1, seed=7)
    with InferenceEngine(model, config=config) as engine:
        engine.submit(shared[0]).result()
        streams = [engine.submit(request) for request in mixed(STREAMS, (32, 32), (1500, 1500), seed=8)]
        _wait_for_tokens(streams, 5)
        first_tokens = []
        for request in shared[1:]:
            arrived = threading.Event()
            watched = replace(request, on_token=lambda token_id, arrived=arrived: arrived.set())
            started = time.monotonic()
            stream = engine.submit(watched)
            arrived.wait()
            first_tokens.append(time.monotonic() - started)
            assert stream.result().cached_tokens >= 1024
            time.sleep(0.37 * first_tokens[-1])  # so that they arrive at different moments of a step
        for stream in streams:
            stream.cancel()
        step = statistics.median(gaps(engine, {stream.request_id for stream in streams}))
    return {
        "cached_tokens": 1024,
        "own_tokens": 8,
        "decode_step_ms": 1e3 * step,
        "first_token_ms": Spread.of([1e3 * each for each in first_tokens])._asdict(),
        "first_token_in_steps": Spread.of([each / step for each in first_tokens])._asdict(),
    }


def _wait_for_tokens(streams: list[GenerationStream], count: int) -> None:
    """Until each has this many tokens more, or has ended."""
    wanted = [len(stream.output.sampled) + count for stream in streams]
    while any(len(s.output.sampled) < n and not s.output.ending for s, n in zip(streams, wanted, strict=True)):
        time.sleep(0.005)


def report(figures: dict[str, Any]) -> str:
    """The figures as a few lines."""
    lines = [f"{STREAMS} streams while prompts of {PROMPT_LEN:,} tokens arrive, milliseconds between two tokens"]
    for each in figures["beside_prompts"]:
        lines.append(
            f"  prefill_budget {each['prefill_budget']:4}   median {each['median_ms']:.1f}   99th percentile "
            f"{each['p99_ms']:.1f}, {each['p99_over_median']:.1f} times as long (goal: {ALLOWED:.0f})   first token of "
            f"a prompt after {each['first_token_of_2000_ms']['median']:.0f}"
        )
    cached = figures["cached_prefix"]
    lines.append(
        f"first token of {cached['cached_tokens']:,} cached and {cached['own_tokens']} own tokens: "
        f"{Spread(**cached['first_token_in_steps'])} decode steps of {cached['decode_step_ms']:.1f} ms "
        f"(goal: {ALLOWED_STEPS})"
    )
    return "\n".join(lines)


def main() -> None:
    """Measure, print, and write ``results/latency.json``."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.latency", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a small load that shows that all works; saves nothing")
    options = parser.parse_args()
    torch.set_num_threads(1)
    config = replace(MODEL_S, max_seq_len=4096)
    model = Transformer.random(config, seed=0)
    prompts, output_len = (1, 300) if options.quick else (8, 1900)
    beside_prompts(model, 512, 1, 50)  # warms up
    figures = {
        "model": config.to_dict(),
        "streams": STREAMS,
        "beside_prompts": [
            beside_prompts(model, budget, prompts, output_len)
            for budget in ((64,) if options.quick else (512, 128, 64, 32))
        ],
        "cached_prefix": cached_prefix(model, 3 if options.quick else 40),
    }
    print(report(figures))
    if not options.quick:
        print(f"written to {save('latency', figures).name}")


if __name__ == "__main__":
    main()
