"""What being watched costs: the share of the engine's CPU time that goes into emitting and folding trace events.

Taken in two ways on 16 streams of the tiny preset with random weights. From within: the thread's CPU time around each
``emit``. From without: two engines with the same requests, one with a trace and one without, take step after step in
turn on one thread, and each pair of steps is compared. The log is kept so short that nearly every event leaves it and
is folded too, as in an engine that has run for long.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

import torch

from astrai.config import EngineConfig, ModelConfig
from astrai.inference.engine import GenerationRequest, InferenceEngine
from astrai.inference.scheduler import Emit, InferenceScheduler
from astrai.model.transformer import Transformer
from astrai.trace.events import Event
from benchmarks.loads import mixed
from benchmarks.measure import Spread, save

STREAMS = 16
SHORT_LOG = 64  # events, about six steps
GOAL = 0.02


class TimedEmit:
    """Passes events on and adds up the CPU seconds that this takes the thread."""

    def __init__(self, emit: Emit) -> None:
        self.emit = emit
        self.events = 0
        self.seconds = 0.0

    def __call__(self, event: Event) -> None:
        started = time.thread_time()
        self.emit(event)
        self.seconds += time.thread_time() - started
        self.events += 1


def step_seconds(
    model: Transformer, requests: Sequence[GenerationRequest], watches: Sequence[Callable[[Emit], Emit]]
) -> list[list[float]]:
    """CPU seconds of each step, one engine for each watch: it takes the log's ``emit`` and gives what is called."""
    schedulers = [_scheduler(model, requests, watch) for watch in watches]
    seconds: list[list[float]] = [[] for _ in watches]
    turns = list(zip(schedulers, seconds, strict=True))
    while schedulers[0].has_work:
        turns.reverse()
        for scheduler, taken in turns:
            started = time.thread_time()
            scheduler.step()
            taken.append(time.thread_time() - started)
    return seconds


def _scheduler(
    model: Transformer, requests: Sequence[GenerationRequest], watch: Callable[[Emit], Emit]
) -> InferenceScheduler:
    engine = InferenceEngine(model, config=EngineConfig(num_slots=STREAMS, trace_events=SHORT_LOG), start=False)
    engine.scheduler.emit = watch(engine.scheduler.emit)
    for request in requests:
        engine.submit(request)
    return engine.scheduler


def without(emit: Emit) -> Emit:
    """The null sink."""
    return lambda event: None


def clock_seconds(calls: int = 100_000) -> float:
    """CPU seconds that one ``TimedEmit`` measures around nothing."""
    empty = TimedEmit(lambda event: None)
    for _ in range(calls):
        empty(Event())
    return empty.seconds / calls


def measure(model: Transformer, requests: Sequence[GenerationRequest], repeats: int) -> dict[str, Any]:
    """The share from within and from without, and what one event costs."""
    clock, share, ratio, event = clock_seconds(), [], [], []
    for _ in range(repeats):
        watched: list[TimedEmit] = []

        def timed(emit: Emit, watched: list[TimedEmit] = watched) -> Emit:
            watched.append(TimedEmit(emit))
            return watched[0]

        traced, untraced, _ = step_seconds(model, requests, [lambda emit: emit, without, timed])
        emitting = watched[0].seconds - clock * watched[0].events
        event.append(1e6 * emitting / watched[0].events)
        share.append(emitting / sum(traced))
        ratio.append(statistics.median(a / b for a, b in zip(traced, untraced, strict=True)))
    return {
        "streams": STREAMS,
        "steps": len(traced),
        "events": watched[0].events,
        "microseconds_per_event": Spread.of(event)._asdict(),
        "share_of_cpu_time": Spread.of(share)._asdict(),
        "traced_step_over_untraced": Spread.of(ratio)._asdict(),
    }


def report(figures: dict[str, Any]) -> str:
    """The figures as a few lines: median (lowest to highest)."""
    share = Spread(**figures["share_of_cpu_time"])
    return f"""\
{figures["streams"]} streams, {figures["events"]:,} events in {figures["steps"]:,} steps
  emitting and folding  {share.median:.2%} ({share.low:.2%} to {share.high:.2%}) of CPU time, goal: under {GOAL:.0%}
  one event             {Spread(**figures["microseconds_per_event"])} microseconds
  a step with the trace takes {Spread(**figures["traced_step_over_untraced"])} times that of one without"""


def main() -> None:
    """Measure, print, and write ``results/watching.json``."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.watching", description=__doc__)
    parser.add_argument("--repeats", type=int, default=5, help="how often each side runs, in turn")
    parser.add_argument("--quick", action="store_true", help="a small load that shows that all works; saves nothing")
    options = parser.parse_args()
    torch.set_num_threads(1)
    config = ModelConfig.preset("tiny")
    model = Transformer.random(config, seed=0)
    output_len = 16 if options.quick else 256
    requests = mixed(STREAMS, (48, 80), (output_len, output_len), seed=4)
    step_seconds(model, requests[:2], [without])  # warms up
    figures = {"model": config.to_dict(), **measure(model, requests, options.repeats)}
    print(report(figures))
    if not options.quick:
        print(f"written to {save('watching', figures).name}")


if __name__ == "__main__":
    main()
