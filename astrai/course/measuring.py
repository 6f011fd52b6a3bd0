"""Compares how long things take: in turn, several times, and the middle or the least time counts."""

from __future__ import annotations

import timeit
from collections.abc import Callable, Hashable, Mapping
from statistics import median
from typing import Any, TypeVar

Name = TypeVar("Name", bound=Hashable)


def medians(actions: Mapping[Name, Callable[[], Any]], rounds: int = 7, calls: int = 20) -> dict[Name, float]:
    """Microseconds for one call of each action: the median of ``rounds``, in each of which it is called
    ``calls`` times.

    The actions take turns, so that whatever else the machine does meets all of them. Tensors are computed on one
    thread meanwhile.

    Example:
        >>> sorted(medians({"add": lambda: 1 + 1, "sort": lambda: sorted(range(100))}, rounds=1, calls=1))
        ['add', 'sort']
    """
    return {name: median(times) for name, times in _in_turn(actions, rounds, calls).items()}


def fastest(actions: Mapping[Name, Callable[[], Any]], rounds: int = 20, calls: int = 20) -> dict[Name, float]:
    """Microseconds for one call of each action: the least of ``rounds``, as in ``medians`` otherwise.

    For short actions on a busy machine: what else it does can only add to a time, so the least is nearest to the truth.

    Example:
        >>> list(fastest({("add", 2): lambda: 1 + 1}, rounds=2, calls=1))
        [('add', 2)]
    """
    return {name: min(times) for name, times in _in_turn(actions, rounds, calls).items()}


def _in_turn(actions: Mapping[Name, Callable[[], Any]], rounds: int, calls: int) -> dict[Name, list[float]]:
    """Microseconds for one call of each action, once in each round."""
    import torch

    times: dict[Name, list[float]] = {name: [] for name in actions}
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        for _ in range(rounds):
            for name, action in actions.items():
                times[name].append(timeit.timeit(action, number=calls) / calls * 1e6)
    finally:
        torch.set_num_threads(threads)
    return times
