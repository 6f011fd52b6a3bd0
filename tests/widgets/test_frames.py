"""Recordings for the page: every frame is the state that replay has there, and a delta says just what changed."""

from __future__ import annotations

import json
from copy import deepcopy
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from astrai.trace import events as e
from astrai.trace.log import EventLog
from astrai.trace.replay import replay, replay_steps
from astrai.widgets.data.deltas import diff, patch
from astrai.widgets.data.frames import frames, recording
from astrai.widgets.data.view import RunView, follow
from tests.widgets.brute import check_against_snapshot, lives_of
from tests.widgets.runs import ScriptedRun, scripted_log, story_log, words

# --- deltas -----------------------------------------------------------------------------------------------------------

SCALARS = st.none() | st.integers(-3, 3) | st.integers() | st.floats(allow_nan=False) | st.text("ab🦊 é", max_size=6)
JSON = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.sampled_from(["a", "b", "7", "8"]), inner),
    max_leaves=20,
)


@settings(max_examples=60, deadline=None)
@given(before=JSON, after=JSON)
def test_a_delta_turns_one_value_into_the_other_and_changes_neither(before: Any, after: Any) -> None:
    kept = deepcopy((before, after))
    delta = json.loads(json.dumps(diff(before, after)))
    assert patch(before, delta) == after and (before, after) == kept
    assert (delta == {}) == (type(before) is type(after) and before == after)


@pytest.mark.parametrize(
    ("before", "after", "delta"),
    [
        (3, 5, 2),
        (3, None, [None]),
        (None, 3, [3]),
        (False, True, [True]),
        (1.5, 2.5, [2.5]),
        (2**60, 2**60 + 1, [2**60 + 1]),
        ("a fox ran", "ox ran off", [3, " off"]),
        ("fox", "hen", ["hen"]),
        ([1, 2, 3], [1, 2, 3, 4], [0, [4]]),
        ([1, 2, 3], [2, 3, 4], [1, [4]]),
        ([1, 2, 3], [1, 3], [1, 1, []]),
        ([1, 2, 3], [1, 9, 8, 3], [1, 1, [9, 8]]),
        ([1, 2, 3], [1, 2, 5], {"2": 2}),
        ([1, 2, 3, 4], [1, 0, 0, 0], [1, 3, [0, 0, 0]]),
        ([], [1], [0, 0, [1]]),
        ([1], [], [0, 1, []]),
        ({"a": 1, "b": 2}, {"a": 1, "c": []}, {"b": [], "c": [[]]}),
        ({"a": {"b": [1]}}, {"a": {"b": [1, 2]}}, {"a": {"b": [0, [2]]}}),
        ([{"len": 1}, {"len": 7}], [{"len": 1}, {"len": 8}], {"1": {"len": 1}}),
        ({"a": 1}, {"a": 1}, {}),
    ],
)
def test_a_delta_is_the_smallest_of_its_forms(before: Any, after: Any, delta: Any) -> None:
    assert diff(before, after) == delta and type(diff(before, after)) is type(delta)
    assert patch(before, delta) == after


def test_patching_shares_what_is_the_same() -> None:
    before = {"a": [1], "b": {"c": 1}}
    after = patch(before, {"b": {"c": 1}})
    assert after["a"] is before["a"] and before["b"] == {"c": 1}


# --- frames -----------------------------------------------------------------------------------------------------------


def test_there_is_one_frame_for_the_beginning_and_one_for_each_step() -> None:
    log = scripted_log(seed=1, steps=60)
    recorded = recording(log, decode=words, keyframe_every=16)
    assert (recorded["schema"], recorded["by"], recorded["count"]) == (1, "step", 61)
    assert len(recorded["labels"]) == len(recorded["deltas"]) == 61
    assert [step for step, _, _ in recorded["labels"]] == list(range(61))
    assert all(phase is None for _, phase, _ in recorded["labels"])
    assert [index for index, delta in enumerate(recorded["deltas"]) if delta is None] == [0, 16, 32, 48]
    assert len(recorded["keyframes"]) == 4


@pytest.mark.parametrize("by", ["step", "phase"])
@pytest.mark.parametrize("capacity", [1 << 20, 500])
def test_every_frame_is_the_replay_at_its_seq(by: Any, capacity: int) -> None:
    log = scripted_log(seed=2, steps=50, capacity=capacity)
    recorded = json.loads(json.dumps(recording(log, by, decode=words, keyframe_every=7)))
    view = RunView.of(log, words)
    records = iter(log.records)
    for (step, _, seq), state in zip(recorded["labels"], frames(recorded), strict=True):
        while view.seq < seq:
            view.apply(next(records))
        assert state == view.state(all_ids=True)
        assert (state["step"], state["seq"]) == (step, seq)
        check_against_snapshot(state, replay(log, seq))
    assert seq == log.next_seq


