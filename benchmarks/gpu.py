"""One planned run on a CUDA device: are the tokens right, how fast is each phase, and where does the time go.

``make gpu``. It needs only the engine core's dependencies. Without a device it runs on the CPU with ``--quick``, which
shows that all works and saves nothing.
"""

from __future__ import annotations

import argparse
import random
import statistics
import time
from collections import Counter
from dataclasses import replace
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile

from astrai.config import EngineConfig, ModelConfig
from astrai.inference.engine import InferenceEngine
from astrai.model.transformer import Transformer
from astrai.trace.events import PhaseEnded, TokensDecoded
from benchmarks.agreement import disagreements
from benchmarks.ceiling import measure_machine, multiplied
from benchmarks.loads import mixed, serve, with_shared_prefix
from benchmarks.measure import save

# Rows at once, prompt tokens of each, output tokens of each, and the goal in tokens per second on an H200.
DECODES = ((1, 300, 128, 1_500), (16, 300, 128, 20_000), (128, 512, 64, 80_000))
PREFILL_GOAL, COPY_GOAL_US = 200_000, 50
CORRECT = ModelConfig(
    vocab_size=997, hidden_size=192, num_layers=3, num_heads=12, num_kv_heads=2, head_dim=32, intermediate_size=512,
    max_seq_len=512, tie_embeddings=False,
)  # fmt: skip


def correctness(device: str, seeds: int) -> dict[str, int]:
    """Greedy tokens in float32 against a loop without any cache, on random loads with and without shared prefixes.

    Raises:
        AssertionError: tokens differ where no two logits tie.
    """
    counts: Counter[str] = Counter()
    for seed in range(seeds):
        rng = random.Random(seed)
        model = Transformer.random(CORRECT, seed, device)
        requests = mixed(7, (1, 200), (1, 40), seed, CORRECT.vocab_size)
        requests += with_shared_prefix(5, rng.randint(1, 200), 9, 20, seed, CORRECT.vocab_size)
        rng.shuffle(requests)
        config = EngineConfig(num_slots=rng.choice([3, 5, 8]), prefill_budget=rng.choice([64, 512]), poison=True)
        ours = [result.token_ids for result in serve(model, requests, config)[0]]
        plain = [_uncached(model, r.prompt, r.sampling.max_tokens) for r in requests]
        parted = disagreements(model, requests, ours, plain)
        wrong = [each for each in parted if not each.is_tie]
        assert not wrong, f"not the tokens of the loop without a cache: {wrong}"
        counts.update(requests=len(requests), tokens=sum(map(len, ours)), ties=len(parted))
    return dict(counts)


@torch.inference_mode()
def _uncached(model: Transformer, prompt: Any, count: int) -> tuple[int, ...]:
    ids = list(prompt)
    for _ in range(count):
        ids.append(int(model(torch.tensor([ids], device=model.device))[0, -1].argmax()))
    return tuple(ids[len(prompt) :])


def phases(model: Transformer, rows: int, prompt_len: int, output_len: int) -> dict[str, Any]:
    """Tokens per second of prefill and of decode with all rows running, by the trace's own phases."""
    config = EngineConfig(num_slots=rows, max_seq_len=prompt_len + output_len, prefill_budget=8192)
    load = mixed(rows, (prompt_len,) * 2, (output_len,) * 2, vocab=model.config.vocab_size)
    with InferenceEngine(model, config=config, start=False) as engine:
        for _ in range(2):  # the first time captures graphs
            prefilled = engine.scheduler.totals["prefilled_tokens"]
            seen = engine.trace.next_seq
            streams = [engine.submit(request) for request in load]
            while engine.scheduler.has_work:
                engine.scheduler.step()
            assert all(stream.output.ending for stream in streams)
        prefilled = engine.scheduler.totals["prefilled_tokens"] - prefilled
        seconds: dict[str, list[float]] = {"prefill": [], "decode": []}
        full = False
        for record in engine.trace.tail(seen):
            if isinstance(record.event, TokensDecoded):
                full = len(record.event.request_ids) == rows
            elif isinstance(record.event, PhaseEnded) and record.event.phase == "prefill":
                seconds["prefill"].append(record.event.seconds)
            elif isinstance(record.event, PhaseEnded) and record.event.phase == "decode" and full:
                seconds["decode"].append(record.event.seconds)
                full = False
        graphs = engine.scheduler.runner.graphs
    return {
        "rows": rows,
        "prompt_tokens": prompt_len,
        "decode_tokens_per_second": rows / statistics.median(seconds["decode"]),
        "prefill_tokens_per_second": prefilled / sum(seconds["prefill"]),
        "warm_up_seconds": graphs.warm_up_seconds if graphs else 0.0,
        "graph_bytes": graphs.graph_bytes if graphs else 0,
    }


