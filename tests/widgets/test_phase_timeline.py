"""The timeline in a browser and its twins on paper, against the events of real runs."""

from __future__ import annotations

import copy
import json
import re
import xml.etree.ElementTree as ET
from functools import cache
from itertools import islice, pairwise, takewhile
from typing import Any

import pytest

import astrai
from astrai.trace import events as e
from astrai.trace.log import EventLog
from astrai.widgets.data import frames
from astrai.widgets.data.view import RunView
from astrai.widgets.palette import phase_roles, roles
from astrai.widgets.twins.known import known
from astrai.widgets.twins.phase_timeline import phase_timeline_svg, phase_timeline_text
from tests.widgets.runs import ScriptedRun, scripted_log, story_log

ABOVE, BARS, GANTT, ROW, ROWS = 18, 96, 138, 20, 14  # of the picture, in pixels
COLORS = {name: tuple(bytes.fromhex(role.color[1:])) for name, role in roles().items()}
NS = {"": "http://www.w3.org/2000/svg"}

DRAW = "text => timeline.draw(JSON.parse(text))"
LOOK = """() => {
  const picture = document.querySelector("#picture");
  const steps = picture.querySelector(".steps");
  const box = steps.getBoundingClientRect();
  const heads = [...picture.querySelectorAll(".head")].map((head) => ({ ...head.dataset, label: head.ariaLabel }));
  return { ...steps.dataset, left: box.left, width: box.width, heads, html: picture.querySelector(".stage").innerHTML,
           image: picture.querySelector("canvas").toDataURL() };
}"""
PIXELS = """areas => {
  const canvas = document.querySelector("#picture canvas").getContext("2d");
  return areas.map((area) => [...canvas.getImageData(...area).data]);
}"""
TIP = "() => { const tip = document.querySelector('#picture .tip'); return tip.hidden ? null : tip.innerText; }"


class Picture:
    """A timeline in a page, and what can be read from it."""

    def __init__(self, page: Any) -> None:
        self.page = page

    def draw(self, view: dict[str, Any], **changes: Any) -> dict[str, Any]:
        """Draw, and look: see ``LOOK``."""
        self.page.evaluate(DRAW, json.dumps({"animate": False, **view, **changes}))
        return self.look()

    def look(self) -> dict[str, Any]:
        seen = self.page.evaluate(LOOK)
        for name in ("first", "last", "columns"):
            seen[name] = int(seen[name])
        return seen | {"top": float(seen["top"])}

    def pixels(self, x: int, y: int, width: int, height: int) -> list[tuple[int, ...]]:
        """Red, green, blue and opacity, line by line."""
        return self._areas([[x, y, width, height]])[0]

    def bars(self, seen: dict[str, Any]) -> dict[int, list[str | None]]:
        """The roles in which the bar of each step is drawn, pixel by pixel from below."""
        column, numbers = seen["width"] / seen["columns"], range(seen["first"], seen["last"] + 1)
        lefts = [int(seen["left"] + (number - seen["first"]) * column + 0.5) for number in numbers]
        areas = self._areas([[left + 1, ABOVE, 1, BARS] for left in lefts])
        return {number: [role_of(pixel) for pixel in area][::-1] for number, area in zip(numbers, areas, strict=True)}

    def _areas(self, areas: list[list[int]]) -> list[list[tuple[int, ...]]]:
        read = self.page.evaluate(PIXELS, areas)
        return [[tuple(values[at : at + 4]) for at in range(0, len(values), 4)] for values in read]

    def tip(self) -> str | None:
        """What the tip says, ``None`` where there is none."""
        return self.page.evaluate(TIP)


@pytest.fixture
def picture(mount: Any) -> Picture:
    page = mount("phase_timeline", functions=["makePhaseTimeline"])
    page.evaluate("""() => {
      window.asked = [];
      document.body.append(Object.assign(document.createElement("div"), { id: "picture" }));
      window.timeline = makePhaseTimeline(document.querySelector("#picture"), { onStep: (step) => asked.push(step) });
    }""")
    return Picture(page)