def test_a_frame_of_a_step_is_that_steps_end() -> None:
    log = scripted_log(seed=3, steps=30)
    recorded = recording(log)
    ends = dict(replay_steps(log))
    for state in list(frames(recorded))[1:]:
        check_against_snapshot(state, ends[state["step"]])


def test_by_phase_there_is_a_frame_after_each_phase() -> None:
    log = scripted_log(seed=1, steps=20)
    recorded = recording(log, by="phase")
    ended = [
        [record.step, record.event.phase, record.seq + 1]
        for record in log.records
        if isinstance(record.event, e.PhaseEnded)
    ]
    assert recorded["labels"] == [[0, None, 0], *ended]


def test_a_run_that_stops_in_mid_step_ends_with_a_frame_of_what_there_is() -> None:
    log = scripted_log(seed=1, steps=5)
    log.emit(e.StepStarted(6))
    log.emit(e.PhaseStarted("cleanup"))
    for by in ("step", "phase"):
        recorded = recording(log, by=by)
        assert recorded["labels"][-1] == [6, None, log.next_seq]
        assert list(frames(recorded))[-1]["phase"] == "cleanup"
    assert len(recording(log)["labels"]) == 7


def test_an_empty_log_has_one_frame() -> None:
    recorded = recording(EventLog(num_slots=3))
    assert recorded["labels"] == [[0, None, 0]] and len(recorded["keyframes"][0]["slots"]) == 3
    assert recorded["timeline"]["steps"] == []


def test_a_recording_knows_all_requests_and_the_text_of_all_tokens_that_it_shows() -> None:
    log = scripted_log(seed=4, steps=150)
    recorded = recording(log, decode=words)
    assert {request["id"]: request for request in recorded["timeline"]["requests"]} == lives_of(log.records)
    shown = {token for state in frames(recorded) for slot in state["slots"] for token in slot["ids"]}
    assert {int(token) for token in recorded["vocab"]} >= shown
    assert all(text == words([int(token)]) for token, text in recorded["vocab"].items())


def test_a_recording_forgets_no_request_and_no_step() -> None:
    log = EventLog(num_slots=1)
    for step in range(1, 2051):
        log.emit(e.StepStarted(step))
        log.emit(e.RequestArrived(step, (1, 2), ()))
        log.emit(e.RequestFinished(step, "length", ""))
    timeline = recording(log)["timeline"]
    assert len(timeline["requests"]) == len(timeline["steps"]) == 2050


def test_a_log_that_begins_in_mid_run_knows_the_tokens_that_were_there_before() -> None:
    run = ScriptedRun(load=0.0, capacity=8)
    run.submit((1, 2, 3), max_tokens=40)
    for _ in range(6):
        run.step()
    recorded = recording(run.log, decode=words)
    shown = {token for state in frames(recorded) for slot in state["slots"] for token in slot["ids"]}
    assert len(shown) > 5 and {int(token) for token in recorded["vocab"]} >= shown
    assert recorded["labels"][0][2] == run.log.first_seq > 0


def test_a_file_gives_the_same_recording_as_its_log(tmp_path: Any) -> None:
    log = scripted_log(seed=5, steps=20)
    log.save(tmp_path / "run.jsonl")
    assert recording(tmp_path / "run.jsonl", decode=words) == recording(log, decode=words)


def test_what_is_no_recording_is_refused() -> None:
    with pytest.raises(ValueError, match="by is 'token'"):
        recording(EventLog(1), by="token")
    with pytest.raises(ValueError, match="keyframe_every is 0"):
        recording(EventLog(1), keyframe_every=0)


def test_a_step_in_which_rows_decode_costs_a_few_dozen_bytes_a_row() -> None:
    log, decode = story_log()
    recorded = recording(log, decode=decode)
    quiet = [
        (delta, state)
        for delta, (before, state) in zip(recorded["deltas"][1:], pairwise(frames(recorded)), strict=True)
        if delta is not None and state["counters"]["decoded_tokens"] - before["counters"]["decoded_tokens"] == 3
        if state["running"] == before["running"] and state["news"] == before["news"]
    ]
    assert len(quiet) > 50
    sizes = [len(json.dumps(delta, separators=(",", ":"))) for delta, _ in quiet]
    assert max(sizes) < 500 and sum(sizes) / len(sizes) < 400, sizes


def test_a_view_of_the_same_log_ends_as_the_recording_does() -> None:
    log = scripted_log(seed=8, steps=30)
    assert list(frames(recording(log, decode=words)))[-1] == follow(log, None, words).state(all_ids=True)
