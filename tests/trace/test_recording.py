import errno
import json
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from astrai.trace import EventLog, Replayer, TraceError
from astrai.trace import events as e
from astrai.trace.replay import replay
from tests.trace.streams import decode_stream, stream

HEADER = {"engine_config": {"num_slots": 4, "max_running": None}, "tokenizer_hash": "f00d"}


def filled(events, capacity=65_536):
    log = EventLog(4, capacity, header=HEADER)
    for event in events:
        log.emit(event)
    return log


def state_after(events):
    replayer = Replayer(4)
    for event in events:
        replayer.apply(event)
    return replayer.snapshot()


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return tmp_path_factory.mktemp("traces") / "run.jsonl"


@pytest.mark.parametrize("capacity", [1, 50, 10**6])
@settings(max_examples=4, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_a_saved_log_loads_as_it_was(path, capacity, seed):
    log = filled(stream(seed, 40), capacity)
    log.save(path)
    loaded = EventLog.load(path)
    assert loaded.records == log.records
    assert (loaded.first_seq, loaded.next_seq, loaded.header) == (log.first_seq, log.next_seq, HEADER)
    assert loaded.view() == log.view() and replay(loaded) == replay(log)


@pytest.mark.parametrize("capacity", [1, 50, 10**6])
@settings(max_examples=4, deadline=None)
@given(seed=st.integers(0, 2**32), data=st.data())
def test_a_recording_begun_and_ended_anywhere_replays_exactly(path, capacity, seed, data):
    events = stream(seed, 40)
    begin = data.draw(st.integers(0, len(events)))
    end = data.draw(st.integers(begin, len(events)))
    log = filled(events[:begin], capacity)
    with log.record(path) as recording:
        for event in events[begin:end]:
            log.emit(event)
    for event in events[end:]:
        log.emit(event)
    loaded = EventLog.load(path)
    assert recording.error is None and (loaded.first_seq, loaded.next_seq) == (begin, end)
    assert [record.event for record in loaded.records] == events[begin:end]
    for k in {begin, (begin + end) // 2, end}:
        assert replay(loaded, k) == state_after(events[:k])


def test_a_loaded_log_can_be_continued_and_saved_again(tmp_path):
    events = stream(8, 40)
    filled(events[:300], capacity=100).save(tmp_path / "a.jsonl")
    log = EventLog.load(tmp_path / "a.jsonl")
    for event in events[300:]:
        log.emit(event)
    log.save(tmp_path / "b.jsonl")
    again = EventLog.load(tmp_path / "b.jsonl")
    assert replay(again) == state_after(events) and again.first_seq == 200
    assert [record.step for record in again.records] == [record.step for record in log.records]


def test_the_first_line_says_what_was_run(tmp_path):
    filled(decode_stream(2)).save(tmp_path / "run.jsonl")
    first, second, *_ = (tmp_path / "run.jsonl").read_text().splitlines()
    header = json.loads(first)
    assert {**HEADER, "schema": 1, "num_slots": 4, "first_seq": 0, "astrai": header["astrai"]} == header
    assert json.loads(second)["event"] == "StepStarted"


def test_two_recordings_do_not_disturb_each_other(tmp_path):
    events, log = decode_stream(5), EventLog(4)
    with log.record(tmp_path / "a.jsonl"):
        for event in events[:30]:
            log.emit(event)
        second = log.record(tmp_path / "b.jsonl")
    for event in events[30:]:
        log.emit(event)
    second.close()
    second.close()
    assert EventLog.load(tmp_path / "a.jsonl").next_seq == 30
    assert EventLog.load(tmp_path / "b.jsonl").next_seq == len(events)


# --- a disk that fails ------------------------------------------------------------------------------------------------


class FullDisk:
    """A file that takes so many writes."""

    name, closed = "full.jsonl", False

    def __init__(self, writes):
        self.writes = writes

    def write(self, line):
        self.writes -= 1
        if self.writes < 0:
            raise OSError(errno.ENOSPC, "No space left on device")

    def close(self):
        self.closed = True
        if self.writes == 0:
            raise OSError(errno.ENOSPC, "No space left on device")


def recording_to(disk, log, tmp_path):
    recording = log.record(tmp_path / "run.jsonl")
    recording._file.close()
    recording._file = disk
    return recording


def test_a_full_disk_stops_the_recording_but_not_the_loop(tmp_path):
    events, log, disk = decode_stream(5), EventLog(4), FullDisk(3)
    with pytest.raises(OSError, match="No space left") as caught, recording_to(disk, log, tmp_path):
        for event in events:
            log.emit(event)
        assert disk.writes == -1, "a recording that failed is not tried again"
    assert caught.value.__notes__ == ["the recording to full.jsonl stopped at event 3"]
    assert disk.closed and replay(log) == state_after(events)


def test_a_disk_that_is_full_at_the_last_flush_is_reported(tmp_path):
    log = EventLog(4)
    recording = recording_to(FullDisk(1), log, tmp_path)
    log.emit(e.StepStarted(1))
    with pytest.raises(OSError, match="No space left"):
        recording.close()


def test_a_failed_recording_does_not_hide_the_error_that_ended_the_block(tmp_path):
    log = EventLog(4)
    with pytest.raises(KeyError) as caught, recording_to(FullDisk(0), log, tmp_path):
        log.emit(e.StepStarted(1))
        raise KeyError("mine")
    assert "the recording failed: OSError" in caught.value.__notes__[0]


def test_an_event_that_json_cannot_hold_stops_the_recording_but_not_the_loop(tmp_path):
    log = EventLog(4)
    with pytest.raises(TypeError, match="not JSON serializable"), log.record(tmp_path / "run.jsonl"):
        log.emit(e.RequestArrived(1, (1,), (("stop", object()),)))
        log.emit(e.StepStarted(1))
    assert log.next_seq == 2


def test_a_path_that_cannot_be_written_is_refused_at_once(tmp_path):
    with pytest.raises(FileNotFoundError):
        EventLog(4).record(tmp_path / "nowhere" / "run.jsonl")


# --- files that are no traces -----------------------------------------------------------------------------------------


def lines_of(tmp_path, capacity=65_536):
    filled(decode_stream(3), capacity).save(tmp_path / "good.jsonl")
    return (tmp_path / "good.jsonl").read_bytes().splitlines(keepends=True)


def refuse(tmp_path, lines, number, reason):
    bad = tmp_path / "bad.jsonl"
    bad.write_bytes(b"".join(lines))
    with pytest.raises(TraceError, match=f"{re.escape(str(bad))}:{number}: .*{reason}"):
        EventLog.load(bad)


def edited(line, **changes):
    values = {**json.loads(line), **changes}
    return json.dumps({name: value for name, value in values.items() if value is not ...}).encode() + b"\n"


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"schema": 7, "astrai": "9.1"}, "trace schema 7, written by astrai 9.1, is unknown"),
        ({"schema": ...}, "no schema"),
        ({"num_slots": ...}, "'num_slots' is missing"),
        ({"num_slots": "four"}, "num_slots is 'four'"),
        ({"num_slots": 0}, "num_slots is 0"),
        ({"first_seq": 3}, "first_seq is 3, which needs a state"),
        ({"state": {}}, "first_seq is 0, which needs no state"),
        ({"first_seq": 3, "state": {}}, "'step' is missing"),
        ({"first_seq": 3, "state": 5}, "int"),
    ],
)
def test_a_bad_header_is_refused_by_name(tmp_path, changes, reason):
    header, *lines = lines_of(tmp_path)
    refuse(tmp_path, [edited(header, **changes), *lines], 1, reason)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"num_slots": 3}, "num_slots is 3, but the state has 4"),
        ({"running": [0, 77]}, "the state does not fit together"),
        ({"counters": 5}, "int"),
        ({"slots": [{"slot": 0}] * 4}, "missing"),
        (
            {"nodes": [{"node_id": 1, "parent_id": 9, "token_ids": [1], "holders": [], "last_used": 0}]},
            "node 9 does not",
        ),
    ],
)
def test_a_bad_state_is_refused(tmp_path, changes, reason):
    header, *lines = lines_of(tmp_path, capacity=10)
    values = json.loads(header)
    changes = changes if "num_slots" in changes else {"state": {**values["state"], **changes}}
    refuse(tmp_path, [edited(header, **changes), *lines], 1, reason)


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda line: line[:-9], "the line is cut off|this is not JSON"),
        (lambda line: b"\n", "this is not JSON"),
        (lambda line: b"\xff\xfe{}\n", "this is not JSON"),
        (lambda line: b"[" * 100_000 + b"\n", "this is not JSON"),
        (lambda line: b"[1]\n", "this is no JSON object"),
        (lambda line: edited(line, event="SlotExploded"), "unknown event 'SlotExploded'"),
        (lambda line: edited(line, event=...), "'event' is missing"),
        (lambda line: edited(line, event=[1]), "unhashable"),
        (lambda line: edited(line, prompt_ids=...), "'prompt_ids' is missing"),
        (lambda line: edited(line, time="noon"), "noon"),
        (lambda line: edited(line, time=...), "'time' is missing"),
        (lambda line: edited(line, seq=55), "event 1 of step 1 should stand here, not 55 of step 1"),
        (lambda line: edited(line, step=2), "not 1 of step 2"),
        (lambda line: b"", "event 1 of step 1 should stand here, not 2"),
    ],
)
def test_a_bad_line_is_refused_with_its_number(tmp_path, damage, reason):
    header, first, second, *rest = lines_of(tmp_path)
    assert b"prompt_ids" in second
    refuse(tmp_path, [header, first, damage(second), *rest], 3, reason)