def moment(log: EventLog, step: int, last: int | None = 240) -> dict[str, Any]:
    """State and timeline at the end of a step, and nothing of what came after it."""
    view = RunView.of(log, keep_steps=None)
    for record in takewhile(lambda record: record.step <= step, log.records):
        view.apply(record)
    return {"state": view.state(), "timeline": view.timeline(last)}


@pytest.fixture(scope="module")
def log() -> EventLog:
    """Hits, copies, misses, requests that are held, cancelled, too late, and that fail."""
    return scripted_log(seed=13, steps=150, load=0.4)


@pytest.fixture(scope="module")
def crowded() -> EventLog:
    """More requests than the picture has rows."""
    return scripted_log(seed=1, steps=60, num_slots=16, capacity_tokens=None, load=1.0, max_waiting=64)


# --- a plain pass over the events -------------------------------------------------------------------------------------


def times(log: EventLog) -> dict[int, dict[str, float]]:
    """Microseconds of each phase, by step."""
    spent: dict[int, dict[str, float]] = {}
    for record in log.records:
        if isinstance(record.event, e.PhaseEnded):
            spent.setdefault(record.step, {})[record.event.phase] = 1e6 * record.event.seconds
    return spent


def lives(log: EventLog, until: int) -> dict[int, dict[str, Any]]:
    """The steps at which something happened to each request."""
    told: dict[int, dict[str, Any]] = {}
    for record in takewhile(lambda record: record.step <= until, log.records):
        match record.event:
            case e.RequestArrived(request_id=request_id):
                told[request_id] = {"arrived": record.step}
            case e.RequestHeld(request_id=request_id):
                told[request_id]["held"] = record.step
            case e.RequestAdmitted(request_id=request_id, cached_len=cached):
                told[request_id] |= {"admitted": record.step, "cached": cached}
            case e.FirstTokenSampled(request_id=request_id):
                told[request_id]["first"] = record.step
            case e.RequestFinished(request_id=request_id, reason=reason):
                told[request_id] |= {"ended": record.step, "reason": reason}
    return told


@cache
def role_of(pixel: tuple[int, ...]) -> str | None:
    """The role in whose colour a pixel is, or whose hatch darkens it."""
    if pixel[3] < 255:
        return None
    for name in ("prefill", "decode", "hit", "free", "miss"):
        color = COLORS[name]
        share = sum(a * b for a, b in zip(pixel, color, strict=False)) / sum(a * a for a in color)
        if 0.6 < share < 1.02 and all(abs(a - share * b) < 9 for a, b in zip(pixel, color, strict=False)):
            return name
    return None


# --- bars -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("seed", "step"), [(2, 1), (2, 12), (2, 60), (7, 39), (7, 40), (7, 41), (4, 250)])
def test_each_phase_of_a_step_has_its_colour_and_the_height_of_its_time(picture, seed, step):
    log = scripted_log(seed=seed, steps=max(step, 20))
    seen, spent = picture.draw(moment(log, step)), times(log)
    assert seen["last"] == step and seen["first"] == max(1, step - 239)
    met = set()
    for number, upwards in picture.bars(seen).items():
        below = 0
        for phase, role in phase_roles().items():
            height = spent[number][phase] / 1000 / seen["top"] * BARS
            assert abs(upwards.count(role) - height) <= 1.01, (number, phase)
            if height > 3:
                assert upwards[round(below + height / 2)] == role, (number, phase)
                met.add(phase)
            below += height
        assert all(role is None for role in upwards[round(below) + 1 :])
    assert {"decode", "prefill"} <= met or step == 1


def test_all_four_phases_are_seen_in_a_step_that_is_long_in_each(picture):
    run = ScriptedRun(seed=2)
    for name in ("cleanup", "refill", "prefill", "decode"):
        slow_down(run, name, 0.002)
    for _ in range(10):
        run.step()
    seen = picture.draw(moment(run.log, 10))
    upwards = picture.bars(seen)[10]
    order = [role for at, role in enumerate(upwards) if role and role != upwards[at - 1 if at else -1]]
    assert order == list(phase_roles().values())


