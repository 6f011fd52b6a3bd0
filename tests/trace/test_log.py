import sys
import threading
from itertools import count, pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from astrai.trace import EventLog, Replayer, ReplayError
from astrai.trace import events as e
from astrai.trace.replay import replay, replay_steps
from tests.trace.streams import decode_stream, stream


def filled(events, capacity=65_536, num_slots=4):
    log = EventLog(num_slots, capacity, clock=count().__next__)
    for event in events:
        log.emit(event)
    return log


def test_records_are_stamped_with_number_step_and_time():
    log = filled([e.RequestsRejected(1, "invalid"), e.StepStarted(1), e.PhaseStarted("cleanup"), e.StepStarted(2)])
    assert [record[:3] for record in log.records] == [(0, 0, 0), (1, 1, 1), (2, 1, 2), (3, 2, 3)]
    assert (len(log), log.first_seq, log.next_seq) == (4, 0, 4)


@pytest.mark.parametrize("capacity", [1, 7, 1000])
@settings(max_examples=4, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_folding_is_exact_and_bounded(capacity, seed):
    events = stream(seed, 60)
    log, unbounded = EventLog(4, capacity), EventLog(4, 10**9)
    for k, event in enumerate(events):
        log.emit(event)
        unbounded.emit(event)
        assert len(log) <= capacity
        if k % 37 == 0:
            assert replay(log) == replay(unbounded)
    end = len(events)
    assert log.next_seq == end and log.first_seq >= end - capacity
    assert len(log) >= min(end, capacity * 3 // 4)
    for k in {log.first_seq, (log.first_seq + end) // 2, end}:
        assert replay(log, k) == replay(unbounded, k)


def test_a_state_that_was_folded_away_is_refused_with_the_numbers():
    log = filled(decode_stream(10), capacity=20)
    first, end = log.first_seq, log.next_seq
    with pytest.raises(
        ValueError, match=f"k is {first - 1}, but this log can be replayed from {first} to {end} events"
    ):
        replay(log, first - 1)
    with pytest.raises(ValueError, match=f"k is {end + 1}, "):
        replay(log, end + 1)


def test_tail_gives_what_is_new():
    log = filled(decode_stream(10), capacity=20)
    end = log.next_seq
    assert [record.seq for record in log.tail(end - 3)] == [end - 3, end - 2, end - 1]
    assert log.tail(end) == log.tail(end + 5) == []
    assert log.tail(0) == log.records and 15 <= len(log.records) <= 20


def test_a_reader_that_catches_up_sees_what_a_replay_sees_even_when_it_fell_behind():
    events, log, replayer = stream(5, 60), EventLog(4, capacity=50), None
    for k, event in enumerate(events):
        log.emit(event)
        if k % 30 == 0 or k % 211 == 0:
            replayer = log.catch_up(replayer)
        if k == 400:
            stale = replayer.copy()
    assert log.catch_up(stale).snapshot() == log.catch_up(replayer).snapshot() == replay(log)


def test_catching_up_with_another_log_is_refused():
    replayer = filled(decode_stream(10)).catch_up()
    with pytest.raises(ValueError, match="but this log 5"):
        filled(decode_stream(10)[:5]).catch_up(replayer)


@pytest.mark.parametrize("capacity", [40, 10**6])
def test_replay_steps_gives_the_state_at_the_end_of_each_step(capacity):
    events = stream(3, 30)
    ends = [k for k, event in enumerate(events) if type(event) is e.StepStarted and k] + [len(events)]
    log, whole = filled(events, capacity), filled(events)
    expected = [(step, replay(whole, k)) for step, k in enumerate(ends, start=1) if k >= log.first_seq]
    assert list(replay_steps(log)) == expected
    assert list(replay_steps(EventLog(2))) == []


def test_an_impossible_event_spares_the_loop_and_is_raised_to_every_reader():
    log = filled([*decode_stream(3), e.SlotFreed(0, 1, 1)], capacity=4)
    assert len(log.records) == 4 and log.error is None
    with pytest.raises(ReplayError, match=f"event {log.next_seq - 1} is impossible"):
        replay(log)
    for step in range(5, 12):
        log.emit(e.StepStarted(step))  # the impossible event leaves the ring
    assert isinstance(log.error, ReplayError)
    assert [record.event.step for record in log.records] == [8, 9, 10, 11]
    for read in (lambda: replay(log), log.view, log.catch_up, lambda: list(replay_steps(log))):
        with pytest.raises(ReplayError, match="has not run and finished"):
            read()


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ({"capacity": 0}, "capacity is 0"),
        ({"num_slots": 0}, "num_slots is 0"),
        ({"header": {"state": 1}}, "names state"),
    ],
)
def test_a_log_that_makes_no_sense_is_refused(arguments, reason):
    with pytest.raises(ValueError, match=reason):
        EventLog(**{"num_slots": 2, **arguments})


def test_readers_on_other_threads_always_see_a_consistent_log(tmp_path):
    events, log, failures = decode_stream(5600), EventLog(4, capacity=2000), []
    assert len(events) > 50_000
    done, looks = threading.Event(), count()

    def read():
        replayer = None
        while not done.is_set() or replayer is None:
            view, replayer = log.view(), log.catch_up(replayer)
            assert len(view.records) <= 2000
            assert all(after.seq == before.seq + 1 for before, after in pairwise(view.records))
            assert not view.records or view.records[0].seq == view.first_seq
            tail = log.tail(replayer.applied)
            assert not tail or tail[0].seq >= replayer.applied
            for snapshot in (view.base, replayer.snapshot()):
                for request in snapshot.requests:
                    assert request.context_len == max(0, 2 + len(request.output_ids)) or not request.output_ids
            next(looks)

    def record(number):
        while not done.is_set():
            with log.record(tmp_path / f"{number}.jsonl"):
                done.wait(0.02)
            loaded = EventLog.load(tmp_path / f"{number}.jsonl")
            assert replay(loaded) == reference.setdefault(loaded.next_seq, replay(loaded))

    def guarded(work, *arguments):
        try:
            work(*arguments)
        except BaseException as error:
            failures.append(error)

    reference: dict = {}
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    threads = [threading.Thread(target=guarded, args=args) for args in ((read,), (read,), (record, 1), (record, 2))]
    try:
        for thread in threads:
            thread.start()
        for event in events:
            log.emit(event)
    finally:
        done.set()
        for thread in threads:
            thread.join(30)
        sys.setswitchinterval(interval)
    assert failures == [] and next(looks) > 2
    final, unbounded = Replayer(4), Replayer(4)
    final = log.catch_up()
    for event in events:
        unbounded.apply(event)
    assert final.snapshot() == unbounded.snapshot()
