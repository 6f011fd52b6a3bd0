"""How time grows with what there is more of: rows, context, shared prefix, waiting requests, length of a path.

The first three tables run the model; the others leave it out, so that only bookkeeping and trace are in the figures.
"""

from __future__ import annotations

import argparse
import random
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import torch

from astrai.config import EngineConfig, SamplingParams
from astrai.inference.cache.prefix_cache import PrefixCacheManager
from astrai.inference.cache.radix_tree import RadixTree
from astrai.inference.cache.slots import SlotAllocator
from astrai.inference.engine import InferenceEngine
from astrai.inference.request import PrefillChunk, Request, Sampled
from astrai.inference.scheduler import InferenceScheduler
from astrai.model.transformer import Transformer
from astrai.trace.events import PrefixCopied
from astrai.trace.log import EventLog
from benchmarks.loads import MODEL_S, mixed, with_shared_prefix
from benchmarks.measure import Spread, save

ROWS = (1, 2, 4, 8, 16, 32, 64, 128, 256)
CONTEXTS = (128, 256, 512, 1024, 2048)
PREFIXES = (0, 128, 384, 896, 1920)
QUEUES = (0, 100, 1_000, 10_000)
LENGTHS = (128, 512, 2048, 8192)
ROW_MICROSECONDS, STEP_MICROSECONDS = 1.0, 50.0  # the goal for bookkeeping and trace


class FreeRunner:
    """Computes nothing: every token is 7."""

    def copy(self, copies: Sequence[PrefixCopied]) -> None:
        """Nothing to do."""

    def prefill(self, chunks: Sequence[PrefillChunk]) -> list[Sampled | None]:
        """The first token of each prompt that is complete."""
        return [Sampled(7) if chunk.end == chunk.request.prompt_len else None for chunk in chunks]

    def decode(self, requests: Sequence[Request]) -> list[Sampled]:
        """One token each."""
        return [Sampled(7)] * len(requests)


def free_scheduler(num_slots: int, max_seq_len: int = 4096, trace_events: int = 64) -> InferenceScheduler:
    """A scheduler with cache and trace around a runner that costs nothing; nearly every event is folded too."""
    cache = PrefixCacheManager(SlotAllocator(num_slots), RadixTree())
    emit = EventLog(num_slots, capacity=trace_events).emit
    return InferenceScheduler(
        FreeRunner(), cache, max_seq_len=max_seq_len, max_waiting=100_000, prefill_budget=1 << 30, emit=emit
    )


def requests(count: int, prompt_len: int = 16, output_len: int = 4000) -> list[Request]:
    """Requests that share nothing and go on for long."""
    rng = random.Random(count)
    sampling = SamplingParams(max_tokens=output_len, ignore_eos=True)
    return [Request(i, tuple(rng.randrange(4096) for _ in range(prompt_len)), sampling) for i in range(count)]


def thread_microseconds(work: Callable[[], object], repeats: int) -> list[float]:
    """CPU microseconds of this thread for each of several calls."""
    taken = []
    for _ in range(repeats):
        started = time.thread_time()
        work()
        taken.append(1e6 * (time.thread_time() - started))
    return taken


# --- with the model ---------------------------------------------------------------------------------------------------


def with_rows(model: Transformer, rows: Sequence[int], steps: int) -> list[dict[str, Any]]:
    """Decode steps of more and more rows, at a context of 128."""
    return [{"rows": count, **decode_steps(model, count, 128, steps)} for count in rows]


def with_context(model: Transformer, contexts: Sequence[int], steps: int) -> list[dict[str, Any]]:
    """Decode steps of 16 rows, each with more and more behind it."""
    return [{"context": context, **decode_steps(model, 16, context, steps)} for context in contexts]


def decode_steps(model: Transformer, rows: int, context: int, steps: int) -> dict[str, Any]:
    """Milliseconds of CPU time that a step takes whose rows have just passed ``context`` tokens."""
    spare = rows // 32 + 4  # tokens that the first rows generate while the last are still to be admitted
    config = EngineConfig(num_slots=rows, max_seq_len=context + spare + steps, prefill_budget=rows * context)
    with InferenceEngine(model, config=config, start=False) as engine:
        for request in mixed(rows, (context,) * 2, (spare + steps,) * 2):
            engine.submit(request)
        scheduler = engine.scheduler
        while sum(request.is_decoding for request in scheduler.running.values()) < rows:
            scheduler.step()
        before = scheduler.totals["decoded_tokens"]
        milliseconds = [each / 1e3 for each in thread_microseconds(scheduler.step, steps)]
        assert scheduler.totals["decoded_tokens"] == before + rows * steps, "not every row was in every step"
    median = statistics.median(milliseconds)
    return {"step_ms": Spread.of(milliseconds)._asdict(), "tokens_per_cpu_second": 1e3 * rows / median}


def with_prefix(model: Transformer, prefixes: Sequence[int]) -> list[dict[str, Any]]:
    """Prefill of eight requests of 2,000 tokens of which more and more are shared: seconds, and tokens computed."""
    table = []
    for shared in prefixes:
        config = EngineConfig(num_slots=8, max_seq_len=2003, prefill_budget=512)
        with InferenceEngine(model, config=config, start=False) as engine:
            for request in with_shared_prefix(8, shared, 2000 - shared, 1):
                engine.submit(request)
            started = time.thread_time()
            while engine.scheduler.has_work:
                engine.scheduler.step()
            seconds = time.thread_time() - started
            computed = engine.scheduler.totals["prefilled_tokens"]
        table.append({"shared": shared, "prompts": 8, "cpu_seconds": seconds, "tokens_computed": computed})
    return table