def slow_down(run: ScriptedRun, phase: str, seconds: float) -> None:
    """Let a phase take longer."""
    inner = run.scheduler.emit

    def emit(event: e.Event) -> None:
        inner(event)
        if event == e.PhaseStarted(phase):
            run.clock.now += seconds

    run.scheduler.emit = emit


def test_the_scale_is_a_round_number_just_above_the_highest_bar(picture, log):
    highest = max(sum(phases.values()) for step, phases in times(log).items() if step <= 100) / 1000
    top = picture.draw(moment(log, 100))["top"]
    assert top / 2 < highest <= top and f"{top:.0e}"[0] in "123468"


def test_a_step_that_towers_above_all_others_is_cut_and_told_in_full(picture):
    run = ScriptedRun(seed=2)
    for number in range(1, 61):
        if number == 30:
            slow_down(run, "decode", 0.4)
        if number == 31:
            slow_down(run, "decode", -0.4)
        run.step()
    seen, spent = picture.draw(moment(run.log, 60)), times(run.log)
    usual = sorted(sum(phases.values()) / 1000 for phases in spent.values())[-2]
    assert sum(spent[30].values()) / 1000 > 400 and usual < seen["top"] < 3 * usual
    x = round(seen["left"] + 29.5 * seen["width"] / seen["columns"])
    column = picture.bars(seen)[30][::-1]
    assert column[0] == "decode" and None in column[:14] and None not in column[14:], "a gap below the top"
    picture.page.mouse.move(x, ABOVE + 40)
    assert "step 30: 4" in picture.tip() and " ms" in picture.tip()


def test_live_the_scale_grows_at_once_and_shrinks_late(picture):
    run = ScriptedRun(seed=2)
    slow_down(run, "prefill", 0.01)
    for _ in range(10):
        run.step()
    high = picture.draw(moment(run.log, 10))["top"]
    for slower, expected in ((0.008, True), (0.0, False)):
        calm = ScriptedRun(seed=3)
        slow_down(calm, "prefill", slower)
        for _ in range(10):
            calm.step()
        alone = picture.draw(moment(calm.log, 10))["top"]
        assert alone < high
        picture.draw(moment(run.log, 10))
        after = picture.draw(moment(calm.log, 10), animate=True)["top"]
        assert (after == high) is expected, (alone, high)
    assert picture.draw(moment(run.log, 10), animate=True)["top"] == high


# --- requests ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("step", [3, 20, 39, 80, 150])
def test_each_request_is_drawn_from_its_arrival_to_its_end(picture, log, step):
    seen, told = picture.draw(moment(log, step)), lives(log, step)
    column = seen["width"] / seen["columns"]
    assert seen["heads"] == sorted(seen["heads"], key=lambda head: int(head["request"]))
    for index, head in enumerate(seen["heads"]):
        life = told[int(head["request"])]
        for name in ("arrived", "held", "admitted", "first", "ended", "reason"):
            assert head.get(name) == (str(life[name]) if name in life else None), (head, life)

        def left(number: int) -> int:
            return int(seen["left"] + (max(number, seen["first"]) - seen["first"]) * column + 0.5)

        y = GANTT + index * ROW + 4  # the first line of the bar, above all words
        line = [role_of(pixel) for pixel in picture.pixels(0, y, 900, 1)]
        stop = left(life.get("ended", step) + 1)
        start = left(life["admitted"]) if "admitted" in life else stop
        decode = left(life["first"] + 1) if "first" in life else stop
        end = stop - 2 if "ended" in life else stop  # the mark of the end is 2 pixels wide
        assert not any(line[:start]) and not any(line[stop:]), (head, life)
        assert set(line[start : min(decode, end)]) <= {"prefill"}
        assert set(line[decode:end]) <= {"decode", "hit", "miss"}
        middle = picture.pixels(0, y + 6, 900, 1)
        assert all(pixel[3] > 0 for pixel in middle[left(life["arrived"]) : stop])
        assert all(pixel[3] == 0 for pixel in middle[int(seen["left"]) : left(life["arrived"])])
        above = picture.pixels(max(0, stop - 2), y - 2, 2, 1)
        assert all((pixel[3] == 255) == ("ended" in life) for pixel in above)


