"""The JSON that pictures draw says what the trace says: at every event of real runs, found in two ways."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from astrai.config import EngineConfig
from astrai.trace import events as e
from astrai.trace.jsonl import Record
from astrai.trace.log import EventLog
from astrai.trace.replay import Replayer, ReplayError, replay
from astrai.trace.snapshot import Snapshot
from astrai.widgets.data.texts import Texts
from astrai.widgets.data.view import RunView, follow
from tests.widgets.brute import Positions, check_against_snapshot, lives_of, positions_of, steps_of
from tests.widgets.runs import ScriptedRun, scripted_log, story_log, words

SETTINGS: list[dict[str, Any]] = [
    {},
    {"decode_policy": "grouped", "prefill_budget": 5},
    {"num_slots": 2, "capacity_tokens": 40, "load": 0.5},
    {"num_slots": 12, "capacity_tokens": None, "max_running": 5, "prefill_budget": 200},
]


def check_positions(state: dict[str, Any], positions: Positions) -> None:
    for slot, how, tokens in zip(state["slots"], positions.how, positions.tokens, strict=True):
        assert positions_of(slot["runs"]) == how
        assert slot["ids"] == tokens and len(tokens) == slot["len"]


def check_run(log: EventLog) -> None:
    """Apply the log event by event and compare everything after each."""
    seen = log.view()
    view, positions = RunView.of(log, words, seen), Positions(seen.base)
    replayer = Replayer.from_snapshot(seen.base, seen.first_seq)
    for record in seen.records:
        view.apply(record)
        positions.apply(record)
        replayer.apply(record.event)
        state = view.state(all_ids=True)
        assert state["seq"] == record.seq + 1
        check_against_snapshot(state, replayer.snapshot())
        check_positions(state, positions)
    assert view.snapshot() == replayer.snapshot()


# --- true ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", SETTINGS, ids=str)
def test_at_every_event_the_state_is_what_replay_and_a_pass_over_all_positions_say(case: dict[str, Any]) -> None:
    check_run(scripted_log(seed=3, steps=40, **case))


@settings(max_examples=10, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    num_slots=st.integers(1, 5),
    capacity_tokens=st.sampled_from([None, 0, 20, 60]),
    prefill_budget=st.sampled_from([1, 4, 64]),
    capacity=st.sampled_from([1, 90, 100_000]),
    load=st.sampled_from([0.2, 0.8]),
)
def test_whatever_the_run_the_state_is_true_at_every_event_that_the_log_still_has(**case: Any) -> None:
    check_run(scripted_log(steps=15, row_len=48, **case))


@pytest.mark.nightly
@pytest.mark.parametrize("seed", range(30))
def test_long_runs_are_true_at_every_event(seed: int) -> None:
    check_run(scripted_log(seed, steps=600, **SETTINGS[seed % len(SETTINGS)]))


def test_the_state_equals_the_replay_of_the_log_up_to_there() -> None:
    log = scripted_log(seed=1, steps=60)
    view = RunView.of(log)
    for record in log.records:
        view.apply(record)
        if record.seq % 150 == 0:
            check_against_snapshot(view.state(), replay(log, record.seq + 1))


def test_the_ids_of_every_row_are_the_tokens_that_the_runner_wrote_there() -> None:
    run = ScriptedRun(seed=5)
    view = None
    for _ in range(80):
        run.step()
        view = follow(run.log, view, words)
        for slot, row in zip(view.state(all_ids=True)["slots"], run.runner.rows, strict=True):
            assert slot["ids"] == row[: slot["len"]]


def test_a_run_of_the_bundled_model_is_true_and_readable() -> None:
    log, decode = story_log()
    check_run(log)
    state = follow(log, None, decode).state()
    texts = {node["text"] for node in state["nodes"].values()}
    assert any("You are Astra" in text for text in texts) and all(len(text) <= 100 for text in texts)
    kinds = [slot["origin"] and slot["origin"]["kind"] for slot in state["slots"]]
    assert kinds == ["zero-copy", "zero-copy", "zero-copy", None]
    assert state["row_len"] == 1024


def test_without_a_prefix_cache_a_freed_row_is_blank() -> None:
    run = ScriptedRun(seed=3, enabled=False)
    for _ in range(40):
        run.step()
    check_run(run.log)
    slots = follow(run.log).state()["slots"]
    assert {slot["len"] for slot in slots if slot["owner"] is None} == {0}


def test_a_row_that_was_left_out_of_a_decode_begins_a_new_run() -> None:
    run = ScriptedRun(load=0.0)
    run.submit((1, 2, 3), max_tokens=9)
    run.step()
    run.scheduler.start_step()  # a loop that only cleans up: the rows starve
    run.scheduler.cleanup()
    run.step()
    run.step()
    runs = follow(run.log).state()["slots"][0]["runs"]
    assert runs == [["prefill", 3, 0, 1], ["decode", 4, 0, 1], ["decode", 6, 0, 3]]
    check_run(run.log)


def test_only_the_slot_in_focus_tells_its_ids() -> None:
    view = follow(scripted_log(steps=20))
    assert [index for index, slot in enumerate(view.state(focus=2)["slots"]) if "ids" in slot] == [2]
    assert view.state(focus=2)["slots"][2]["ids"] == view.state(all_ids=True)["slots"][2]["ids"]
    assert not any("ids" in slot for slot in view.state()["slots"])


# --- how an owner got its row, and the news ---------------------------------------------------------------------------


def test_each_event_makes_the_news_that_it_should_and_no_other() -> None:
    log = scripted_log(seed=6, steps=110)
    view, owners, before = RunView.of(log, words), {}, Snapshot.from_dict(log.view().base.to_dict())
    kinds = set()
    for record in log.records:
        view.apply(record)
        owners.update(owner_of(record.event))
        news = view.state()["news"]
        fresh = [item for item in news if item["seq"] == record.seq]
        assert fresh == [item | stamps(record) for item in expected_news(record, before, owners, log)]
        assert len(news) <= 24 and [item["seq"] for item in news] == sorted(item["seq"] for item in news)
        kinds |= {item["kind"] for item in fresh}
        before = view.snapshot()
    assert kinds == KINDS


KINDS = {"used", "matched", "zero-copy", "copy", "miss", "held", "finished", "freed", "cut", "rejected"}
KINDS |= {"inserted", "split", "merged", "evicted"}


def stamps(record: Record) -> dict[str, Any]:
    return {"seq": record.seq, "step": record.step}


def owner_of(event: e.Event) -> dict[int, int]:
    return {event.slot: event.request_id} if isinstance(event, e.SlotAllocated | e.SlotReused) else {}


def expected_news(record: Record, before: Snapshot, owners: dict[int, int], log: EventLog) -> list[dict[str, Any]]:
    nodes = {node.node_id: node for node in before.nodes}
    match record.event:
        case e.PrefixMatched(request_id, length, slot):
            (used,) = (r.event.node_id for r in log.tail(record.seq - 1)[:1] if isinstance(r.event, e.PathUsed))
            matched = {"kind": "matched", "request": request_id, "slot": slot, "len": length, "node": used}
            return [{"kind": "used", "node": used}, matched]
        case e.SlotReused(slot, _, request_id, kept):
            return [{"kind": "zero-copy", "request": request_id, "slot": slot, "len": kept}]
        case e.PrefixCopied(src=src, dst=dst, length=length):
            return [{"kind": "copy", "request": owners[dst], "src": src, "dst": dst, "len": length}]
        case e.RequestAdmitted(request_id, slot, cached_len=0):
            return [{"kind": "miss", "request": request_id, "slot": slot}]
        case e.RequestHeld(request_id, leader):
            return [{"kind": "held", "request": request_id, "leader": leader}]
        case e.RequestFinished(request_id, reason):
            slot = before.request(request_id).slot
            return [{"kind": "finished", "request": request_id, "reason": reason, "slot": slot}]
        case e.RequestsRejected(count, reason):
            return [{"kind": "rejected", "count": count, "reason": reason}]
        case e.SlotFreed(slot, kept_len=kept):
            return [{"kind": "freed", "slot": slot, "len": kept}]
        case e.SlotTruncated(slot, kept_len=kept):
            return [{"kind": "cut", "slot": slot, "len": kept}]
        case e.NodeInserted(node, parent, ids):
            return [{"kind": "inserted", "node": node, "parent": parent, "len": len(ids)}]
        case e.NodeSplit(node, upper, length):
            return [{"kind": "split", "node": node, "upper": upper, "len": length}]
        case e.NodeMerged(node, child):
            return [{"kind": "merged", "node": node, "child": child}]
        case e.NodeEvicted(node):
            text = Texts(words).edge(nodes[node].token_ids)
            return [{"kind": "evicted", "node": node, "parent": nodes[node].parent_id, "text": text}]
    return []


def test_a_match_of_a_cache_that_notes_no_use_names_no_node() -> None:
    log = scripted_log(seed=6, steps=40)
    walks = {r.seq - 1 for r in log.records if isinstance(r.event, e.PrefixMatched)}
    view, matches = RunView.of(log), []
    for record in (r for r in log.records if r.seq not in walks):
        view.apply(record._replace(seq=view.seq))
        if isinstance(record.event, e.PrefixMatched):
            matches += [item for item in view.state()["news"] if item["seq"] == view.seq - 1]
    assert len(matches) > 5
    assert {(item["kind"], item["node"]) for item in matches} == {("matched", None)}


def test_the_origin_of_a_row_is_the_last_event_that_gave_it_its_tokens() -> None:
    log = scripted_log(seed=7, steps=120)
    view, origins, kinds = RunView.of(log), {}, set()
    for record in log.records:
        view.apply(record)
        blank = {"src": None, "src_version": None, **stamps(record)}
        match record.event:
            case e.SlotReused(slot, _, request_id, kept):
                origins[slot] = {"kind": "zero-copy", "len": kept, "request": request_id, **blank}
            case e.PrefixCopied(src, version, dst, _, length):
                owner = view.snapshot().slots[dst].request_id
                source = {"src": src, "src_version": version}
                origins[dst] = {"kind": "copy", "len": length, "request": owner, **blank, **source}
            case e.RequestAdmitted(request_id, slot, cached_len=0):
                origins[slot] = {"kind": "miss", "len": 0, "request": request_id, **blank}
            case e.StepStarted():
                told = {index: slot["origin"] for index, slot in enumerate(view.state()["slots"]) if slot["origin"]}
                assert told == origins
                kinds |= {origin["kind"] for origin in told.values()}
    assert kinds == {"zero-copy", "copy", "miss"}


def test_a_failed_copy_is_a_miss() -> None:
    run = ScriptedRun(load=0.0)
    view, shared = None, tuple(range(20))
    run.submit((*shared, 1))
    run.step()
    run.submit((*shared, 2))
    run.runner.fail_next = {"copy"}
    run.step()
    view = follow(run.log)
    assert view.state()["slots"][1]["origin"]["kind"] == "miss"
    assert [item["kind"] for item in view.state()["news"] if item["kind"] in ("copy", "miss")] == ["miss", "miss"]
    assert view.timeline()["requests"][1]["reason"] == "error"


# --- the timeline -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", [0, 1])
def test_the_timeline_is_what_a_pass_over_all_events_gives(seed: int) -> None:
    log = scripted_log(seed, steps=150)
    timeline = follow(log).timeline(last=None)
    assert timeline["first"] == 1
    assert dict(enumerate(timeline["steps"], 1)) == steps_of(log.records)
    assert {request["id"]: request for request in timeline["requests"]} == lives_of(log.records)
    assert {request["reason"] for request in timeline["requests"]} >= {"length", "cancelled", "error", "stop"}


def test_the_timeline_lists_the_last_steps_and_the_requests_that_lived_in_them() -> None:
    log = scripted_log(steps=150)
    view, lives = follow(log), lives_of(log.records)
    for last in range(1, 60):
        timeline = view.timeline(last)
        first = timeline["first"]
        assert (first, len(timeline["steps"])) == (151 - last, last)
        alive = [key for key, life in lives.items() if life["ended"] is None or life["ended"] >= first]
        assert [request["id"] for request in timeline["requests"]] == alive


def view_of_requests_that_come_and_go(keep_steps: int | None) -> RunView:
    """450 requests, one a step, each of which ends as it comes."""
    view = RunView(1, keep_steps=keep_steps)
    for step in range(1, 451):
        events = e.StepStarted(step), e.RequestArrived(step, (1, 2), ()), e.RequestFinished(step, "length", "")
        for event in events:
            view.apply(Record(view.seq, step, float(step), event))
    return view


def test_a_view_remembers_only_so_many_steps_and_ended_requests() -> None:
    view = view_of_requests_that_come_and_go(keep_steps=10)
    assert view.timeline(last=None)["first"] == 441 and len(view.timeline(last=None)["steps"]) == 10
    assert len(view._steps._ended) == 400
    whole = view_of_requests_that_come_and_go(keep_steps=None)
    assert len(whole.timeline(last=None)["steps"]) == len(whole.timeline(last=None)["requests"]) == 450


def test_a_timeline_shows_the_last_200_of_many_requests() -> None:
    timeline = view_of_requests_that_come_and_go(keep_steps=None).timeline(last=300)
    assert [request["id"] for request in timeline["requests"]] == list(range(251, 451))


def test_a_long_queue_hides_its_end_and_not_the_requests_that_run() -> None:
    run = ScriptedRun(load=0.0, num_slots=2, max_waiting=1000)
    for first in range(400):
        run.submit((first % 50, 1, 2), max_tokens=40)
    run.step()
    timeline = follow(run.log).timeline()
    assert [request["id"] for request in timeline["requests"]] == list(range(200))
    assert [request["id"] for request in timeline["requests"] if request["slot"] is not None] == [0, 1]
    assert len(follow(run.log).timeline(last=None)["requests"]) == 400


# --- following a log --------------------------------------------------------------------------------------------------


def without_history(state: dict[str, Any]) -> dict[str, Any]:
    """The state without what can only be known from the beginning on."""
    slots = [{key: slot[key] for key in slot.keys() - {"runs", "origin"}} for slot in state["slots"]]
    return state | {"slots": slots, "news": None}


@pytest.mark.parametrize("capacity", [1, 50, 400])
def test_a_view_that_starts_in_mid_run_differs_only_in_what_it_cannot_know(capacity: int) -> None:
    whole, short = ScriptedRun(seed=4), ScriptedRun(seed=4, capacity=capacity)
    for _ in range(60):
        whole.step(), short.step()
    late, early = follow(short.log, None, words).state(all_ids=True), follow(whole.log, None, words).state(all_ids=True)
    assert short.log.first_seq > 0
    assert without_history(late) == without_history(early)
    base = short.log.view().base
    for slot, known in zip(late["slots"], early["slots"], strict=True):
        for position, true in zip(positions_of(slot["runs"]), positions_of(known["runs"]), strict=True):
            assert position == true or (position[0] == "kept" and true[2] <= base.step)


def test_a_view_that_fell_out_of_the_ring_begins_anew() -> None:
    run = ScriptedRun(seed=4, capacity=40)
    run.step()
    view = follow(run.log, None, words)
    while run.log.first_seq <= view.seq:
        run.step()
    later = follow(run.log, view)
    assert later is not view and later.decode is words
    fresh = follow(run.log, None, words)
    assert later.state(all_ids=True) == fresh.state(all_ids=True)


def test_following_twice_changes_nothing_and_costs_no_new_view() -> None:
    log = scripted_log(steps=20)
    view = follow(log)
    state = view.state()
    assert follow(log, view) is view and view.state() == state


def test_looking_at_any_moment_gives_the_state_of_having_looked_all_the_time() -> None:
    run, view = ScriptedRun(seed=9), None
    for _ in range(40):
        run.step()
        view = follow(run.log, view, words)
        view.state()
    assert view.state(all_ids=True) == follow(run.log, None, words).state(all_ids=True)
    assert view.timeline(None) == follow(run.log).timeline(None)


def test_a_view_of_another_log_is_refused() -> None:
    with pytest.raises(ValueError, match="the view has seen"):
        follow(EventLog(6), follow(scripted_log(steps=5)))


def test_an_impossible_event_is_refused_as_by_the_replayer() -> None:
    with pytest.raises(ReplayError, match="slot 0 belongs to request None"):
        RunView(1).apply(Record(0, 0, 0.0, e.SlotFreed(0, 0, 0)))


def test_a_request_that_was_there_before_has_no_arrival_time() -> None:
    run = ScriptedRun(load=0.0, capacity=1)
    run.submit((1, 2, 3), max_tokens=30)
    run.step(), run.step()
    (request,) = follow(run.log).timeline()["requests"]
    assert (request["arrived"], request["admitted"], request["first"], request["out"]) == (2, 2, 2, 3)
    assert request["t_arrived"] is request["t_first"] is request["origin"] is None


# --- plain values -----------------------------------------------------------------------------------------------------


def test_states_are_json_and_share_nothing_that_changes() -> None:
    log = scripted_log(seed=6, steps=40)
    view, kept = RunView.of(log, words), []
    for record in log.records:
        view.apply(record)
        if record.seq % 97 == 0:
            now = {"state": view.state(all_ids=True), "timeline": view.timeline()}
            assert json.loads(json.dumps(now)) == now
            kept.append((now, json.dumps(now)))
    assert all(json.dumps(now) == written for now, written in kept)


def test_changing_a_state_changes_no_later_one() -> None:
    view = follow(scripted_log(steps=30), None, words)
    before = json.dumps([view.state(all_ids=True), view.timeline()])
    spoil(view.state(all_ids=True)), spoil(view.timeline())
    assert json.dumps([view.state(all_ids=True), view.timeline()]) == before


def spoil(value: Any) -> None:
    for item in value.values() if isinstance(value, dict) else value:
        if isinstance(item, dict | list):
            spoil(item)
    value.clear()


def test_without_a_decoder_ids_are_shown() -> None:
    log = scripted_log(steps=30)
    state = follow(log).state()
    assert all(node["text"].startswith("[") for node in state["nodes"].values())
    assert RunView(1).vocab([5]) == {"5": "[5]"}
    assert RunView(1, decode=words).vocab([0]) == {"0": " Mia"}


@pytest.mark.parametrize(
    "decode", [lambda ids: 1 / 0, lambda ids: None, lambda ids: b"bytes", lambda ids: "half a \ud83d"]
)
def test_a_decoder_that_fails_or_gives_odd_text_stops_nothing(decode: Any) -> None:
    view = follow(scripted_log(steps=30), None, decode)
    text = json.dumps([view.state(all_ids=True), view.vocab([1, 2])], ensure_ascii=False).encode()
    assert b"[1]" in text or b"half a ?" in text


def test_texts_are_decoded_again_only_when_they_changed() -> None:
    calls: list[tuple[int, ...]] = []

    def counting(ids: Any) -> str:
        calls.append(tuple(ids))
        return words(ids)

    run = ScriptedRun(seed=8)
    for _ in range(40):
        run.step()
    view = follow(run.log, None, counting)
    view.state(), calls.clear()
    view.state()
    assert calls == []
    run.step()
    follow(run.log, view).state()
    now = view.snapshot()
    assert len(calls) < len(now.nodes) + len(now.running)


def test_the_text_of_a_node_follows_its_splits_and_merges() -> None:
    log = scripted_log(seed=2, steps=80)
    view = RunView.of(log, words)
    for record in log.records:
        view.apply(record)
        if isinstance(record.event, e.NodeSplit | e.NodeMerged | e.NodeEvicted):
            fresh = Texts(words)
            texts = {str(node.node_id): fresh.edge(node.token_ids) for node in view.snapshot().nodes}
            assert {key: node["text"] for key, node in view.state()["nodes"].items()} == texts


def test_a_long_edge_is_cut_in_the_middle() -> None:
    text = Texts(words).edge(range(45))
    assert len(text) == 100 and " … " in text
    assert text.startswith(" Mia Tom") and text.endswith(words([44]))
    many = [*range(40)] * 50
    assert Texts(words).edge(many)[:40] == words(many)[:40] and len(Texts(words).edge(many)) == 100


def test_the_length_of_a_row_comes_from_the_header() -> None:
    config = EngineConfig().to_dict() | {"max_seq_len": None}
    assert RunView.of(EventLog(1)).row_len is None
    assert RunView.of(EventLog(1, header={"model_config": {"max_seq_len": 7}})).row_len == 7
    assert RunView.of(EventLog(1, header={"engine_config": config, "model_config": {"max_seq_len": 7}})).row_len == 7
    config["max_seq_len"] = 5
    assert RunView.of(EventLog(1, header={"engine_config": config, "model_config": {"max_seq_len": 7}})).row_len == 5


# --- cheap ------------------------------------------------------------------------------------------------------------


def test_folding_an_event_and_making_a_state_are_cheap() -> None:
    # Ten times what was measured on an idle machine: this guards against a blunder only.
    log = scripted_log(steps=200, num_slots=16, capacity_tokens=None, load=0.9)
    view, looks = RunView.of(log, words), []
    started = time.thread_time()
    for record in log.records:
        view.apply(record)
    assert time.thread_time() - started < 40e-6 * len(log)
    for _ in range(5):
        started = time.thread_time()
        json.dumps([view.state(focus=0), view.timeline()])
        looks.append(time.thread_time() - started)
    assert min(looks) < 15e-3


def test_a_long_edge_is_cut_around_special_tokens_and_not_through_them() -> None:
    for shift in range(12):
        for text in ("a" * (40 + shift) + "<|user|>" + "b" * 90, "a" * 90 + "<|user|>" + "b" * (40 + shift)):
            (edge,) = [Texts(lambda ids, text=text: text).edge((1, 2))]
            assert len(edge) <= 100 and " … " in edge
            assert set(edge.replace("<|user|>", "")) <= set("ab … "), edge
