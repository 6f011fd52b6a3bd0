"""The bits of LowestSetBit: where they stand, what they spell, and which changes of a run they tell of."""

from __future__ import annotations

import inspect
from pathlib import Path

import pytest

pytest.importorskip("manim", reason="manim is not installed: pip install 'astrai[video]'")

import astrai
from animations.lowest_set_bit import CODE
from animations.mask_scene import BOARD_Y_OF_MANY
from animations.mobjects.bit_board import BitBoard
from animations.mobjects.bit_grid import BitGrid
from animations.mobjects.bit_row import BitRow
from animations.slot_changes import lowest_bit, most_telling, slot_changes
from animations.style import INK, LINE
from astrai.inference.cache.prefix_cache import PrefixCacheManager
from astrai.inference.cache.slots import SlotAllocator
from astrai.trace.events import RequestAdmitted, SlotAllocated, SlotFreed, SlotReused
from astrai.trace.log import EventLog
from astrai.trace.replay import Replayer
from astrai.widgets.data.view import RunView
from astrai.widgets.palette import roles
from tests.films.test_truth_and_layout import Seen
from tests.widgets.runs import scripted_log


def changes_of(log: EventLog):
    view = log.view()
    slots = RunView.of(log, None, view, keep_steps=None).state()["slots"]
    return slot_changes(slots, view.records), view


# --- the changes of a run ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("settings", [{}, {"capacity": 300}, {"enabled": False}, {"num_slots": 2}])
def test_each_change_knows_the_masks_that_a_replay_has_just_before_it(settings):
    changes, view = changes_of(scripted_log(3, 60, **settings))
    replayer, told = Replayer.from_snapshot(view.base, view.first_seq), iter(changes)
    kinds = set()
    for record in view.records:
        now = replayer.snapshot()
        replayer.apply(record.event)
        if not isinstance(record.event, SlotAllocated | SlotReused | SlotFreed):
            continue
        change = next(told)
        free = [slot for slot in now.slots if slot.request_id is None]
        blank = [slot.slot for slot in free if slot.node_id == 0]
        assert change.free == sum(1 << slot.slot for slot in free)
        assert change.blank == sum(1 << slot for slot in blank)
        assert (change.slot, change.step) == (record.event.slot, record.step)
        if isinstance(record.event, SlotAllocated):
            assert change.kind == ("lowest" if blank and blank[0] == change.slot else "other")
        else:
            assert change.kind == ("reused" if isinstance(record.event, SlotReused) else "freed")
            assert change.kept == record.event.kept_len
        kinds.add(change.kind)
    assert next(told, None) is None
    assert kinds >= {"freed", "lowest" if settings.get("enabled") is False else "other"}
    assert kinds == {"lowest", "other", "reused", "freed"} or settings


def test_a_slot_that_is_freed_has_the_request_that_owned_it():
    log = scripted_log(1, 80)
    owners = {}
    for record in log.records:
        if isinstance(record.event, RequestAdmitted):
            owners[record.event.slot, record.event.version] = record.event.request_id
    freed = [record.event for record in log.records if isinstance(record.event, SlotFreed)]
    told = [change.request_id for change in changes_of(log)[0] if change.kind == "freed"]
    assert told == [owners[event.slot, event.version] for event in freed] and told


def test_the_part_that_is_shown_is_the_earliest_with_the_most_kinds():
    changes, _ = changes_of(scripted_log(3, 120))
    part = most_telling(changes, 9)
    counts = [len({c.kind for c in changes[i : i + 9]}) for i in range(len(changes) - 8)]
    assert len(part) == 9 and part.start == counts.index(max(counts))
    assert most_telling(changes[:4], 9) == range(4) and most_telling([], 9) == range(0)


def test_the_code_that_is_shown_is_that_of_the_allocator():
    source = inspect.getsource(SlotAllocator.allocate)
    lowest, slot, mask = CODE
    assert (
        lowest.replace("m", "candidates") == "lowest = candidates & -candidates"
        and "candidates & -candidates" in source
    )
    assert slot.removeprefix("slot = ") in source and f"self.{mask}" in source


