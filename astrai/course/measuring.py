"""Compares how long things take: in turn, several times, the middle one counts."""

from __future__ import annotations

import timeit
from collections.abc import Callable, Mapping
from statistics import median
from typing import Any


def medians(actions: Mapping[str, Callable[[], Any]], rounds: int = 7, calls: int = 20) -> dict[str, float]:
    """Microseconds for one call of each action: the median of ``rounds``, in each of which it is called
    ``calls`` times.

    The actions take turns, so that whatever else the machine does meets all of them. Tensors are computed on one
    thread meanwhile.

    Example:
        >>> sorted(medians({"add": lambda: 1 + 1, "sort": lambda: sorted(range(100))}, rounds=1, calls=1))
        ['add', 'sort']
    """
    import torch

    times: dict[str, list[float]] = {name: [] for name in actions}
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        for _ in range(rounds):
            for name, action in actions.items():
                times[name].append(timeit.timeit(action, number=calls) / calls * 1e6)
    finally:
        torch.set_num_threads(threads)
    return {name: median(seconds) for name, seconds in times.items()}
