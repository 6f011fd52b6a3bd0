"""A chart of a measurement: its own background, the palette's colours, and words that hold no times."""

from __future__ import annotations

from astrai.course.charts import LINES, Chart
from astrai.widgets.palette import roles, theme


def drawn() -> Chart:
    chart = Chart("Hand out a slot", x="slots", y="ns", words="one line per allocator")
    chart.axes.plot([8, 64], [90, 95], label="bitmask")
    chart.axes.plot([8, 64], [60, 65], label="list")
    return chart


def test_lines_take_the_palettes_colours_and_differ_by_marker_too() -> None:
    bitmask, as_list = drawn().axes.lines
    assert [bitmask.get_color(), as_list.get_color()] == [roles()[role].color for role in LINES[:2]]
    assert bitmask.get_marker() != as_list.get_marker()


def test_it_brings_its_own_background_and_a_legend_where_lines_have_names() -> None:
    chart = drawn()
    assert chart._repr_png_().startswith(b"\x89PNG")
    assert chart.figure.get_facecolor()[:3] == (1, 1, 1) and theme()["background"] == "#FFFFFF"
    assert [text.get_text() for text in chart.axes.get_legend().get_texts()] == ["bitmask", "list"]
    assert Chart("bare").axes.get_legend() is None


def test_the_same_numbers_give_the_same_bytes_and_words() -> None:
    assert drawn()._repr_png_() == drawn()._repr_png_()
    assert repr(drawn()) == "Hand out a slot: one line per allocator"
