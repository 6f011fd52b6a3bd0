"""The boxes of Architecture, and what travels between them."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("manim", reason="manim is not installed: pip install 'astrai[video]'")

from manim import tempconfig

from animations.architecture import Architecture
from animations.architecture_facts import LAYERS, NOTE, QUESTION
from animations.film import readable_labels
from animations.mobjects.layer_box import CallArrow, LayerBox
from animations.mobjects.traveller import Traveller
from animations.style import BODY


def box(index: int, y: float = 0.0) -> LayerBox:
    layer = LAYERS[index]
    return LayerBox(index + 1, layer.name, layer.path, layer.details, y)


def test_every_layer_has_a_box_of_the_same_size_with_all_its_words_inside():
    boxes = [box(index) for index in range(len(LAYERS))]
    assert len({(round(b.frame.width, 6), round(b.frame.height, 6)) for b in boxes}) == 1
    for each in boxes:
        for label in [*each.head.submobjects[1:], *each.details]:
            assert label.size >= BODY
            assert each.frame.get_left()[0] < label.get_left()[0] and label.get_right()[0] < each.frame.get_right()[0]
            assert each.frame.get_bottom()[1] < label.get_bottom()[1] and label.get_top()[1] < each.frame.get_top()[1]


def test_a_line_that_does_not_fit_is_refused():
    with pytest.raises(ValueError, match="units too long for its box"):
        LayerBox(1, "A", "b", ("x" * 90, ""), 0)
    with pytest.raises(ValueError, match="do not fit into one line"):
        LayerBox(1, "A" * 40, "b" * 40, ("", ""), 0)
    with pytest.raises(ValueError, match="but the card has"):
        Traveller(("much too long for it",), 0, 0)


def test_an_arrow_goes_from_one_box_to_the_next_and_points_down():
    upper, lower = box(0, 1.0), box(1, -0.4)
    arrow = CallArrow(upper, lower)
    tip = arrow.submobjects[1]
    assert arrow.get_top()[1] == pytest.approx(upper.frame.get_bottom()[1])
    assert tip.get_bottom()[1] == pytest.approx(lower.frame.get_top()[1])
    widths = {round(point[1], 3): abs(point[0]) for point in tip.get_vertices()}
    assert widths[min(widths)] < 0.01 < widths[max(widths)]


def test_all_layers_are_there_at_once_then_the_two_that_make_it_fast(tmp_path: Path):
    seen: dict[str, set[str]] = {}
    settings = {"dry_run": True, "quality": "low_quality", "progress_bar": "none", "verbosity": "ERROR"}
    with tempconfig({**settings, "media_dir": str(tmp_path)}):
        film = Architecture(quick=True)
        film.after_beat = lambda beat: seen.update({beat.caption: {label.text for label in readable_labels(film)}})
        film.render()
    assert 60 <= film.beats[-1].end <= 75.5
    words = [{layer.name, layer.path, *layer.details} for layer in LAYERS]
    assert set.union(*words) <= seen["Each layer calls only those below it."]
    assert any(f"“{QUESTION}”" in texts for texts in seen.values())
    noted = next(texts for texts in seen.values() if NOTE in texts)
    assert [layer <= noted for layer in words] == [False, False, True, True, False]