def test_every_way_to_end_and_to_get_a_row_is_told_in_words(picture, log):
    told, words = lives(log, 150), {}
    for step in range(10, 151, 10):
        words |= {int(head["request"]): head["label"] for head in picture.draw(moment(log, step))["heads"]}
    assert {life.get("reason") for life in told.values()} >= {"stop", "length", "cancelled", "timeout", "error"}
    for request_id, life in told.items():
        if "ended" in life and request_id in words and f"ended in step {life['ended']}" in words[request_id]:
            assert words[request_id].endswith(f"ended in step {life['ended']}: {life['reason']}")
    everything = "\n".join(words.values())
    for way in ("zero-copy, kept in place", "copied from another slot", "a miss", "held", "waited", "never ran"):
        assert way in everything, way


def test_a_request_is_held_while_its_leader_is_in_prefill_and_then_waits_for_a_slot(picture):
    engine = astrai.InferenceEngine(*astrai.load("tiny"), num_slots=2, start=False)
    sampling = astrai.SamplingParams(max_tokens=4, ignore_eos=True)
    for prompt in ("Once upon a time", "Once upon a hill", "Once upon a boat"):
        engine.submit(astrai.GenerationRequest(prompt, sampling=sampling))
    for _ in range(4):
        engine.scheduler.step()
    engine.shutdown()
    view = moment(engine.trace, 4)
    seen = picture.draw(view)
    assert "waited 3 steps, held in step 1, in slot" in seen["heads"][2]["label"]
    assert "waited 3 steps, held in step 1, in slot" in phase_timeline_text(**view)
    dashes = [
        line.get("stroke-dasharray") for line in ET.fromstring(phase_timeline_svg(**view)).iterfind(".//line", NS)
    ]
    assert [dash for dash in dashes if dash] == ["1 4", "1 4", "2 2"], "dots, and slanted lines for the last one's slot"
    column = seen["width"] / seen["columns"]
    inked = []
    for step in (1, 2, 3):
        x, y = int(seen["left"] + (step - 1) * column) + 2, GANTT + 2 * ROW + 7
        inked.append(sum(red < 0xB0 for red, *_ in picture.pixels(x, y, 12, 6)))  # two tiles of the pattern
    assert inked[1] == inked[2] != inked[0], inked


def test_a_row_tells_how_much_of_its_prompt_was_found(picture, log):
    seen, told = picture.draw(moment(log, 80)), lives(log, 80)
    column, met = seen["width"] / seen["columns"], set()
    for index, head in enumerate(seen["heads"]):
        life = told[int(head["request"])]
        if "first" not in life or (life.get("ended", 80) - life["first"]) * column < 20:
            continue
        x = round(seen["left"] + (max(seen["first"], life["first"] + 1) - seen["first"]) * column)
        sign = role_of(picture.pixels(x + 1, GANTT + index * ROW + 5, 1, 1)[0])
        assert sign == ("hit" if life["cached"] else "miss")
        assert f"{life['cached']} of " in head["label"]
        met.add(sign)
    assert met == {"hit", "miss"}


def test_rows_that_do_not_fit_are_folded_and_unfold_by_key(picture, crowded):
    seen = picture.draw(moment(crowded, 60))
    told = {request_id: life for request_id, life in lives(crowded, 60).items()}
    alive = sorted(request_id for request_id, life in told.items() if "ended" not in life)
    assert len(told) > 60 and len(seen["heads"]) == ROWS
    shown = [int(head["request"]) for head in seen["heads"]]
    assert set(alive[:ROWS]) <= set(shown)
    fold = picture.page.locator("#picture .fold")
    assert fold.inner_text().startswith(f"… {len(told) - ROWS} more: ")
    fold.focus()
    picture.page.keyboard.press("Enter")
    seen = picture.look()
    assert [int(head["request"]) for head in seen["heads"]] == sorted(told)
    assert picture.page.evaluate("document.querySelector('#picture canvas').clientHeight") < 660
    picture.page.keyboard.press("Enter")
    assert len(picture.look()["heads"]) == ROWS


