"""What chapter 10 measures with: the fastest of several rounds, and how long requests wait in a trace."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from astrai.course.measuring import in_turn
from astrai.trace.events import FirstTokenSampled, TokensDecoded
from astrai.trace.log import EventLog


def fastest(actions: Mapping[str, Callable[[], Sequence[float]]], rounds: int = 3) -> dict[str, list[float]]:
    """Of each number that an action returns, the smallest in ``rounds``, done in turn. It must return equally many each
    time.

    Example:
        >>> fastest({"a": lambda: [3.0, 4.0], "b": lambda: [1.0]}, rounds=2)
        {'a': [3.0, 4.0], 'b': [1.0]}
    """
    return {name: [min(times) for times in zip(*runs, strict=True)] for name, runs in in_turn(actions, rounds).items()}


def longest_wait(log: EventLog) -> int:
    """The most steps from a token of a request to its next one."""
    last: dict[int, int] = {}
    longest = 0
    for record in log.records:
        match record.event:
            case FirstTokenSampled(number):
                got_a_token: Sequence[int] = [number]
            case TokensDecoded(request_ids=numbers):
                got_a_token = numbers
            case _:
                continue
        for number in got_a_token:
            longest = max(longest, record.step - last.get(number, record.step))
            last[number] = record.step
    return longest
