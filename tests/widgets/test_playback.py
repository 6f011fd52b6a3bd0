"""Any moment of a log, in any order, against a fold from the start."""

import random

import pytest

from astrai.trace import EventLog
from astrai.trace import events as e
from astrai.trace.replay import ReplayError, replay
from astrai.widgets.data.view import RunView
from astrai.widgets.stepping import playback as module
from astrai.widgets.stepping.playback import Playback
from tests.widgets.runs import scripted_log, words


@pytest.fixture(scope="module")
def log():
    return scripted_log(steps=120)


def from_the_start(log, seq):
    view = RunView.of(log, words)
    for record in log.records[:seq]:
        view.apply(record)
    return view


def test_moments_in_any_order_are_those_of_a_fold_from_the_start(log, monkeypatch):
    monkeypatch.setattr(module, "KEEP_EVERY", 300)
    playback, rng = Playback(log, words), random.Random(1)
    for seq in [log.next_seq, 0, *(rng.randint(0, log.next_seq) for _ in range(25))]:
        view, expected = playback.at(seq), from_the_start(log, seq)
        assert view.seq == seq and view.snapshot() == replay(log, seq)
        assert view.state(all_ids=True) == expected.state(all_ids=True)
        assert view.timeline() == expected.timeline()


def test_going_back_applies_no_more_than_what_lies_between_two_kept_views(log, monkeypatch):
    monkeypatch.setattr(module, "KEEP_EVERY", 300)
    playback = Playback(log, words)
    playback.at(log.next_seq)
    applied = []
    monkeypatch.setattr(
        RunView, "apply", lambda self, record, apply=RunView.apply: (applied.append(1), apply(self, record))
    )
    for seq in range(log.next_seq - 1, log.next_seq - 40, -1):
        applied.clear()
        assert playback.at(seq).seq == seq and len(applied) < 300


def test_what_has_left_the_log_is_refused_with_the_remedy():
    log = scripted_log(steps=60, capacity=200)
    playback = Playback(log, words)
    with pytest.raises(ValueError, match="larger trace_events"):
        playback.at(0)
    assert playback.at(log.first_seq).seq == log.first_seq
    assert playback.at(log.next_seq).snapshot() == replay(log)


def test_a_view_that_the_log_has_moved_on_from_is_not_used_again():
    log = EventLog(num_slots=1, capacity=4)
    playback = Playback(log)
    for step in range(1, 30):
        log.emit(e.StepStarted(step))
        if step % 8 == 1:
            assert playback.at(log.next_seq).state()["step"] == step


def test_an_impossible_event_is_reported_with_its_number_and_does_no_lasting_harm():
    log = EventLog(num_slots=1)
    for event in (e.StepStarted(1), e.PhaseStarted("cleanup"), e.StepStarted(2)):
        log.emit(event)
    playback = Playback(log)
    with pytest.raises(ReplayError):
        playback.at(3)
    assert playback.refused == 2
    assert playback.at(2).state()["phase"] == "cleanup"


def test_a_moment_of_a_scripted_run_says_so_and_has_the_tokens_of_one_slot(log):
    assert "scripted" not in Playback(log, words).moment(log.next_seq)["timeline"]
    scripted = EventLog(log.num_slots, header={"scripted": True})
    for record in log.records:
        scripted.emit(record.event)
    busy = next(slot.slot for slot in replay(log).slots if slot.context_len)
    moment = Playback(scripted, words).moment(log.next_seq, focus=busy)
    assert moment["timeline"]["scripted"] is True
    ids = moment["state"]["slots"][busy]["ids"]
    assert [slot for slot in range(log.num_slots) if "ids" in moment["state"]["slots"][slot]] == [busy]
    assert moment["vocab"] == {str(token_id): words((token_id,)) for token_id in ids}