# --- playback ---------------------------------------------------------------------------------------------------------


def test_playback_shows_at_each_phase_what_was_shown_live_at_that_moment(picture):
    log = scripted_log(seed=3, steps=36, load=0.8)
    recorded = frames.recording(log, by="phase")
    live, records = RunView.of(log), log.records
    moments = zip(recorded["labels"], frames.frames(recorded), strict=True)
    for label, state in islice(moments, 0, None, 5):  # 5 and the 4 phases of a step meet every one of them
        for record in records[live.seq : label[2]]:
            live.apply(record)
        then = picture.draw({"state": live.state(), "timeline": live.timeline()})
        assert picture.draw({"state": state, "timeline": recorded["timeline"], "after": label[1]}) == then, label


@pytest.mark.parametrize("step", [0, 1, 30, 90])
def test_nothing_of_what_lies_after_the_cursor_changes_the_picture(picture, log, step):
    state, whole = moment(log, step)["state"], moment(log, 150, last=None)["timeline"]
    other = copy.deepcopy(whole)
    for row in other["steps"][step:]:
        row[:] = [90_000, 80_000, 70_000, 60_000, 99, 99, 9, 10**6]
    for request in other["requests"]:
        later = {name: step + 1 for name in ("held", "admitted", "first", "ended") if (request[name] or 151) > step}
        request.update(later)
        if "ended" in later:
            request.update(reason="timeout", out=999, t_ended=10**6)
        if "admitted" in later:
            request.update(slot=5, cached=1, origin="copy")
    other["requests"] = [request for request in other["requests"] if request["arrived"] <= step]
    before = picture.draw({"state": state, "timeline": whole})
    assert picture.draw({"state": state, "timeline": other}) == before
    assert before["last"] == step
    right = round(before["left"] + step * before["width"] / before["columns"]) + 1
    painted = [role_of(pixel) for pixel in picture.pixels(right, ABOVE + BARS - 4, 900 - right, 3)]
    assert not any(painted)


def test_a_long_recording_is_shown_up_to_the_cursor(picture):
    log = scripted_log(seed=4, steps=400)
    whole = moment(log, 400, last=None)["timeline"]
    seen = picture.draw({"state": moment(log, 300)["state"], "timeline": whole})
    assert (seen["first"], seen["last"], seen["columns"]) == (61, 300, 240)


def test_a_redraw_gives_the_same_picture(picture, log):
    first = picture.draw(moment(log, 80))
    assert picture.draw(moment(log, 80)) == first
    assert picture.draw(moment(log, 120)) != first
    assert picture.draw(moment(log, 80))["image"] == first["image"]
    assert picture.page.evaluate("document.getAnimations().length") == 0
    picture.page.evaluate("timeline.destroy()")
    assert picture.page.evaluate("document.querySelector('#picture').innerHTML") == ""


# --- keyboard, pointer, words -----------------------------------------------------------------------------------------


def test_steps_are_reached_by_key_and_told_in_full(picture, log):
    picture.draw(moment(log, 80))
    page, spent = picture.page, times(log)
    page.keyboard.press("Tab")  # the heads come first
    page.locator("#picture .steps").focus()
    rows = moment(log, 80)["timeline"]["steps"]
    for keys, step in ((["ArrowLeft"], 79), (["PageDown"], 69), (["Home"], 1), (["ArrowLeft"], 1), (["End"], 80)):
        for key in keys:
            page.keyboard.press(key)
        tip, row = picture.tip(), rows[step - 1]
        assert tip.startswith(f"step {step}: {sum(spent[step].values()) / 1000:.2f} ms")
        for phase, microseconds in spent[step].items():
            assert re.search(rf"{phase}\s+{microseconds / 1000:.2f} ms", tip), tip
        assert (f"{row[4]} prompt token" in tip) == (row[4] > 0)
        if row[5]:
            forwards = f"{row[6]} forward{'s' if row[6] > 1 else ''}"
            assert f"{row[5]} row{'s' if row[5] > 1 else ''} decoded in {forwards}" in tip
        slider = page.locator("#picture .steps")
        assert slider.get_attribute("aria-valuenow") == str(step)
        assert slider.get_attribute("aria-valuetext").startswith(f"step {step}: ")
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("Enter")
    assert page.evaluate("asked") == [79]
    page.keyboard.press("Escape")
    assert picture.tip() is None
    assert page.evaluate("document.activeElement === document.body")


