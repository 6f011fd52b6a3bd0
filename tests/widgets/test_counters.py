"""The row of figures, in Python and in a browser, against a plain pass over the events."""

from __future__ import annotations

import json
from itertools import islice, pairwise, takewhile
from statistics import median
from typing import Any

import pytest

from astrai.trace import events as e
from astrai.trace.jsonl import Record
from astrai.trace.log import EventLog
from astrai.widgets.data import frames
from astrai.widgets.data.view import RunView
from astrai.widgets.twins.figures import figure_words, figures
from tests.widgets.runs import scripted_log, story_log

KNOWN_TO = 2.0  # milliseconds: a step's time is rounded to one, and so is the second that is looked at
DASH = "\N{EN DASH}"
DRAW = """text => {
  counters.draw(JSON.parse(text));
  const said = (cell) => [...cell.querySelectorAll("dd:not(.shares)")].map((dd) => dd.textContent);
  const cells = [...document.querySelectorAll("[data-figure]")];
  return Object.fromEntries(cells.map((cell) => [cell.dataset.figure, said(cell)]));
}"""
# What JupyterLab says of lists within outputs, after our own sheet as it may be there.
NOTEBOOK = """dl { width: 100%; overflow: hidden; padding: 0; margin: 0; }
body dt { font-weight: bold; float: left; width: 20%; padding: 0; margin: 0; }
body dd { display: block; float: left; width: 80%; padding: 0; margin: 0; }"""
BOXES = """() => [...document.querySelectorAll("[data-figure]")].map((cell) =>
  [...cell.children].map((part) => part.getBoundingClientRect()).map(({ left, top, bottom }) => [left, top, bottom]))"""
NAMES = ("speed", "first", "found", "prompt", "queues", "slots", "steps", "ended")


@pytest.fixture(scope="module")
def long_log() -> EventLog:
    """More than a second of a made-up clock, with every way to end."""
    return scripted_log(seed=5, steps=900, load=0.5)


def moment(log: EventLog, step: int, last: int | None = None) -> dict[str, Any]:
    """State and timeline at the end of a step, and nothing of what came after it."""
    view = RunView.of(log, keep_steps=None)
    for record in takewhile(lambda record: record.step <= step, log.records):
        view.apply(record)
    return {"state": view.state(), "timeline": view.timeline(last), "animate": False}


@pytest.fixture
def shown(mount: Any) -> Any:
    """Draws a view, and gives what the picture says of each figure: the figure itself, and the note below it."""
    page = mount("counters", functions=["makeCounters"])
    page.evaluate("window.counters = makeCounters(document.body)")

    def show(view: dict[str, Any]) -> dict[str, list[str]]:
        said = page.evaluate(DRAW, json.dumps(view))
        assert tuple(said) == NAMES
        return said

    show.page = page
    return show


# --- a plain pass over the events -------------------------------------------------------------------------------------


def tokens_in(records: list[Record], since_ms: float, now_ms: float) -> int:
    """Output tokens of the steps whose last phase ended later than ``since_ms`` before ``now_ms``."""
    ends: dict[int, float] = {}
    tokens: dict[int, int] = {}
    for record in records:
        match record.event:
            case e.StepStarted():
                ends[record.step] = 1000 * record.time
            case e.PhaseEnded(seconds=seconds):
                ends[record.step] += 1000 * seconds
            case e.FirstTokenSampled():
                tokens[record.step] = tokens.get(record.step, 0) + 1
            case e.TokensDecoded(token_ids=ids):
                tokens[record.step] = tokens.get(record.step, 0) + len(ids)
    return sum(count for step, count in tokens.items() if ends[step] > now_ms - since_ms)


def speed_between(records: list[Record]) -> tuple[float, float]:
    """Within these bounds lies the number of tokens of the last second, divided by the time that there was."""
    began, last = next(record for record in records if isinstance(record.event, e.StepStarted)), records[-1]
    steps = [record for record in records if record.step == last.step]
    spent = sum(record.event.seconds for record in steps if isinstance(record.event, e.PhaseEnded))
    now = 1000 * (steps[0].time + spent)
    span = min(1000, now - 1000 * began.time)
    low = tokens_in(records, 1000 - KNOWN_TO, now) / (span + KNOWN_TO) * 1000
    high = tokens_in(records, 1000 + KNOWN_TO, now) / max(0.001, span - KNOWN_TO) * 1000
    return low, high