def prefix_copy(model: Transformer, length: int, repeats: int) -> float:
    """Microseconds to copy a prefix from row to row, the device waited for."""
    with InferenceEngine(model, num_slots=2, max_seq_len=length + 1, start=False) as engine:
        taken = []
        for _ in range(repeats):
            started = time.perf_counter()
            engine.kv_cache.copy_prefix(0, 1, length)
            if model.device.type == "cuda":
                torch.cuda.synchronize()
            taken.append(1e6 * (time.perf_counter() - started))
    return statistics.median(taken)


def where_time_goes(model: Transformer, rows: int, steps: int) -> str:
    """The profiler's table of some decode steps."""
    with InferenceEngine(model, num_slots=rows, max_seq_len=512, start=False) as engine:
        for request in mixed(rows, (100, 100), (steps + 20,) * 2, vocab=model.config.vocab_size):
            engine.submit(request)
        for _ in range(8):
            engine.scheduler.step()
        activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if model.device.type == "cuda" else [])]
        with profile(activities=activities) as found:
            for _ in range(steps):
                engine.scheduler.step()
    key = "self_cuda_time_total" if model.device.type == "cuda" else "self_cpu_time_total"
    return found.key_averages().table(sort_by=key, row_limit=20, max_name_column_width=60)


def main() -> None:
    """Correctness first, then speed, then a profile; write ``results/gpu.json``."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a small model and load; saves nothing")
    options = parser.parse_args()
    has_cuda = torch.cuda.is_available()
    if not has_cuda and not options.quick:
        parser.error("there is no CUDA device here: --quick shows on the CPU that all works")
    device = "cuda" if has_cuda else "cpu"
    figures: dict[str, Any] = {
        "device": torch.cuda.get_device_name() if has_cuda else "CPU",
        "correctness": correctness(device, 1 if options.quick else 8),
    }
    print(f"correct on {figures['device']}: {figures['correctness']}", flush=True)
    # In bfloat16 on a device; many a CPU has no arithmetic for it.
    small = replace(CORRECT, dtype="bfloat16" if has_cuda else "float32")
    config = small if options.quick else ModelConfig.preset("1b")
    model = Transformer.random(config, 0, device)
    dtype = getattr(torch, config.dtype)
    machine = measure_machine(dtype, model.device)
    figures["bytes_per_second"] = machine.bytes_per_second
    figures["one_stream_ceiling"] = machine.bytes_per_second / (dtype.itemsize * multiplied(config))
    figures["phases"] = []
    for rows, prompt_len, output_len, goal in ((2, 20, 8, 0),) if options.quick else DECODES:
        found = {**phases(model, rows, prompt_len, output_len), "decode_goal": goal, "prefill_goal": PREFILL_GOAL}
        figures["phases"].append(found)
        print(
            f"{rows:4} rows at {prompt_len}: {found['decode_tokens_per_second']:,.0f} tokens/s (goal {goal:,}), "
            f"prefill {found['prefill_tokens_per_second']:,.0f} (goal {PREFILL_GOAL:,}), graphs took "
            f"{found['warm_up_seconds']:.1f} s and {found['graph_bytes']:,} bytes",
            flush=True,
        )
    figures["prefix_copy_us"] = prefix_copy(model, 384, 50)
    print(f"a prefix of 384 tokens copied in {figures['prefix_copy_us']:.0f} us (goal {COPY_GOAL_US})")
    figures["profile"] = where_time_goes(model, 2 if options.quick else 16, 4 if options.quick else 50)
    print(figures["profile"])
    if not options.quick:
        print(f"written to {save('gpu', figures).name}")


if __name__ == "__main__":
    main()