def test_requests_are_reached_by_key_and_told_in_full(picture, log):
    seen = picture.draw(moment(log, 80))
    page, told = picture.page, lives(log, 80)
    page.keyboard.press("Tab")
    walked = [page.evaluate("document.activeElement.dataset.request")]
    while len(walked) < len(seen["heads"]):
        page.keyboard.press("ArrowDown")
        walked.append(page.evaluate("document.activeElement.dataset.request"))
        life, tip = told[int(walked[-1])], picture.tip()
        assert tip.startswith(f"request {walked[-1]}\narrived in step {life['arrived']}")
        assert (f"in step {life.get('admitted')}" in tip or f"from step {life.get('admitted')}" in tip) == (
            "admitted" in life
        )
        assert (f"first token in step {life.get('first')}, after " in tip) == ("first" in life)
    assert walked == [head["request"] for head in seen["heads"]]
    assert page.evaluate("document.querySelectorAll('#picture .head[tabindex=\"0\"]').length") == 1
    page.keyboard.press("Home")
    assert page.evaluate("document.activeElement.dataset.request") == walked[0]
    page.keyboard.press("Escape")
    assert picture.tip() is None


def test_focus_stays_where_it_is_while_the_run_goes_on(picture, log):
    picture.draw(moment(log, 80))
    picture.page.keyboard.press("Tab")
    request = picture.page.evaluate("document.activeElement.dataset.request")
    picture.draw(moment(log, 82), animate=True)
    assert picture.page.evaluate("document.activeElement.dataset.request") == request
    assert picture.tip().startswith(f"request {request}\n")
    picture.draw(moment(log, 150), animate=True)
    assert picture.page.evaluate("document.activeElement.classList.contains('head')"), (
        "its head is gone, another has it"
    )