# --- the bits ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [2, 3, 8, 15, 16, 17, 32, 61, 64])
def test_the_bits_of_a_grid_stand_side_by_side_in_the_order_of_a_number(count):
    grid = BitGrid(count)
    assert [bit for line in grid.lines for bit in line[::-1]] == list(range(count))[::-1]
    for line in grid.lines:
        places = [grid.x(bit) for bit in line]
        assert places == sorted(places, reverse=True)
        assert min(places) > -4.5 and max(places) < 6.7
        assert all(grid.line(bit) == line for bit in line)


@pytest.mark.parametrize("count", [2, 8, 16, 64])
def test_a_board_spells_its_mask_after_any_change(count):
    mask = 0x9D3A_51F2_77C4_0E6B & (1 << count) - 1
    board = BitBoard(count, mask, BOARD_Y_OF_MANY)
    assert board.mask == mask and len(board.cells) == count
    for bit in (0, count - 1, count // 2):
        mask ^= 1 << bit
        assert board.change(bit, bool(mask >> bit & 1))
        assert board.mask == mask
        assert len([mobject for mobject in board.get_family() if mobject is board.digits[bit]]) == 1
    assert len(board.submobjects) == count * 2 + (len(board.grid.lines) if count > 16 else count + 1)


def test_the_colour_of_a_bit_says_what_its_digit_says():
    board = BitBoard(4, 0b0101, 0)
    board.put(1, True)
    board.put(0, False)
    for bit, cell in board.cells.items():
        role = "free" if board.digits[bit].text == "1" else "owned"
        assert cell.get_fill_color().to_hex().lower() == roles()[role].color.lower()


@pytest.mark.parametrize("m", [0b1, 0b1100, 0b1011_0000, 1 << 15, 0xFFFF, 0x8000_0010 << 16])
def test_the_rows_spell_twos_complement_and_leave_the_lowest_bit(m):
    grid, slot = BitGrid(48), lowest_bit(m)
    line = grid.line(slot)
    within = sum(1 << bit for bit in line)
    rows = [BitRow("", value, grid, line, 0) for value in (m, ~m, -m, m & -m)]
    spelled = [row.value for row in rows]
    assert spelled == [value & within for value in (m, ~m, -m, m & -m)]
    assert spelled[3] == spelled[0] & spelled[2] == 1 << slot
    shades = {shape.text: shape.get_fill_color().to_hex().lower() for shape in rows[0].digits.values()}
    assert {"1": INK.lower(), "0": LINE.lower()}.items() >= shades.items()


# --- the film of other runs -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "settings",
    [
        {"num_slots": 2},
        {"num_slots": 64, "load": 1.0, "max_waiting": 99},
        {"num_slots": 6, "capacity": 600},
    ],
)
def test_the_film_of_any_run_is_true_and_can_be_read(settings, tmp_path: Path):
    seen = Seen("LowestSetBit", tmp_path, scripted_log(7, 90, **settings))
    assert not seen.faults and seen.steps
    assert 45 <= seen.film.beats[-1].end <= 90


def test_a_film_says_when_a_run_did_not_take_the_lowest_slot(tmp_path: Path):
    class FromTheTop(PrefixCacheManager):
        def _least_valuable_slot(self):
            return self.slots.free_mask.bit_length() - 1

    model, tokenizer = astrai.load("tiny", device="cpu")
    engine = astrai.InferenceEngine(model, tokenizer, num_slots=5, start=False, prefix_cache=FromTheTop)
    for prompt in ("A fox", "The bear", "One day"):
        engine.submit(astrai.GenerationRequest(prompt, sampling=astrai.SamplingParams(max_tokens=3)))
    while engine.scheduler.has_work:
        engine.scheduler.step()
    seen = Seen("LowestSetBit", tmp_path, engine.trace)
    assert not seen.faults
    assert any("although it is not the lowest blank one" in beat.caption for beat in seen.film.beats)


def test_a_run_in_which_no_slot_changes_hands_is_a_film_too(tmp_path: Path):
    from astrai.trace.events import PhaseEnded, PhaseStarted, StepStarted

    log = EventLog(3)
    for event in (StepStarted(1), PhaseStarted("cleanup"), PhaseEnded("cleanup", 0.1)):
        log.emit(event)
    seen = Seen("LowestSetBit", tmp_path, log)
    assert not seen.faults and "a run without a change" in seen.film.beats[-1].caption
