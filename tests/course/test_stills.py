"""The notebooks' pictures and tables tell what the trace says."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib.resources import files
from types import SimpleNamespace
from xml.etree import ElementTree

import pytest

from astrai.course.slot_history import PARTS, slot_history
from astrai.course.stills import FiveLayers, Frozen, SlotsOverTime, TraceTable
from astrai.trace import events as e
from astrai.trace.log import EventLog
from astrai.widgets.palette import roles, theme

PROMPT = (1, 2, 3, 4)


def two_requests(capacity: int = 1000) -> EventLog:
    """Request 0 is prefilled in slot 0 and decodes once; request 1 copies three tokens of it; then 2 reuses slot 0."""
    log = EventLog(num_slots=2, capacity=capacity)
    for event in (
        e.RequestArrived(0, PROMPT, ()),
        e.StepStarted(1),
        e.SlotAllocated(0, 1, 0),
        e.RequestAdmitted(0, 0, 1, 0),
        e.Prefilled(0, 0, 0, 4),
        e.FirstTokenSampled(0, 5),
        e.StepStarted(2),
        e.RequestArrived(1, PROMPT, ()),
        e.SlotAllocated(1, 1, 1),
        e.PrefixCopied(0, 1, 1, 1, 3),
        e.RequestAdmitted(1, 1, 1, 3),
        e.Prefilled(1, 1, 3, 4),
        e.FirstTokenSampled(1, 5),
        e.TokensDecoded((0,), (0,), (4,), (6,), (1,)),
        e.RequestFinished(0, "length", ""),
        e.StepStarted(3),
        e.SlotFreed(0, 1, 5),
        e.TokensDecoded((1,), (1,), (4,), (6,), (1,)),
        e.StepStarted(4),
        e.RequestArrived(2, (1, 2, 3, 4, 5, 9), ()),
        e.SlotReused(0, 2, 2, 5),
        e.RequestAdmitted(2, 0, 2, 5),
        e.Prefilled(2, 0, 5, 6),
        e.FirstTokenSampled(2, 5),
    ):
        log.emit(event)
    return log


def test_the_history_tells_how_each_token_came_into_its_slot() -> None:
    periods = [(p.slot, p.request_id, p.first_step, p.lengths) for p in slot_history(two_requests())]
    assert PARTS == ("reused", "copied", "prefill", "decode")
    assert periods == [
        (0, 0, 1, [(0, 0, 4, 0), (0, 0, 4, 1)]),
        (0, None, 3, [(0, 0, 4, 1)]),
        (0, 2, 4, [(5, 0, 1, 0)]),
        (1, 1, 2, [(0, 3, 1, 0), (0, 3, 1, 1), (0, 3, 1, 1)]),
    ]


def test_a_slot_that_is_freed_or_cut_loses_its_last_tokens_first() -> None:
    log = two_requests()
    for event in (
        e.RequestFinished(2, "cancelled", ""),
        e.StepStarted(5),
        e.SlotFreed(0, 2, 6),
        e.SlotTruncated(0, 3, 2),
    ):
        log.emit(event)
    last = [period for period in slot_history(log) if period.slot == 0][-1]
    assert (last.request_id, last.lengths) == (None, [(2, 0, 0, 0)])


def test_a_log_without_its_beginning_is_refused() -> None:
    with pytest.raises(ValueError, match="raise trace_events"):
        SlotsOverTime(two_requests(capacity=5))


def test_a_log_without_a_used_slot_is_refused() -> None:
    with pytest.raises(ValueError, match="run a request first"):
        SlotsOverTime(EventLog(num_slots=2))


def test_the_picture_says_the_same_in_words_and_is_the_same_each_time() -> None:
    picture = SlotsOverTime(two_requests())
    assert repr(picture).splitlines() == [
        "slot 0, steps 1 to 2: request 0 filled it to 5 tokens: 4 prefilled, 1 decoded",
        "slot 0, step 4: request 2 filled it to 6 tokens: 5 reused in place, 1 prefilled",
        "slot 1, steps 2 to 4: request 1 filled it to 5 tokens: 3 copied from another slot, 1 prefilled, 1 decoded",
    ]
    assert picture._repr_png_() == picture._repr_png_()


def test_the_picture_has_a_lane_for_each_slot_and_a_letter_for_each_colour() -> None:
    figure = SlotsOverTime(two_requests()).figure()
    (axes,) = figure.axes
    assert [label.get_text() for label in axes.get_yticklabels()] == ["slot 1", "slot 0"]
    (legend,) = figure.legends
    assert [text.get_text()[0] for text in legend.get_texts()][:4] == ["R", "C", "P", "D"]


def test_each_step_stands_above_its_number() -> None:
    (axes,) = SlotsOverTime(two_requests()).figure().axes
    left, right = axes.get_xlim()
    assert (left, right) == (0.5, 4.5), "steps 1 to 4, each half a step to both sides of its number"
    assert {text.get_position()[0] for text in axes.texts if "request 0" in text.get_text()} == {0.5}


def test_a_run_is_stopped_at_the_end_of_a_step() -> None:
    engine = SimpleNamespace(trace=two_requests(), tokenizer=None)
    first, second = (repr(Frozen(engine, step, parts=["slots"])) for step in (1, 2))
    assert "slot 1 · v0 · blank" in first and "copied 3 from slot 0" in second
    assert repr(Frozen(engine, parts=["slots"])) == repr(Frozen(engine, 4, parts=["slots"])), "now, if no step is given"
    engine.trace.emit(e.StepStarted(5))
    root = ElementTree.fromstring(Frozen(engine, 2)._repr_svg_())
    assert "root" in "".join(root.itertext()), "slots and tree, if no part is named"


def test_a_step_that_the_log_does_not_hold_is_refused() -> None:
    with pytest.raises(ValueError, match="holds the steps 0 to 4"):
        Frozen(SimpleNamespace(trace=two_requests(), tokenizer=None), step=9)


def test_the_table_tells_events_in_order_and_escapes_text() -> None:
    table = TraceTable(two_requests().records[:2], decode=lambda ids: "<|user|>\n" + "x" * 100)
    assert table.rows[0][2].startswith("request 0: joined the queue with 4 tokens “<|user|>⏎xxx")
    assert " ... " in table.rows[0][2]
    assert "&lt;|user|&gt;" in table._repr_html_() and "<|user|>" not in table._repr_html_()


def test_only_the_kinds_of_events_that_are_asked_for_are_shown_fine_print_too_and_in_their_phases() -> None:
    log = EventLog(num_slots=1)
    for event in (e.StepStarted(1), e.PhaseStarted("refill"), e.SlotAllocated(0, 1, 7), e.PathLocked(0)):
        log.emit(event)
    assert [words for _, _, words in TraceTable(log.records).rows] == [
        "slot 0 v1: handed to request 7, to be written from its start"
    ]
    assert [row[:2] for row in TraceTable(log.records, only=(e.PathLocked,)).rows] == [(1, "refill")]
    assert TraceTable(log.records, only=(e.PathUnlocked,)).rows == []


def test_the_map_of_the_layers_is_a_picture_with_a_description() -> None:
    root = ElementTree.fromstring(FiveLayers()._repr_svg_())
    space = "{http://www.w3.org/2000/svg}"
    assert (
        root.get("role") == "img" and root.find(f"{space}title") is not None and root.find(f"{space}desc") is not None
    )
    texts = [text.text for text in root.iter(f"{space}text")]
    assert {"L1", "L2", "L3", "L4", "L5", "The trace"} <= set(texts)


def test_every_role_has_its_own_colour_letter_and_hatch() -> None:
    values = roles().values()
    for name in ("color", "letter", "hatch", "label"):
        assert len({getattr(role, name) for role in values}) == len(values), name


def test_text_is_readable_on_every_fill() -> None:
    for name, role in roles().items():
        assert contrast(role.color, role.ink) >= 4.4, name
    for name in ("light", "dark"):
        assert contrast(theme(name)["background"], theme(name)["text"]) >= 7


def test_the_palette_is_plain_data() -> None:
    assert set(json.loads(files("astrai").joinpath("palette.json").read_text())) == {
        "about",
        "roles",
        "phases",
        "themes",
    }


def test_pictures_need_no_engine() -> None:
    code = "import sys; sys.modules['torch'] = None; import astrai.course.stills"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def contrast(one: str, other: str) -> float:
    """The contrast ratio of two colours (WCAG 2)."""
    high, low = sorted((luminance(one), luminance(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def luminance(color: str) -> float:
    parts = [int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
