"""The slot map against states of real runs, and against a plain pass over their events."""

from __future__ import annotations

import copy
import json
import re
import xml.etree.ElementTree as ET
from collections import Counter
from functools import cache
from itertools import pairwise
from typing import Any, NamedTuple

import pytest

from astrai.trace.events import PrefixCopied, SlotAllocated
from astrai.trace.log import EventLog
from astrai.widgets.data.view import RunView
from astrai.widgets.palette import roles
from astrai.widgets.twins.slot_map import slot_map_svg, slot_map_text
from astrai.widgets.twins.svg import DARK, LIGHT, PALE
from tests.widgets.brute import Position, Positions
from tests.widgets.runs import busy_log, scripted_log, story_log, words

SVG = "{http://www.w3.org/2000/svg}"
DRAW = "(view) => window.map.draw(JSON.parse(view))"
# All that is drawn, but for the status line, which waits.
LOOK = """() => [document.querySelector("canvas.map").toDataURL(), document.querySelector(".rows").outerHTML,
  document.querySelector(".marks").outerHTML, document.querySelector(".flags").outerHTML,
  document.querySelector(".caption").outerHTML].join()"""
# Where a cell is, from what the page itself says of its rows: [left, top, width, height] in the board.
CELL = """([slot, position]) => {
  const board = document.querySelector(".board");
  const row = board.querySelector(`[data-slot="${slot}"].row`);
  const { columns, gutter, plot } = board.dataset;
  const width = plot / columns;
  return [row.offsetLeft + Number(gutter) + position * width, row.offsetTop, width, row.offsetHeight];
}"""
# The most common colour within a cell: neither its hatch nor words that lie on it.
COLORS = f"""(cells) => cells.map((cell) => {{
  const [left, top, width, height] = ({CELL})(cell);
  const [x, w] = [Math.ceil(left + width * 0.2), Math.max(1, Math.floor(width * 0.6))];
  const [y, h] = [Math.round(top + height * 0.3), Math.max(1, Math.floor(height * 0.4))];
  const data = document.querySelector("canvas.map").getContext("2d").getImageData(x, y, w, h).data;
  const counts = new Map();
  for (let at = 0; at < data.length; at += 4) {{
    const color = data.slice(at, at + 3).join();
    counts.set(color, (counts.get(color) ?? 0) + 1);
  }}
  return [...counts].sort((a, b) => b[1] - a[1])[0][0].split(",").map(Number);
}})"""


class Moment(NamedTuple):
    """The end of a step: what the view says, and what a plain pass over the events says of each position."""

    state: dict[str, Any]
    how: list[list[Position]]
    tokens: list[list[int]]


def moments(log: EventLog, decode: Any = words) -> tuple[list[Moment], dict[str, str]]:
    """All steps of a log, and the text of its tokens."""
    view, seen = RunView.of(log, decode), log.view()
    plain = Positions(seen.base)
    found, ids = [], set()
    for record, after in zip(seen.records, [*seen.records[1:], None], strict=True):
        view.apply(record)
        plain.apply(record)
        if after is None or after.step != record.step:
            state = view.state(all_ids=True)
            found.append(Moment(state, copy.deepcopy(plain.how), copy.deepcopy(plain.tokens)))
            ids.update(token_id for row in plain.tokens for token_id in row)
    return found, view.vocab(ids)


@cache
def scripted() -> tuple[list[Moment], dict[str, str]]:
    return moments(scripted_log(seed=3, steps=150))


@cache
def story() -> tuple[list[Moment], dict[str, str]]:
    told = story_log()
    return moments(told.log, told.decode)


@cache
def watched_late() -> tuple[list[Moment], dict[str, str]]:
    return moments(scripted_log(seed=3, steps=150, capacity=800))


@cache
def dense() -> tuple[list[Moment], dict[str, str]]:
    return moments(busy_log(64, 1024, 50))


@cache
def single() -> tuple[list[Moment], dict[str, str]]:
    return moments(scripted_log(seed=1, steps=60, num_slots=1))


