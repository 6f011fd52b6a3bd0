"""How time is taken: CPU and wall seconds, contenders in turn, medians with their spread.

CPU seconds are those of the whole process, all threads: on a machine that does other work too they are the fairer of
the two. Nothing here knows what is measured.
"""

from __future__ import annotations

import gc
import json
import os
import platform
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import torch

RESULTS = Path(__file__).parent / "results"
T = TypeVar("T")


class Seconds(NamedTuple):
    """CPU time of the process, and time on the clock."""

    cpu: float
    wall: float


class Spread(NamedTuple):
    """The median of several measurements, and how far they lie apart."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """Of at least one value."""
        return cls(statistics.median(values), min(values), max(values))

    def __str__(self) -> str:
        median, low, high = (f"{value:#.3g}".rstrip(".") for value in self)
        return f"{median} ({low} to {high})"


def timed(work: Callable[[], T]) -> tuple[T, Seconds]:
    """Do the work, with the garbage of what came before collected first."""
    gc.collect()
    cpu, wall = time.process_time(), time.perf_counter()
    result = work()
    return result, Seconds(time.process_time() - cpu, time.perf_counter() - wall)


def in_turn(repeats: int, contenders: dict[str, Callable[[], T]]) -> dict[str, list[T]]:
    """Run all contenders ``repeats`` times: A B, B A, A B, so that a drift of the machine favours none."""
    results: dict[str, list[T]] = {name: [] for name in contenders}
    for repeat in range(repeats):
        for name in list(contenders)[:: -1 if repeat % 2 else 1]:
            results[name].append(contenders[name]())
    return results


def ratios(slow: Sequence[float], fast: Sequence[float]) -> Spread:
    """How many times faster, repeat by repeat: both sides of a ratio were taken moments apart."""
    return Spread.of([a / b for a, b in zip(slow, fast, strict=True)])


def machine() -> dict[str, Any]:
    """What the figures were taken on, without names or paths."""
    return {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "cpu": _cpu_model(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
    }


def _cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def save(name: str, figures: dict[str, Any]) -> Path:
    """Write figures to ``results/<name>.json``, with the machine that they were taken on."""
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{name}.json"
    path.write_text(json.dumps({"machine": machine(), **figures}, indent=2) + "\n")
    return path
