"""Measuring in turn: who runs when, on how many threads, and which of several times counts."""

from __future__ import annotations

import pytest
import torch

from astrai.course.measuring import fastest, in_turn


def test_of_several_rounds_the_least_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    seconds = iter([3e-5, 1e-5, 2e-5])  # of ten calls, on a busy machine
    monkeypatch.setattr("timeit.timeit", lambda action, number: next(seconds))
    assert fastest({("add", 1): int}, rounds=3, calls=10) == {("add", 1): pytest.approx(1.0)}


def test_actions_take_turns_on_one_thread_and_the_threads_are_put_back() -> None:
    torch.set_num_threads(2)
    calls = []
    fastest({"one": lambda: calls.append(1), "two": lambda: calls.append(torch.get_num_threads() + 1)}, 3, 2)
    assert calls == [1, 1, 2, 2] * 3 and torch.get_num_threads() == 2


def test_the_threads_are_put_back_after_an_error() -> None:
    torch.set_num_threads(2)
    with pytest.raises(ZeroDivisionError):
        in_turn({"bad": lambda: 1 / 0}, rounds=1)
    assert torch.get_num_threads() == 2