def test_a_file_that_was_cut_off_is_refused_wherever_it_was_cut_within_a_line(tmp_path):
    *lines, last = lines_of(tmp_path)
    for length in range(1, len(last) - 1):
        refuse(tmp_path, [*lines, last[:length]], len(lines) + 1, "the line is cut off")


def test_an_empty_file_is_refused(tmp_path):
    refuse(tmp_path, [], 1, "the line is cut off")


@settings(max_examples=30, deadline=None)
@given(data=st.data())
def test_garbage_in_the_header_is_a_trace_error_and_nothing_else(path, data):
    garbage = st.recursive(
        st.none() | st.booleans() | st.integers(-3, 10**6) | st.floats() | st.text(max_size=4),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
        max_leaves=5,
    )
    filled(stream(4, 20), 5).save(path)
    header, *lines = path.read_bytes().splitlines(keepends=True)
    values = json.loads(header)
    place = data.draw(
        st.sampled_from([values, values["state"], values["state"]["slots"][0], values["state"]["counters"]])
    )
    place[data.draw(st.sampled_from(sorted(place)))] = data.draw(garbage)
    path.write_bytes(json.dumps(values).encode() + b"\n" + b"".join(lines))
    try:
        EventLog.load(path)
    except TraceError as error:
        assert str(path) in str(error)
