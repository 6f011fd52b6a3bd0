"""The helpers of checks name the first difference, in words."""

from __future__ import annotations

import re
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch

from astrai.course.mistakes import Mistake, must_refuse, same, shorten
from astrai.course.parting import same_trace
from astrai.trace import events as e
from astrai.trace.log import EventLog


class Handle(NamedTuple):
    slot: int
    version: int


@pytest.mark.parametrize(
    ("actual", "expected", "words"),
    [
        (3, 4, "it is 3 and should be 4"),
        (True, 1, "it is True and should be 1"),
        (None, 0, "it is None and should be 0"),
        ([1, 2], [1, 3], r"In it, [1] is 2 and should be 3"),
        ([1, 2], [1, 2, 3], "it: 2 items where 3 should be, too few"),
        ([1, 2, 3], [1, 2], "too many"),
        ([(0, 1)], [Handle(0, 2)], r"In it, [0][1] is 1 and should be 2"),
        ({"a": 1}, {"a": 1, "b": 2}, "it: the key 'b' is missing"),
        ({"a": [1]}, {"a": [2]}, r"In it, ['a'][0] is 1 and should be 2"),
        ({1, 9}, {1}, "it: the item 9 does not belong there"),
        ("ab", "abc", "it is 'ab' and should be 'abc'"),
        (np.zeros(3), np.zeros((3, 1)), "it: the shape is (3,) and should be (3, 1)"),
        (np.zeros(3), np.zeros(3, dtype=np.int64), "it: the dtype is float64 and should be int64"),
        ([0.0], np.zeros(1), "it: this should be a numpy array, and is of type list"),
        (np.zeros(1), torch.zeros(1), "it: the dtype is float64 and should be float32"),
        (
            torch.tensor([[1, 2], [3, 5]]),
            torch.tensor([[1, 2], [3, 4]]),
            "In it, [1, 1] is 5 and should be 4",
        ),
        (torch.tensor([1.0, float("nan")]), torch.tensor([1.0, 2.0]), "In it, [1] is nan"),
        ([torch.tensor(1)], [torch.tensor(2)], "it[0] is 1 and should be 2"),
        (torch.tensor(2**62 + 1), torch.tensor(2**62), "they must be exactly equal"),
    ],
)
def test_the_first_difference_is_named(actual: Any, expected: Any, words: str) -> None:
    with pytest.raises(Mistake, match=re.escape(words)):
        same(actual, expected, "it")


@pytest.mark.parametrize(
    "value",
    [
        3,
        "text",
        [1, (2, {"a": {3}})],
        float("nan"),
        np.array([1.0, np.nan, np.inf]),
        torch.tensor([1.0, 2.0], dtype=torch.bfloat16),
        torch.tensor([1 + 2j]),
        torch.ones(2, requires_grad=True),
        {"logits": torch.zeros(2, 3)},
    ],
)
def test_a_value_is_the_same_as_itself(value: Any) -> None:
    same(value, value, "it")
    same(value, value, "it", tolerance=0.1)


def test_lists_and_tuples_are_the_same_kind_and_numpy_may_be_compared_with_a_list() -> None:
    same([1, 2], (1, 2), "it")
    same(np.array([1, 2]), [1, 2], "it")


def test_a_plain_number_may_stand_for_an_array_of_one() -> None:
    same(2, torch.tensor(2), "it")
    same(0.5, np.float64(0.5), "it")
    with pytest.raises(Mistake, match="it is 3 and should be 2"):
        same(3, torch.tensor(2), "it")


def test_a_sentence_begins_with_a_capital_where_it_begins_with_a_word() -> None:
    assert str(Mistake("the row is gone.")) == "The row is gone."
    assert str(Mistake("free(1) is wrong.")) == "free(1) is wrong."


def test_the_tolerance_is_kept_and_said_in_words() -> None:
    same(1.05, 1.0, "it", tolerance=0.1)
    same(torch.tensor([1.05]), torch.tensor([1.0]), "it", tolerance=0.1)
    with pytest.raises(Mistake, match=r"a difference of up to 0.1 is allowed"):
        same(1.2, 1.0, "it", tolerance=0.1)
    with pytest.raises(Mistake, match=r"1 of 2 numbers is wrong; .* up to 0.1 is allowed, and here it is 0.5"):
        same(torch.tensor([1.0, 1.5]), torch.tensor([1.0, 1.0]), "it", tolerance=0.1)
    with pytest.raises(Mistake, match=r"\[0\] is inf and should be 1.0"):
        same(torch.tensor([torch.inf]), torch.tensor([1.0]), "it", tolerance=0.1)


def test_long_values_are_shortened() -> None:
    assert len(shorten("x" * 1000)) <= 200 and shorten("short") == "'short'"


def test_refusing_is_asked_for_by_kind() -> None:
    must_refuse(lambda: [].pop(), "popping", IndexError)
    with pytest.raises(Mistake, match="popping must raise a ValueError, and raises an IndexError"):
        must_refuse(lambda: [].pop(), "popping", ValueError)
    with pytest.raises(Mistake, match="raises none: it returned 1"):
        must_refuse(lambda: [1].pop(), "popping", IndexError)


def test_a_stub_refuses_nothing() -> None:
    def stub() -> None:
        raise NotImplementedError

    with pytest.raises(NotImplementedError):
        must_refuse(stub, "popping", RuntimeError)  # of which it is a kind


def log(*more: e.Event, seconds: float = 1.0) -> EventLog:
    run = EventLog(num_slots=2)
    for event in (e.StepStarted(1), e.PhaseStarted("refill"), e.PhaseEnded("refill", seconds), e.StepStarted(2), *more):
        run.emit(event)
    return run


def test_runs_are_the_same_whatever_time_they_took() -> None:
    same_trace(log(e.SlotAllocated(0, 1, 0)), log(e.SlotAllocated(0, 1, 0), seconds=2.0).records)


def test_the_row_at_which_two_runs_part_is_told_in_words() -> None:
    with pytest.raises(
        Mistake, match="Your run goes another way than it should at row 4 of the trace, in step 2"
    ) as it:
        same_trace(log(e.SlotAllocated(1, 1, 0)), log(e.SlotAllocated(0, 1, 0)))
    assert it.value.rows[-2:] == (
        ("row 4, expected", "slot 0 v1: handed to request 0, to be written from its start"),
        ("row 4, yours", "slot 1 v1: handed to request 0, to be written from its start"),
    )
    assert it.value.rows[1] == ("row 3, both", "step 2 began")


@pytest.mark.parametrize("flip", [False, True])
def test_a_run_that_ends_too_early_parts_too(flip: bool) -> None:
    runs = [log(), log(e.SlotAllocated(0, 1, 0))]
    with pytest.raises(Mistake) as it:
        same_trace(*(reversed(runs) if flip else runs))
    assert it.value.rows[-2 if flip else -1][1] == "nothing more: the run was over"


def test_a_log_that_lost_its_beginning_cannot_be_compared() -> None:
    short = EventLog(num_slots=1, capacity=1)
    short.emit(e.StepStarted(1))
    short.emit(e.StepStarted(2))
    with pytest.raises(ValueError, match="raise trace_events"):
        same_trace(short, log())