# --- bookkeeping and trace alone --------------------------------------------------------------------------------------


def bookkeeping(rows: Sequence[int], steps: int) -> dict[str, Any]:
    """CPU microseconds of a decode step without a model, and the straight line through the medians."""
    table = []
    for count in rows:
        scheduler = free_scheduler(count)
        for request in requests(count):
            scheduler.submit(request)
        for _ in range(3):
            scheduler.step()
        table.append({"rows": count, "step_us": Spread.of(thread_microseconds(scheduler.step, steps))._asdict()})
    medians = [row["step_us"]["median"] for row in table]
    per_row, per_step = np.polyfit(rows, medians, 1)
    return {"table": table, "microseconds_per_row": float(per_row), "microseconds_per_step": float(per_step)}


def with_queue(lengths: Sequence[int], steps: int) -> list[dict[str, Any]]:
    """A decode step of 16 rows while others wait, and what it takes to queue one."""
    table = []
    for waiting in lengths:
        scheduler = free_scheduler(16)
        everyone = requests(16 + waiting)
        started = time.thread_time()
        for request in everyone:
            scheduler.submit(request)
        scheduler.step()
        arrival = 1e6 * (time.thread_time() - started) / len(everyone)
        scheduler.step()
        step = Spread.of(thread_microseconds(scheduler.step, steps))
        table.append({"waiting": waiting, "step_us": step._asdict(), "arrival_us": arrival})
    return table


def tree_operations(lengths: Sequence[int], repeats: int) -> list[dict[str, Any]]:
    """Match, insert and cut of one path, among 64 others that share its first half: microseconds."""
    table = []
    for length in lengths:
        rng = random.Random(length)
        half = tuple(rng.randrange(4096) for _ in range(length // 2))
        paths = [half + tuple(rng.randrange(4096) for _ in range(length - len(half))) for _ in range(65)]
        slots, tree = SlotAllocator(65), RadixTree()
        handles = [slots.allocate() for _ in paths]
        for handle, path in zip(handles[:-1], paths[:-1], strict=True):
            tree.insert(handle, path)
        operations = {
            "insert": partial(tree.insert, handles[-1], paths[-1]),
            "match": partial(tree.match_prefix, paths[-1]),
            "cut": partial(tree.cut, handles[-1], 0),
        }
        taken: dict[str, list[float]] = {name: [] for name in operations}
        for _ in range(repeats):
            for name, operation in operations.items():
                taken[name] += thread_microseconds(operation, 1)
        table.append({"length": length, **{f"{name}_us": Spread.of(us)._asdict() for name, us in taken.items()}})
    return table


# --- the command ------------------------------------------------------------------------------------------------------


def report(figures: dict[str, Any]) -> str:
    """The tables as text."""
    lines = ["rows   ms a step   tokens per CPU second"]
    lines += [
        f"{row['rows']:4}   {row['step_ms']['median']:9.2f}   {row['tokens_per_cpu_second']:.0f}"
        for row in figures["rows"]
    ]
    lines += ["", "context   ms a step of 16 rows   tokens per CPU second"]
    lines += [
        f"{row['context']:7}   {row['step_ms']['median']:20.2f}   {row['tokens_per_cpu_second']:.0f}"
        for row in figures["context"]
    ]
    lines += ["", "shared of 2,000   CPU seconds for 8 prompts   tokens computed"]
    lines += [
        f"{row['shared']:15}   {row['cpu_seconds']:25.2f}   {row['tokens_computed']:,}" for row in figures["prefix"]
    ]
    books = figures["bookkeeping"]
    lines += ["", "bookkeeping and trace, no model: rows, microseconds a step"]
    lines += [f"{row['rows']:4}   {row['step_us']['median']:.0f}" for row in books["table"]]
    lines.append(
        f"{books['microseconds_per_row']:.2f} us a row and {books['microseconds_per_step']:.0f} us a step "
        f"(goal: {ROW_MICROSECONDS} and {STEP_MICROSECONDS:.0f})"
    )
    lines += ["", "waiting   microseconds a step of 16 rows   microseconds to arrive"]
    lines += [
        f"{row['waiting']:7,}   {row['step_us']['median']:30.0f}   {row['arrival_us']:.1f}" for row in figures["queue"]
    ]
    lines += ["", "length of a path   match, insert, cut in microseconds"]
    lines += [
        f"{row['length']:16,}   "
        + ", ".join(f"{row[f'{name}_us']['median']:.0f}" for name in ("match", "insert", "cut"))
        for row in figures["tree"]
    ]
    return "\n".join(lines)


def main() -> None:
    """Measure, print, and write ``results/growth.json``."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.growth", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="small tables that show that all works; saves nothing")
    options = parser.parse_args()
    torch.set_num_threads(1)
    quick = options.quick
    config = replace(MODEL_S, max_seq_len=4096)
    model = Transformer.random(config, seed=0)
    steps = 3 if quick else 20
    decode_steps(model, 2, 16, 2)  # warms up
    figures = {
        "model": config.to_dict(),
        "rows": with_rows(model, ROWS[:3] if quick else ROWS, steps),
        "context": with_context(model, CONTEXTS[:2] if quick else CONTEXTS, steps),
        "prefix": with_prefix(model, (0, 1920) if quick else PREFIXES),
        "bookkeeping": bookkeeping(ROWS, 50 if quick else 500),
        "queue": with_queue(QUEUES[:3] if quick else QUEUES, 50 if quick else 500),
        "tree": tree_operations(LENGTHS, 5 if quick else 50),
    }
    print(report(figures))
    if not quick:
        print(f"written to {save('growth', figures).name}")


if __name__ == "__main__":
    main()