def first_token_ms(records: list[Record]) -> list[float]:
    """How long the last 20 requests that got a first token waited for it."""
    arrived = {r.event.request_id: r.time for r in records if isinstance(r.event, e.RequestArrived)}
    firsts = [r for r in records if isinstance(r.event, e.FirstTokenSampled)]
    return [1000 * (record.time - arrived[record.event.request_id]) for record in firsts[-20:]]


def prompt_tokens(records: list[Record]) -> tuple[int, int]:
    """Computed and found."""
    computed = sum(r.event.end - r.event.start for r in records if isinstance(r.event, e.Prefilled))
    return computed, sum(r.event.cached_len for r in records if isinstance(r.event, e.RequestAdmitted))


def queues(records: list[Record]) -> tuple[int, int, int]:
    """Running (until its row is taken back), waiting, slots with an owner."""
    waiting, running, owners = set(), {}, set()
    for record in records:
        match record.event:
            case e.RequestArrived(request_id=request_id):
                waiting.add(request_id)
            case e.RequestAdmitted(request_id=request_id, slot=slot):
                waiting.remove(request_id)
                running[slot] = request_id
                owners.add(slot)
            case e.RequestFinished(request_id=request_id):
                waiting.discard(request_id)
            case e.SlotFreed(slot=slot):
                running.pop(slot)
                owners.remove(slot)
    return len(running), len(waiting), len(owners)


# --- tests ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("step", [1, 2, 7, 40, 300, 600, 899])
def test_the_figures_are_what_a_pass_over_the_events_gives(long_log, shown, step):
    view = moment(long_log, step)
    said, told = shown(view), figures(view["state"], view["timeline"])
    records = [record for record in long_log.records if record.step <= step]

    low, high = speed_between(records)
    speed = told.tokens_per_second
    assert low - 0.5 <= speed <= high + 0.5
    assert said["speed"][0] == f"{int(speed + 0.5):,}"

    waits = first_token_ms(records)
    assert told.first_tokens == len(waits)
    if waits:
        assert told.first_token_ms == pytest.approx(median(waits), abs=0.2)
        assert said["first"][0] == f"{told.first_token_ms:.1f} ms"
        assert said["first"][1] == (f"median of the last {len(waits)}" if len(waits) > 1 else "of one request")

    computed, found = prompt_tokens(records)
    assert (told.prefilled, told.cached) == (computed, found)
    assert said["prompt"][0] == f"{computed:,} / {found:,}"
    rate = f"{int(100 * found / (computed + found) + 0.5)} %" if computed + found else DASH
    assert said["found"][0] == rate

    running, waiting, owners = queues(records)
    assert (told.running, told.waiting, told.slots_in_use) == (running, waiting, owners)
    assert said["queues"][0] == f"{running} / {waiting}" and said["slots"][0] == f"{owners} of 6"
    assert said["steps"][0] == f"{step:,}" == f"{told.steps:,}"

    ends = [record.event.reason for record in records if isinstance(record.event, e.RequestFinished)]
    rejected = sum(record.event.count for record in records if isinstance(record.event, e.RequestsRejected))
    assert said["ended"][0] == f"{len(ends):,}" and sum(told.finished.values()) == len(ends)
    for reason in set(ends):
        assert f"{ends.count(reason)} {reason}" in said["ended"][1]
        assert told.finished[reason] == ends.count(reason)
    assert told.rejected == rejected and (f"{rejected:,} rejected" in said["ended"][1]) == (rejected > 0)


def test_the_run_lasts_longer_than_the_second_that_is_looked_at(long_log):
    times = [record.time for record in long_log.records]
    assert times[-1] - times[0] > 1.2
    assert {record.event.reason for record in long_log.records if isinstance(record.event, e.RequestFinished)} == {
        "stop", "length", "cancelled", "timeout", "error"
    }  # fmt: skip