def test_a_pointer_tells_of_steps_and_requests_and_a_click_asks_for_the_step(picture, log):
    seen = picture.draw(moment(log, 60))
    page, column = picture.page, seen["width"] / seen["columns"]
    x = seen["left"] + 9.5 * column
    page.mouse.move(x, ABOVE + 50)
    assert picture.tip().startswith("step 10: ")
    page.mouse.click(x, ABOVE + 50)
    assert page.evaluate("asked") == [10]
    page.mouse.move(40, GANTT + ROW // 2)
    assert picture.tip().startswith(f"request {seen['heads'][0]['request']}\n")
    page.mouse.move(seen["left"] + seen["width"] - 1, ABOVE + 50)
    assert picture.tip() is None, "nothing is known there yet"
    page.mouse.click(seen["left"] + seen["width"] - 1, ABOVE + 50)
    assert page.evaluate("asked") == [10]


def test_a_status_line_says_what_happened_and_changes_once_a_second_at_most(picture, log):
    page = picture.page
    page.evaluate("""() => {
      window.said = [];
      const status = document.querySelector("#picture [role=status]");
      const observer = new MutationObserver(() => said.push([performance.now(), status.textContent]));
      observer.observe(status, { childList: true });
    }""")
    for step in (80, 81, 82, 83):
        picture.draw(moment(log, step), animate=True)
    page.wait_for_function("document.querySelector('#picture [role=status]').textContent.startsWith('step 83: ')")
    said = page.evaluate("said")
    assert said[0][1].startswith("step 80: ")
    assert all(later[0] - sooner[0] > 900 for sooner, later in pairwise(said))
    counts = moment(log, 83)["state"]
    assert said[-1][1].endswith(f"{len(counts['running'])} running, {len(counts['waiting'])} waiting")


def test_of_a_step_that_is_under_way_no_time_is_told(picture, log):
    view = RunView.of(log, keep_steps=None)
    for record in takewhile(lambda record: record.step <= 20, log.records):
        view.apply(record)
        if record.step == 20 and isinstance(record.event, e.TokensDecoded):
            break
    moment = {"state": view.state(), "timeline": view.timeline()}
    picture.draw(moment)
    assert "\nstep 20, still in decode; " in phase_timeline_text(**moment)
    status = picture.page.locator("#picture [role=status]")
    assert status.inner_text().startswith("step 19: ")
    picture.page.locator("#picture .steps").focus()
    tip = picture.tip()
    assert (
        tip.startswith("step 20, still in decode\n") and "prefill\n" in tip and "decode\n" not in tip.split("\n", 1)[1]
    )


def test_the_end_of_a_request_is_said(picture, log):
    ends = [(r.step, r.event) for r in log.records if isinstance(r.event, e.RequestFinished)]
    step, event = ends[3]
    picture.draw(moment(log, step))
    status = picture.page.locator("#picture [role=status]").inner_text()
    assert f"request {event.request_id} ended: {event.reason}" in status


# --- looks ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("width", [400, 700, 1200])
def test_it_fits_narrow_and_wide_pages(picture, crowded, width):
    picture.draw(moment(crowded, 60))
    picture.page.set_viewport_size({"width": width, "height": 700})
    picture.page.wait_for_function(f"document.querySelector('#picture canvas').clientWidth === {width}")
    seen = picture.look()
    assert seen["width"] / seen["columns"] >= 3 and seen["last"] == 60
    assert picture.page.evaluate("document.documentElement.scrollWidth") == width
    small = picture.page.evaluate(
        """[...document.querySelectorAll('#picture *')].filter((e) => e.innerText && !e.matches('style, .bare')
           && parseFloat(getComputedStyle(e).fontSize) < 11).length"""
    )
    assert small == 0


def test_it_follows_the_theme_of_the_page(picture, log):
    light = picture.draw(moment(log, 80))
    picture.page.evaluate("document.documentElement.dataset.theme = 'dark'")
    picture.page.wait_for_function("document.querySelector('#picture').dataset.astraiTheme === 'dark'")
    dark = picture.look()
    assert dark["image"] != light["image"] and dark["heads"] == light["heads"]
    x = round(dark["left"] + 10)
    assert picture.pixels(x, ABOVE + BARS, 1, 1)[0][:3] == (0x8C, 0x8C, 0x8C), "the axis has the dark theme's colour"


def test_a_theme_that_changes_while_the_page_is_hidden_is_drawn_when_it_is_seen_again(picture, log):
    seen = picture.draw(moment(log, 80))
    picture.page.evaluate("""async () => {
      document.body.style.display = "none";
      document.documentElement.dataset.theme = "dark";
      await Promise.resolve(); // observers are told
      await Promise.resolve();
      document.body.style.display = "";
    }""")
    x = round(seen["left"] + 10)
    picture.page.wait_for_function(f"({PIXELS})([[{x}, {ABOVE + BARS}, 1, 1]])[0][0] === 0x8c")


def test_a_scripted_run_shows_tokens_and_no_times(picture, log):
    view = moment(log, 80)
    view["timeline"]["scripted"] = True
    seen, rows = picture.draw(view), view["timeline"]["steps"]
    for number, upwards in picture.bars(seen).items():
        row = rows[number - 1]
        for role, tokens in (("prefill", row[4]), ("decode", row[5])):
            assert abs(upwards.count(role) - tokens / seen["top"] * BARS) <= 1.01
    picture.page.locator("#picture .steps").focus()
    assert f"step 80: {rows[79][4] + rows[79][5]} token" in picture.tip()
    words = "".join(head["label"] for head in seen["heads"]) + picture.page.locator("#picture").inner_text()
    words += phase_timeline_text(view["state"], view["timeline"]) + phase_timeline_svg(view["state"], view["timeline"])
    assert not re.search(r"\d ms|milliseconds", words) and "no timings" in words


# --- the twins --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("step", [1, 20, 80, 150])
def test_the_text_names_the_same_facts_as_the_picture(picture, log, step):
    view = moment(log, step)
    seen, spent = picture.draw(view), times(log)
    lines = phase_timeline_text(**view).split("\n")
    assert lines[1].startswith(f"step {step}: {sum(spent[step].values()) / 1000:.2f} ms")
    for phase, microseconds in spent[step].items():
        assert f"{phase} {microseconds / 1000:.2f} ms" in lines[1]
    requests = {line.split(":")[0]: line.split(": ", 1)[1] for line in lines if line.startswith("request ")}
    assert {head["label"].split(", ")[0]: head["label"].split(", ", 1)[1] for head in seen["heads"]} == requests


def test_the_svg_names_the_same_requests_and_bars(log):
    view = moment(log, 80)
    drawing = phase_timeline_svg(**view)
    root, told = ET.fromstring(drawing), lives(log, 80)
    titles = [title.text for title in root.findall(".//g/title", NS)]
    lines = [line for line in phase_timeline_text(**view).split("\n") if line.startswith("request ")]
    assert titles == lines and len(titles) == len([life for life in told.values()][-ROWS:])
    assert root.get("role") == "img" and root.find("title", NS).text and root.find("desc", NS).text
    texts = [text.text for text in root.iter("{http://www.w3.org/2000/svg}text")]
    assert all(line.split(":")[0] in texts for line in lines)
    assert "80" in texts and "P" in texts and "decode" in texts
    spent = times(log)
    for phase, role in phase_roles().items():
        d = "".join(path.get("d") for path in root.findall(".//path", NS) if path.get("fill") == roles()[role].color)
        area = sum((float(x1) - float(x0)) * (float(y0) - float(y1)) for x0, y0, x1, y1 in boxes(d))
        heights = sum(spent[step][phase] for step in range(1, 81)) / 1000
        wide = 0.85 * (960 - 92 - 14) / 80
        assert area / wide == pytest.approx(heights * BARS / scale_of(texts), abs=4), phase


def boxes(d: str) -> list[tuple[str, ...]]:
    return re.findall(r"M([\d.]+) ([\d.]+)H([\d.]+)V([\d.]+)H[\d.]+Z", d)


def scale_of(texts: list[str]) -> float:
    return float(next(text for text in texts if text.endswith(" ms") and text[0].isdigit())[:-3])


@pytest.mark.parametrize("width", [400, 960])
def test_the_svg_is_the_same_each_time_and_stays_within_its_width(log, crowded, width):
    for view in (moment(log, 80), moment(crowded, 60), moment(log, 0)):
        drawing = phase_timeline_svg(**view, width=width)
        assert drawing == phase_timeline_svg(**copy.deepcopy(view), width=width)
        assert len(drawing) < 100_000
        root = ET.fromstring(drawing)
        assert int(root.get("width")) == width
        for rect in root.iter("{http://www.w3.org/2000/svg}rect"):
            assert float(rect.get("x")) + float(rect.get("width")) <= width
            assert float(rect.get("width")) > 0 and float(rect.get("height")) > 0


def test_the_twins_of_playback_do_not_know_the_future(log):
    whole = moment(log, 150, last=None)["timeline"]
    for step in (0, 1, *range(2, 150, 6)):
        then = moment(log, step, last=None)
        assert known(then["state"], whole) == known(**then)
        assert phase_timeline_text(then["state"], whole) == phase_timeline_text(**then)


def test_the_crowd_that_is_not_drawn_is_counted(crowded):
    view = moment(crowded, 60)
    count = len(lives(crowded, 60)) - ROWS
    assert phase_timeline_text(**view).endswith(f"and {count} more requests")
    assert f"… {count} more" in phase_timeline_svg(**view)


def test_the_bundled_models_run_is_drawn(picture):
    log = story_log().log
    seen = picture.draw(moment(log, log.records[-1].step))
    assert len(seen["heads"]) == 6 and all("ended" in head for head in seen["heads"])