@cache
def two_panels() -> tuple[list[Moment], dict[str, str]]:
    return moments(busy_log(256, 2048, 40))


def view_of(moment: Moment, vocab: dict[str, str], animate: bool = False, **changes: Any) -> str:
    return json.dumps({"state": {**moment.state, **changes}, "timeline": None, "vocab": vocab, "animate": animate})


def handed_out(kind: str) -> tuple[Moment, Moment, int, dict[str, str]]:
    """The moment before and after a row was handed out in this way, and the row."""
    found, vocab = scripted()
    for before, after in pairwise(found):
        for index, slot in enumerate(after.state["slots"]):
            origin = slot["origin"]
            if slot["owner"] is not None and origin["step"] == after.state["step"] and origin["kind"] == kind:
                return before, after, index, vocab
    raise AssertionError(f"no {kind} in this run")


@pytest.fixture
def board(mount: Any) -> Any:
    page = mount("slot_map", functions=["makeSlotMap"])
    page.evaluate("""() => {
      window.focused = [];
      window.map = makeSlotMap(document.body, { onFocus: (slot) => window.focused.push(slot) });
    }""")
    return page


# --- the cells --------------------------------------------------------------------------------------------------------


def expected_color(kind: str, is_free: bool, theme: dict[str, str]) -> list[float]:
    color, panel = (bytes.fromhex(value[1:]) for value in (roles()[kind].color, theme["panel"]))
    share = PALE if is_free else 1
    return [share * over + (1 - share) * under for over, under in zip(color, panel, strict=True)]


