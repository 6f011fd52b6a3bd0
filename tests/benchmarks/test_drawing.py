"""The drawings are measured on states that are as full as their caption says, and all of them in a real browser."""

import pytest

from benchmarks.drawing import DRAWINGS, ROW_LEN, full_log, measure, views_of
from tests.browser import CHROMIUM, NO_CHROMIUM


def test_the_measured_states_are_the_last_of_a_run_whose_rows_are_long_and_mostly_in_use() -> None:
    log = full_log(16, 80)
    views = list(views_of(log, 3))
    assert [view["state"]["step"] for view in views] == [78, 79, 80]
    for slots in (view["state"]["slots"] for view in views):
        assert 10 <= sum(slot["owner"] is not None for slot in slots) < 16
        assert all(slot["len"] for slot in slots)
        assert ROW_LEN / 4 < sum(slot["len"] for slot in slots) / 16 < ROW_LEN
        assert {"copy", "zero-copy"} <= {slot["origin"]["kind"] for slot in slots}


@pytest.mark.skipif(CHROMIUM is None, reason=NO_CHROMIUM)
def test_each_drawing_is_measured() -> None:
    times = measure(list(views_of(full_log(8, 12), 3)))
    assert list(times) == list(DRAWINGS)
    for time in times.values():
        assert 0 <= time["median"] <= time["p90"] and time["layout"] >= 0
    assert times["slots"]["median"] > 0
