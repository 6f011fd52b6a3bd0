"""Compares how long things take: in turn, several times, and the least time counts."""

from __future__ import annotations

import timeit
from collections.abc import Callable, Hashable, Mapping
from functools import partial
from typing import Any, TypeVar

Name = TypeVar("Name", bound=Hashable)
Result = TypeVar("Result")


def in_turn(actions: Mapping[Name, Callable[[], Result]], rounds: int) -> dict[Name, list[Result]]:
    """What each action returned in each of ``rounds``.

    The actions take turns, so that whatever else the machine does meets all of them. Tensors are computed on one
    thread meanwhile.

    Example:
        >>> in_turn({"a": lambda: 1, "b": lambda: 2}, rounds=3)
        {'a': [1, 1, 1], 'b': [2, 2, 2]}
    """
    import torch

    results: dict[Name, list[Result]] = {name: [] for name in actions}
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        for _ in range(rounds):
            for name, action in actions.items():
                results[name].append(action())
    finally:
        torch.set_num_threads(threads)
    return results


def fastest(actions: Mapping[Name, Callable[[], Any]], rounds: int = 20, calls: int = 20) -> dict[Name, float]:
    """Microseconds for one call of each action: the least of ``rounds``, in each of which it is called ``calls`` times.

    What else a busy machine does can only add to a time, so the least is nearest to the truth.

    Example:
        >>> list(fastest({("add", 2): lambda: 1 + 1}, rounds=2, calls=1))
        [('add', 2)]
    """
    timed = {name: partial(timeit.timeit, action, number=calls) for name, action in actions.items()}
    return {name: min(times) / calls * 1e6 for name, times in in_turn(timed, rounds).items()}