@pytest.mark.parametrize(
    ("run", "theme", "wanted"),
    [
        (scripted, "light", {"prefill", "decode", "reused", "copied"}),
        (scripted, "dark", {"prefill", "decode", "reused", "copied"}),
        (watched_late, "light", {"kept", "prefill", "decode"}),
        (dense, "light", {"prefill", "decode", "copied"}),
        (two_panels, "dark", {"prefill", "decode"}),
    ],
    ids=["6 slots", "6 slots, dark", "watched late", "64 slots", "256 slots"],
)
def test_each_cell_has_the_colour_of_how_it_came_there_and_is_pale_when_free(board, run, theme, wanted):
    found, vocab = run()
    board.evaluate("theme => document.documentElement.dataset.theme = theme", theme)
    board.wait_for_function("theme => document.querySelector('.slot-map').dataset.astraiTheme === theme", arg=theme)
    seen: Counter[tuple[str, bool]] = Counter()
    for moment in found[:: len(found) // 4]:
        board.evaluate(DRAW, view_of(moment, vocab))
        width = board.evaluate(CELL, [0, 0])[2]
        cells = [
            (slot, position)
            for slot, row in enumerate(moment.how)
            for position in range(2, len(row) - 2)
            # A cell under a pixel wide shows what is on both its sides.
            if len(set(row[max(0, position - round(3 / width)) : position + round(3 / width) + 1])) == 1 or width > 3
        ][::3]
        colors = board.evaluate(COLORS, cells)
        for (slot, position), color in zip(cells, colors, strict=True):
            kind, is_free = moment.how[slot][position][0], moment.state["slots"][slot]["owner"] is None
            expected = expected_color(kind, is_free, DARK if theme == "dark" else LIGHT)
            assert color == pytest.approx(expected, abs=3), f"{kind}, free: {is_free}, slot {slot}, {position}"
            seen[kind, is_free] += 1
    assert {kind for kind, is_free in seen if not is_free} >= wanted
    assert any(is_free for _, is_free in seen)


def test_positions_beyond_the_valid_length_are_blank(board):
    found, vocab = scripted()
    moment = found[60]
    board.evaluate(DRAW, view_of(moment, vocab))
    columns = int(board.evaluate("() => document.querySelector('.board').dataset.columns"))
    cells = [(slot, columns - 3) for slot, row in enumerate(moment.how) if len(row) < columns - 12]
    assert cells
    for color in board.evaluate(COLORS, cells):
        assert color == list(bytes.fromhex(LIGHT["panel"][1:]))


def test_the_columns_show_all_that_is_used_and_never_more_than_a_row_holds(board):
    for run in (scripted, story, dense):
        found, vocab = run()
        for moment in found[::45]:
            board.evaluate(DRAW, view_of(moment, vocab))
            columns = int(board.evaluate("() => document.querySelector('.board').dataset.columns"))
            longest = max(map(len, moment.how))
            assert longest <= columns <= min(max(16, 2 * longest), moment.state["row_len"])


# --- heads, flags, marks ----------------------------------------------------------------------------------------------


def who(state: dict[str, Any], slot: int) -> str:
    row = state["slots"][slot]
    owner = "blank" if not row["len"] else "free"
    owner = owner if row["owner"] is None else f"request {row['owner']}"
    return f"slot {slot} · v{row['version']} · {owner}"


def got(row: dict[str, Any]) -> str:
    origin = row["origin"]
    if row["owner"] is None:
        return f"remembers {row['len']} token{'s' if row['len'] > 1 else ''}" if row["len"] else ""
    if origin is None:
        return "there before the watching"
    how = {"zero-copy": f"zero-copy {origin['len']}", "copy": f"copied {origin['len']} from slot {origin['src']}"}
    return how.get(origin["kind"], "miss")


@pytest.mark.parametrize("run", [scripted, watched_late], ids=["from the start", "watched late"])
def test_a_rows_head_says_owner_version_and_how_it_got_the_row(board, run):
    found, vocab = run()
    heads = (
        "() => [...document.querySelectorAll('.row')].map((row) => [row.innerText, {...row.dataset}, row.ariaLabel])"
    )
    for moment in found[::20]:
        board.evaluate(DRAW, view_of(moment, vocab))
        for slot, (shown, data, label) in enumerate(board.evaluate(heads)):
            row = moment.state["slots"][slot]
            lines = shown.split("\n")
            assert lines[0] == who(moment.state, slot)
            assert " ".join(lines[1:]).endswith(got(row))
            owner = "" if row["owner"] is None else str(row["owner"])
            assert data == {
                "slot": str(slot),
                "version": str(row["version"]),
                "owner": owner,
                "len": str(len(moment.how[slot])),
            }
            assert label == ", ".join(filter(None, (who(moment.state, slot), got(row))))


def test_a_head_that_was_drawn_between_two_events_is_made_right(board):
    log = scripted_log(seed=3, steps=40)
    view = RunView.of(log, words)
    for record in log.records:
        view.apply(record)
        match record.event:
            case SlotAllocated(slot) | PrefixCopied(dst=slot):
                state = view.state()
                board.evaluate(DRAW, json.dumps({"state": state, "vocab": {}, "animate": False}))
                assert got(state["slots"][slot]) in board.locator(f".row[data-slot='{slot}']").inner_text()


def test_the_arrow_of_a_copy_leads_from_the_row_that_gave_to_the_row_that_got(board):
    _, after, slot, vocab = handed_out("copy")
    board.evaluate(DRAW, view_of(after, vocab))
    src = after.state["slots"][slot]["origin"]["src"]
    start, end, mark = board.evaluate(
        """(slot) => {
          const mark = document.querySelector(`.mark.copy[data-slot="${slot}"]`);
          const arrow = mark.querySelector(".arrow");
          return [arrow.getPointAtLength(0).y, arrow.getPointAtLength(arrow.getTotalLength()).y, {...mark.dataset}];
        }""",
        slot,
    )
    for row, y in ((src, start), (slot, end)):
        _, top, _, height = board.evaluate(CELL, [row, 0])
        assert y == pytest.approx(top + height / 2, abs=0.1)
    assert mark == {"slot": str(slot), "src": str(src), "len": str(after.state["slots"][slot]["origin"]["len"])}


def test_a_hit_in_place_has_a_ring_around_just_what_was_kept_and_a_miss_its_sign(board):
    _, after, slot, vocab = handed_out("zero-copy")
    board.evaluate(DRAW, view_of(after, vocab))
    ring = board.evaluate(
        "(slot) => { const {x, width} = document.querySelector(`.zero-copy[data-slot='${slot}'] .ring`).getBBox();"
        " return [x, x + width]; }",
        slot,
    )
    kept = after.state["slots"][slot]["origin"]["len"]
    assert ring[0] == pytest.approx(board.evaluate(CELL, [slot, 0])[0], abs=3)
    assert ring[1] == pytest.approx(board.evaluate(CELL, [slot, kept])[0], abs=1)
    _, after, slot, vocab = handed_out("miss")
    board.evaluate(DRAW, view_of(after, vocab))
    assert board.locator(f".mark.miss[data-slot='{slot}'] .empty").count() == 1


def test_a_mark_says_in_words_what_it_means_and_goes_after_some_steps(board):
    found, vocab = scripted()
    look = """() => [...document.querySelectorAll(".mark")].map((mark, at) => {
      const flag = document.querySelectorAll(".flag")[at];
      return [Number(mark.dataset.slot), mark.classList[1], flag.hidden ? null : flag.innerText]; })"""
    flagged = set()
    for moment in found[::3]:
        board.evaluate(DRAW, view_of(moment, vocab))
        marks = {slot: (kind, flag) for slot, kind, flag in board.evaluate(look)}
        rows = enumerate(moment.state["slots"])
        recent = [
            slot for slot, row in rows if row["owner"] is not None and moment.state["step"] - row["origin"]["step"] < 8
        ]
        assert sorted(marks) == recent
        for slot, (kind, flag) in marks.items():
            row = moment.state["slots"][slot]
            assert kind == row["origin"]["kind"] and flag in (None, got(row))
            flagged.add(flag and kind)
    assert flagged >= {"copy", "zero-copy", "miss"}


@pytest.mark.parametrize("kind", ["copy", "zero-copy", "miss"])
def test_something_new_is_shown_as_a_short_transition_that_ends_in_the_still_picture(board, kind):
    before, after, slot, vocab = handed_out(kind)
    board.evaluate(DRAW, view_of(before, vocab, animate=True))
    assert board.locator(".fresh").count() == 0, "what happened before the first draw is not new"
    board.evaluate(DRAW, view_of(after, vocab, animate=True))
    assert board.locator(f".fresh.{kind}[data-slot='{slot}']").count() == 1
    lengths = board.evaluate("() => document.getAnimations().map((one) => one.effect.getComputedTiming().endTime)")
    assert lengths and max(lengths) <= 600
    board.wait_for_function("() => !document.querySelector('.fresh') && !document.getAnimations().length")
    moved = board.evaluate(LOOK)
    board.evaluate(DRAW, view_of(after, vocab))
    assert board.evaluate(LOOK) == moved


def test_a_hand_out_between_two_draws_is_seen_even_if_many_steps_have_passed(board):
    before, after, slot, vocab = handed_out("copy")
    later = after.state["step"] + 50
    board.evaluate(DRAW, view_of(before, vocab, animate=True))
    board.evaluate(DRAW, view_of(after, vocab, animate=True, step=later))
    assert board.locator(f".mark.copy[data-slot='{slot}']").count() == 1
    board.wait_for_function("() => !document.querySelector('.mark')")


def test_with_reduced_motion_there_is_no_transition(board, page):
    page.emulate_media(reduced_motion="reduce")
    before, after, _, vocab = handed_out("copy")
    board.evaluate(DRAW, view_of(after, vocab))
    still = board.evaluate(LOOK)
    board.evaluate(DRAW, view_of(before, vocab))
    board.evaluate(DRAW, view_of(after, vocab, animate=True))
    assert board.evaluate("() => document.getAnimations().length") == 0
    assert board.evaluate(LOOK) == still


# --- hover and keyboard -----------------------------------------------------------------------------------------------

HOW = {
    "prefill": "prefilled: computed from the prompt for request {request} in step {step}",
    "decode": "decoded for request {request} in step {step}",
    "reused": "reused in place (zero-copy) for request {request} in step {step}",
    "copied": "copied from slot {src} for request {request} in step {step}",
    "kept": "there before the watching began",
}


def told(moment: Moment, vocab: dict[str, str], slot: int, position: int) -> list[str]:
    """What a tip must say, from the plain pass over the events."""
    kind, request, step = moment.how[slot][position]
    row = moment.state["slots"][slot]
    src = row["origin"]["src"] if row["origin"] else None
    return [
        f"“{vocab[str(moment.tokens[slot][position])]}”".replace("\n", "⏎"),
        ": ".join(filter(None, (who(moment.state, slot), got(row)))),
        f"position {position}: {HOW[kind].format(request=request, step=step, src=src)}",
        f"{len(moment.how[slot])} of {moment.state['row_len']:,} positions are valid",
        "locked: may not be forgotten now" if row["locked"] else "not locked: may be forgotten",
    ]


TIP = """() => { const tip = document.querySelector(".tip");
  return tip.hidden ? null : [...tip.children].map((line) => line.textContent); }"""


@pytest.mark.parametrize("run", [scripted, watched_late, story], ids=["scripted", "watched late", "the bundled model"])
def test_pointing_at_a_cell_tells_its_token_and_how_when_and_for_whom_it_came(board, run):
    found, vocab = run()
    asked: set[str] = set()
    for moment in found[:: len(found) // 3]:
        board.evaluate(DRAW, view_of(moment, vocab))
        origin_left, origin_top = board.evaluate(
            "() => { const box = document.querySelector('.board').getBoundingClientRect(); return [box.x, box.y]; }"
        )
        for slot, row in enumerate(moment.how):
            for position in {0, len(row) // 2, len(row) - 1} if row else ():
                left, top, width, height = board.evaluate(CELL, [slot, position])
                board.mouse.move(origin_left + left + width / 2, origin_top + top + height / 2)
                assert board.evaluate(TIP) == told(moment, vocab, slot, position)
                asked.add(row[position][0])
    assert asked >= {"prefill", "decode"}


def test_the_tip_of_a_blank_position_says_so(board):
    found, vocab = story()
    board.evaluate(DRAW, view_of(found[0], vocab))
    blank = next(slot for slot, row in enumerate(found[0].how) if not row)
    board.locator(f".row[data-slot='{blank}']").hover()
    name, where, valid = board.evaluate(TIP)
    assert name == f"slot {blank} · v0 · blank"
    assert re.fullmatch(r"position \d+: empty", where)
    assert valid == "0 of 1,024 positions are valid"


def test_the_keyboard_reaches_every_row_and_position_and_leaves_with_escape(board):
    found, vocab = story()
    moment = found[20]
    board.evaluate(DRAW, view_of(moment, vocab))
    board.keyboard.press("Tab")
    last = len(moment.how[0]) - 1
    assert board.evaluate(TIP) == told(moment, vocab, 0, last)
    prompt = sum(kind != "decode" for kind, _, _ in moment.how[0])
    for key, position in (("ArrowLeft", last - 1), ("PageUp", prompt), ("PageUp", 0), ("ArrowLeft", 0),
                          ("ArrowRight", 1), ("PageDown", prompt), ("End", last), ("Home", 0)):  # fmt: skip
        board.keyboard.press(key)
        assert board.evaluate(TIP) == told(moment, vocab, 0, position), key
        now = board.evaluate("() => [document.activeElement.ariaValueNow, document.activeElement.ariaValueText]")
        token, _, *rest = told(moment, vocab, 0, position)
        assert now == [str(position), ", ".join([token, *rest])]
    board.keyboard.press("ArrowDown")
    assert board.evaluate("() => document.activeElement.dataset.slot") == "1"
    assert board.locator(".row[tabindex='0']").count() == 1
    assert board.evaluate(TIP) == told(moment, vocab, 1, len(moment.how[1]) - 1)
    board.keyboard.press("Escape")
    assert board.evaluate(TIP) is None
    assert board.evaluate("() => window.focused") == [0, 1, None]


def test_tokens_that_are_not_there_yet_are_asked_for_and_shown_when_they_come(board):
    found, vocab = story()
    moment = found[20]
    bare = [{name: value for name, value in slot.items() if name != "ids"} for slot in moment.state["slots"]]
    board.evaluate(DRAW, view_of(moment, {}, slots=bare))
    board.locator(".row[data-slot='1']").focus()
    assert board.evaluate(TIP)[0] == "…"
    assert board.evaluate("() => window.focused") == [1]
    board.evaluate(DRAW, view_of(moment, vocab))
    assert board.evaluate(TIP) == told(moment, vocab, 1, len(moment.how[1]) - 1)


def test_a_tip_follows_the_run_and_is_never_in_the_way_of_its_row(board):
    found, vocab = story()
    for slot in range(4):
        board.evaluate(DRAW, view_of(found[20], vocab))
        board.locator(f".row[data-slot='{slot}']").focus()
        for moment in found[20:24]:
            board.evaluate(DRAW, view_of(moment, vocab))
            assert f"{len(moment.how[slot])} of" in " ".join(board.evaluate(TIP))
            clear = """(slot) => { const tip = document.querySelector(".tip").getBoundingClientRect();
              const row = document.querySelector(`.row[data-slot="${slot}"]`).getBoundingClientRect();
              return tip.top >= row.bottom || tip.bottom <= row.top; }"""
            assert board.evaluate(clear, slot)


# --- the whole --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("run", [scripted, dense], ids=["6 slots", "64 slots"])
def test_the_picture_depends_on_the_state_alone(board, run):
    found, vocab = run()
    board.evaluate(DRAW, view_of(found[30], vocab))
    first = board.evaluate(LOOK)
    board.evaluate(DRAW, view_of(found[30], vocab))
    assert board.evaluate(LOOK) == first
    for other in (found[-1], found[2], found[30]):
        board.evaluate(DRAW, view_of(other, vocab))
    assert board.evaluate(LOOK) == first


# The same, but for what the page holds and does not show.
SHOWN = """() => [document.querySelector("canvas.map").toDataURL(), document.querySelector(".marks").innerHTML,
  [...document.querySelectorAll(".row")].map((row) => [{...row.dataset}, row.ariaLabel, row.className, row.innerText]),
  [...document.querySelectorAll(".badge:not([hidden])")].map((badge) => [badge.innerText, badge.style.background]),
  [...document.querySelectorAll(".flag:not([hidden])")].map((flag) => [flag.innerText, flag.getBoundingClientRect()]),
  document.querySelector(".caption").innerText]"""
CHANGES = {
    "version": lambda row: {"version": row["version"] + 1},
    "owner": lambda row: {"owner": 99},
    "freed": lambda row: {"owner": None},
    "grown": lambda row: {"len": row["len"] + 1, "runs": [*row["runs"], ["decode", row["len"] + 1, row["owner"], 9]]},
    "cut": lambda row: {"len": 1, "runs": [["prefill", 1, row["owner"], 9]]},
    "blank": lambda row: {"owner": None, "len": 0, "runs": []},
    "kind of a run": lambda row: {"runs": [["kept", row["len"], None, 0]]},
    "another kind of hand-out": lambda row: {"origin": {**row["origin"], "kind": "miss", "len": 0, "src": None}},
    "more kept": lambda row: {"origin": {**row["origin"], "len": row["origin"]["len"] + 1}},
    "no hand-out": lambda row: {"origin": None},
}


@pytest.mark.parametrize("kind", ["copy", "zero-copy", "free"])
def test_a_row_that_changed_in_any_way_is_drawn_as_if_it_had_been_so_from_the_start(board, kind):
    _, moment, slot, vocab = handed_out("copy" if kind == "free" else kind)
    before = list(moment.state["slots"])
    if kind == "free":
        before[slot] = {**before[slot], "owner": None}
    anew = "() => { map.destroy(); window.map = makeSlotMap(document.body); }"
    for name in ("version", "owner", "grown", "cut", "blank") if kind == "free" else CHANGES:
        after = list(before)
        after[slot] = {**before[slot], **CHANGES[name](before[slot])}
        board.evaluate(anew)
        board.evaluate(DRAW, view_of(moment, vocab, slots=after))
        alone = board.evaluate(SHOWN)
        board.evaluate(anew)
        board.evaluate(DRAW, view_of(moment, vocab, slots=before))
        assert board.evaluate(SHOWN) != alone, name
        board.evaluate(DRAW, view_of(moment, vocab, slots=after))
        assert board.evaluate(SHOWN) == alone, name


def test_a_mark_is_not_made_anew_while_its_row_grows_but_its_flag_moves_along(board):
    _, moment, slot, vocab = handed_out("zero-copy")
    row = moment.state["slots"][slot]
    slots = list(moment.state["slots"])
    slots[slot] = {**row, **CHANGES["grown"](row)}
    look = """(slot) => { const mark = document.querySelector(`.mark[data-slot="${slot}"]`);
      const flag = document.querySelectorAll(".flag")[[...mark.parentElement.children].indexOf(mark)];
      const stays = window.first === mark.firstChild;
      window.first = mark.firstChild;
      return [stays, flag.getBoundingClientRect().left]; }"""
    board.evaluate(DRAW, view_of(moment, vocab))
    _, left = board.evaluate(look, slot)
    board.evaluate(DRAW, view_of(moment, vocab, slots=slots))
    stays, moved = board.evaluate(look, slot)
    assert stays
    assert moved - left == pytest.approx(board.evaluate(CELL, [slot, 0])[2], abs=1)


@pytest.mark.parametrize("width", [400, 700, 1200])
@pytest.mark.parametrize("run", [single, story, scripted, dense, two_panels], ids=["1", "4", "6", "64", "256"])
def test_it_fits_narrow_and_wide_pages(board, page, run, width):
    found, vocab = run()
    board.evaluate(DRAW, view_of(found[-1], vocab))
    page.set_viewport_size({"width": width, "height": 700})
    board.wait_for_function("width => document.querySelector('canvas.map').offsetWidth === width - 12", arg=width)
    wide, high = board.evaluate(
        "() => [document.documentElement.scrollWidth, document.querySelector('.board').offsetHeight]"
    )
    assert wide <= width and high <= 540
    overflowing = "() => [...document.querySelectorAll('.who')].filter((e) => e.scrollWidth > e.clientWidth).length"
    assert board.evaluate(overflowing) == 0


def test_a_status_line_says_what_happened_and_changes_once_a_second_at_most(board):
    found, vocab = scripted()
    said = "() => document.querySelector('[role=status]').textContent"
    board.evaluate(
        """() => { window.changes = [];
          const note = () => window.changes.push(performance.now());
          new MutationObserver(note).observe(document.querySelector("[role=status]"), {childList: true}); }"""
    )
    for moment in found[40:60]:
        board.evaluate(DRAW, view_of(moment, vocab))
    last = slot_map_text(found[59].state).splitlines()[-1]
    board.wait_for_function(f"(last) => ({said})() === last", arg=last)
    times = board.evaluate("() => window.changes")
    assert 2 <= len(times) <= 3 and all(b - a > 950 for a, b in pairwise(times))


def test_destroying_it_leaves_nothing(board):
    found, vocab = scripted()
    board.evaluate(DRAW, view_of(found[30], vocab))
    board.evaluate("() => window.map.destroy()")
    assert board.evaluate("() => document.body.childElementCount") == 0


# --- the twins --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("run", [scripted, watched_late, story], ids=["scripted", "watched late", "the bundled model"])
def test_the_text_names_every_rows_owner_version_origin_and_parts(run):
    for moment in run()[0][::5]:
        first, *rows, _ = slot_map_text(moment.state).splitlines()
        used = sum(slot["owner"] is not None for slot in moment.state["slots"])
        assert f"{len(moment.how)} slots, {used} in use" in first
        for slot, line in enumerate(rows):
            row = moment.state["slots"][slot]
            assert line.startswith(who(moment.state, slot)) and got(row) in line
            assert line.endswith("; locked") == row["locked"]
            counts = Counter(kind for kind, _, _ in moment.how[slot])
            parts = {name: int(n) for n, name in re.findall(r"(\d+) ([a-z ]+)", line.partition(" valid: ")[2])}
            assert parts == {roles()[kind].label: n for kind, n in counts.items()}


def test_the_svg_names_the_same_facts_as_the_state():
    for run, width in ((scripted, 960), (scripted, 400), (watched_late, 700), (story, 960)):
        found, vocab = run()
        for moment in found[::11]:
            root = ET.fromstring(slot_map_svg(moment.state, width=width, vocab=vocab))
            rows = root.findall(f".//{SVG}g[@data-len]")
            for slot, (row, drawn) in enumerate(zip(moment.state["slots"], rows, strict=True)):
                assert drawn.get("data-slot") == str(slot) and drawn.get("data-len") == str(row["len"])
                assert drawn.get("data-version") == str(row["version"])
                assert drawn.get("data-owner") == (None if row["owner"] is None else str(row["owner"]))
                head, *parts = [title.text for title in drawn.iter(f"{SVG}title")]
                assert head in slot_map_text(moment.state).splitlines()
                assert len(parts) == len(re.findall(r"\d [a-z ]+", head.partition(" valid: ")[2]))
                text = "".join(vocab[str(token_id)] for token_id in moment.tokens[slot])[:40].replace("\n", "⏎")
                assert text in "".join(part.partition("“")[2].removesuffix("”") for part in parts)
            marks = {g.get("data-slot"): g.get("data-src") for g in root.findall(f".//{SVG}g[@data-mark]")}
            step = moment.state["step"]
            assert marks == {
                str(slot): None if row["origin"]["src"] is None else str(row["origin"]["src"])
                for slot, row in enumerate(moment.state["slots"])
                if row["owner"] is not None and row["origin"] and step - row["origin"]["step"] < 8
            }


def test_the_parts_of_the_svg_are_as_wide_as_the_parts_of_the_rows():
    moment = scripted()[0][60]
    root = ET.fromstring(slot_map_svg(moment.state))
    colors = {roles()[kind].color: kind for kind in ("prefill", "decode", "reused", "copied")}
    for slot, row in enumerate(root.findall(f".//{SVG}g[@data-len]")):
        boxes = [box for box in row.findall(f".//{SVG}g/{SVG}rect") if box.get("fill") in colors]
        counts = Counter(kind for kind, _, _ in moment.how[slot])
        scale = sum(float(box.get("width")) for box in boxes) / max(1, len(moment.how[slot]))
        for box in boxes:
            assert float(box.get("width")) == pytest.approx(scale * counts[colors[box.get("fill")]], abs=0.05)


def test_the_same_state_gives_the_same_bytes_and_the_page_says_the_same_as_the_svg(board):
    found, vocab = scripted()
    for moment in found[::60]:
        again = json.loads(json.dumps(moment.state))
        assert slot_map_svg(moment.state, vocab=vocab) == slot_map_svg(again, vocab=vocab)
        board.evaluate(DRAW, view_of(moment, vocab))
        caption = board.evaluate("() => document.querySelector('.caption').textContent")
        assert caption in slot_map_svg(moment.state) and caption in slot_map_text(moment.state)
        status = slot_map_text(moment.state).splitlines()[-1]
        board.wait_for_function("s => document.querySelector('[role=status]').textContent === s", arg=status)


def test_many_slots_fit_in_an_svg_of_the_height_of_few():
    for run in (dense, two_panels):
        root = ET.fromstring(slot_map_svg(run()[0][-1].state))
        assert float(root.get("height")) <= 660
        assert len(root.findall(f".//{SVG}g[@data-len]")) == len(run()[0][-1].how)


def test_a_width_that_is_too_small_is_refused_by_number():
    with pytest.raises(ValueError, match="width is 200 pixels, but the slot map needs at least 320"):
        slot_map_svg(scripted()[0][0].state, width=200)
