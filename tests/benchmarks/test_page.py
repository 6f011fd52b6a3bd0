"""docs/performance.md shows what was measured, and nothing else stands between its marks."""

from __future__ import annotations

import json

from astrai.training.card import fill
from benchmarks.measure import RESULTS
from benchmarks.page import PAGE, PLOT, parts, plot, rate, table


def test_the_page_shows_what_was_measured() -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert fill(page, parts()) == page, "draw it again: python -m benchmarks.page"
    assert all(text in page for text in parts().values())


def test_the_plot_has_all_three_drawings_of_the_kept_figures() -> None:
    figure = plot(json.loads((RESULTS / "growth.json").read_text()))
    assert [len(axes.lines) for axes in figure.axes] == [1, 1, 2]
    assert PLOT.is_file()


def test_a_table_has_its_numbers_on_the_right() -> None:
    assert table(["a", "b"], [["x", "1"]]) == "| a | b |\n|---|---:|\n| x | 1 |"


def test_a_rate_has_three_digits_and_no_exponent() -> None:
    assert [rate(value) for value in (1353.2, 574.4, 94.04, 6.5)] == ["1,353", "574", "94.0", "6.50"]