def test_a_recording_tells_at_each_phase_what_was_told_live_at_that_moment(shown):
    log = scripted_log(seed=3, steps=30, load=0.8)
    recorded = frames.recording(log, by="phase")
    live, records = RunView.of(log), log.records
    moments = zip(recorded["labels"], frames.frames(recorded), strict=True)
    for label, state in islice(moments, 0, None, 3):  # 3 and the 4 phases of a step meet every one of them
        for record in records[live.seq : label[2]]:
            live.apply(record)
        in_playback = {"state": state, "timeline": recorded["timeline"], "after": label[1]}
        then = {"state": live.state(), "timeline": live.timeline()}
        assert shown(in_playback) == shown(then), label


def test_python_and_the_browser_tell_the_same_of_the_bundled_models_run(shown):
    log = story_log().log
    for step in range(1, log.records[-1].step + 1, 20):
        view = moment(log, step, last=240)
        said, told = shown(view), figures(view["state"], view["timeline"])
        assert said["speed"][0] == f"{int(told.tokens_per_second + 0.5):,}"
        assert said["first"][0] == f"{told.first_token_ms:.1f} ms"
        words = "; ".join(figure_words(view["state"], view["timeline"]))
        assert f"{told.tokens_per_second:,.0f} tokens a second" in words
        assert f"{told.running} running, {told.waiting} waiting" in words


def test_a_step_that_is_under_way_changes_no_speed_since_nobody_knows_how_long_it_takes(shown):
    log = scripted_log(seed=3, steps=12, load=0.8)
    live, at_the_end = RunView.of(log), None
    for record in log.records:
        live.apply(record)
        state, timeline = live.state(), live.timeline()
        if state["phase"] is not None:
            assert figures(state, timeline).tokens_per_second == at_the_end, record
            if isinstance(record.event, e.FirstTokenSampled | e.TokensDecoded):
                said = shown({"state": state, "timeline": timeline})["speed"][0]
                assert said == (DASH if at_the_end is None else f"{int(at_the_end + 0.5):,}")
        elif isinstance(record.event, e.PhaseEnded) and record.event.phase == "decode":
            at_the_end = figures(state, timeline).tokens_per_second
    assert at_the_end > 0


def test_a_notebooks_own_styles_do_not_move_figures_over_their_labels(shown):
    shown.page.add_style_tag(content=NOTEBOOK)
    shown(moment(scripted_log(seed=3, steps=12), 12))
    boxes = shown.page.evaluate(BOXES)
    for parts in boxes:
        assert len({left for left, _, _ in parts}) == 1
        assert all(above[2] <= below[1] + 0.5 for above, below in pairwise(parts))


def test_before_the_first_step_there_are_dashes_and_not_zeros(shown):
    view = RunView(num_slots=3)
    said = shown({"state": view.state(), "timeline": view.timeline()})
    assert [said[name][0] for name in NAMES] == [DASH, DASH, DASH, "0 / 0", "0 / 0", "0 of 3", "0", "0"]
    assert figure_words(view.state(), view.timeline()) == ["0 running, 0 waiting", "0 of 3 slots in use", "ended: none"]


def test_a_scripted_run_shows_no_times(long_log, shown):
    view = moment(long_log, 300)
    view["timeline"]["scripted"] = True
    said = shown(view)
    assert said["speed"] == said["first"] == [DASH, "scripted: no timings"]
    assert said["found"][0] != DASH
    assert "second" not in "".join(figure_words(view["state"], view["timeline"]))


@pytest.mark.parametrize(("width", "columns"), [(400, 2), (700, 4), (1200, 8)])
def test_the_figures_fit_narrow_and_wide_pages(long_log, page, shown, width, columns):
    page.set_viewport_size({"width": width, "height": 600})
    shown(moment(long_log, 600))
    boxes = page.evaluate(
        "[...document.querySelectorAll('[data-figure]')].map((e) => [e.offsetLeft, e.scrollWidth - e.clientWidth])"
    )
    assert len({left for left, _ in boxes}) == columns
    assert all(over == 0 for _, over in boxes)


def test_a_redraw_changes_nothing_and_destroying_leaves_nothing(long_log, page, shown):
    view = moment(long_log, 300)
    shown(view)
    before = page.evaluate("document.body.innerHTML")
    shown(moment(long_log, 600))
    assert page.evaluate("document.body.innerHTML") != before
    shown(view)
    assert page.evaluate("document.body.innerHTML") == before
    page.evaluate("counters.destroy()")
    assert page.evaluate("document.body.innerHTML") == ""
