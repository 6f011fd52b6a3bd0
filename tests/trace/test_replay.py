import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from astrai.trace import Replayer, ReplayError, Snapshot
from astrai.trace import events as e
from astrai.trace.replay import _HANDLERS
from tests.trace.streams import World, decode_stream, stream

SEEDS = st.integers(0, 2**32)


def replayed(events, num_slots=4):
    replayer = Replayer(num_slots)
    for event in events:
        replayer.apply(event)
    return replayer


def step_ends(events):
    """The numbers of events after which a step is complete."""
    return [k for k, event in enumerate(events) if type(event) is e.StepStarted and k] + [len(events)]


def test_every_event_type_is_replayed_and_occurs_in_the_streams():
    assert set(_HANDLERS) == set(e.EVENT_TYPES.values())
    assert {type(event) for seed in range(8) for event in stream(seed, 60)} == set(_HANDLERS)


@settings(max_examples=15, deadline=None)
@given(SEEDS, st.integers(1, 6), st.integers(1, 4))
def test_replay_equals_the_state_of_the_world_after_every_step(seed, num_slots, vocabulary):
    world, replayer, seen = World(seed, num_slots, vocabulary), Replayer(num_slots), 0
    for _ in range(40):
        world.step()
        for event in world.events[seen:]:
            replayer.apply(event)
        seen = len(world.events)
        assert replayer.snapshot() == world.snapshot()
    assert replayer.applied == len(world.events)


@settings(max_examples=3, deadline=None)
@given(SEEDS)
def test_incremental_replay_equals_replay_from_scratch_at_every_event(seed):
    events, replayer = stream(seed, 12), Replayer(4)
    for k, event in enumerate(events):
        assert replayer.snapshot() == replayed(events[:k]).snapshot()
        replayer.apply(event)


@settings(max_examples=10, deadline=None)
@given(SEEDS, st.data())
def test_a_replayer_goes_on_from_a_snapshot_as_if_it_had_seen_all(seed, data):
    events = stream(seed, 40)
    k = data.draw(st.integers(0, len(events)))
    first = replayed(events[:k])
    snapshot = Snapshot.from_dict(first.snapshot().to_dict())
    assert snapshot == first.snapshot()
    second, third = Replayer.from_snapshot(snapshot, k), first.copy()
    for event in events[k:]:
        second.apply(event)
        third.apply(event)
    assert second.snapshot() == third.snapshot() == replayed(events).snapshot()
    assert second.applied == third.applied == len(events)
    assert first.snapshot() == snapshot, "a copy shares state with its original"


@settings(max_examples=8, deadline=None)
@given(SEEDS, st.data())
def test_a_run_with_an_event_missing_never_passes_for_the_run(seed, data):
    events = stream(seed, 25)
    harmless = (e.PrefixMatched, e.PathHeld, e.PathUsed, e.RequestHeld)  # these may repeat what is so already
    missing = data.draw(st.sampled_from([k for k, event in enumerate(events) if not isinstance(event, harmless)]))
    honest, witness = Replayer(4), Replayer(4)
    with pytest.raises((ReplayError, AssertionError)):
        for k, event in enumerate([*events, e.StepStarted(26)]):
            if type(event) is e.StepStarted:
                assert honest.snapshot() == witness.snapshot()
            honest.apply(event)
            if k != missing:
                witness.apply(event)


def test_snapshot_questions_follow_from_its_facts():
    for k in step_ends(events := stream(11, 30)):
        snapshot = replayed(events[:k]).snapshot()
        for slot in snapshot.slots:
            held = snapshot.held_ids(slot.slot)
            assert len(held) <= slot.context_len
            if slot.request_id is not None:
                request = snapshot.request(slot.request_id)
                assert (*request.prompt_ids, *request.output_ids)[: len(held)] == held
            for node in snapshot.path(slot.node_id):
                assert slot.slot in node.holders
                assert (snapshot.locks(node) > 0) >= slot.locked
        assert snapshot.request(10**9) is None


def test_a_held_request_keeps_its_leader_until_it_is_admitted():
    events = [e.StepStarted(1), *decode_stream(0)[1:6], e.RequestArrived(7, (1, 2), ()), e.RequestHeld(7, 0)]
    replayer = replayed(events)
    assert replayer.snapshot().request(7).leader_id == 0
    replayer.apply(e.SlotAllocated(2, 5, 7))
    replayer.apply(e.RequestAdmitted(7, 2, 5, 0))
    assert replayer.snapshot().request(7).leader_id is None
    assert replayer.snapshot().running == (0, 7)


def test_a_finished_request_stays_in_running_until_its_slot_is_freed():
    replayer = replayed([*decode_stream(0), e.RequestFinished(1, "stop", "")])
    assert replayer.snapshot().running == (0, 1, 2, 3)
    assert replayer.snapshot().request(1).finish_reason == "stop"
    replayer.apply(e.SlotFreed(1, 1, 2))
    snapshot = replayer.snapshot()
    assert snapshot.running == (0, 2, 3) and snapshot.request(1) is None
    assert (snapshot.slots[1].request_id, snapshot.slots[1].context_len) == (None, 2)
    assert dict(snapshot.counters.finished)["stop"] == 1


# Four requests run on slots 0 to 3 at position 3, each with one output token; slot 3 is freed and holds 3 tokens; a
# tree with one node of three tokens, held by slot 3; request 9 waits.
RUNNING = [
    *decode_stream(0),
    e.RequestFinished(3, "stop", ""),
    e.NodeInserted(1, 0, (1, 2, 3)),
    e.PathHeld(3, 1, 1),
    e.PathUsed(1, 5),
    e.SlotFreed(3, 1, 3),
    e.RequestArrived(9, (1, 2, 3, 4), ()),
    e.PathLocked(0),
]
ADMITTED = [*RUNNING, e.SlotAllocated(3, 2, 9), e.PathHeld(3, 2, 0), e.RequestAdmitted(9, 3, 2, 0)]
TREE = [*RUNNING, e.NodeSplit(1, 2, 2), e.NodeInserted(3, 2, (8,))]


def four(request_ids=(0, 1, 2), slots=(0, 1, 2), positions=(3, 3, 3), tokens=(5, 5, 5), groups=(3,)):
    return e.TokensDecoded(request_ids, slots, positions, tokens, groups)


@pytest.mark.parametrize(
    ("events", "impossible", "reason"),
    [
        # requests
        (RUNNING, e.RequestArrived(9, (1,), ()), "request 9 is here already"),
        (RUNNING, e.RequestArrived(0, (1,), ()), "request 0 is here already"),
        (RUNNING, e.RequestHeld(8, 0), "request 8 is not waiting"),
        (RUNNING, e.RequestHeld(9, 9), "request 9 is not running"),
        (RUNNING, e.RequestAdmitted(9, 1, 1, 0), "slot 1 belongs to request 1"),
        (RUNNING, e.RequestAdmitted(9, 3, 1, 0), "slot 3 belongs to request None"),
        (ADMITTED, e.RequestAdmitted(9, 3, 2, 0), "request 9 is not waiting"),
        ([*RUNNING, e.SlotReused(3, 2, 9, 3)], e.RequestAdmitted(9, 3, 2, 2), "slot 3 has 3 of 4 prompt tokens"),
        (
            [*RUNNING, e.RequestArrived(10, (1, 2, 3), ()), e.SlotReused(3, 2, 10, 3)],
            e.RequestAdmitted(10, 3, 2, 3),
            "slot 3 has 3 of 3 prompt tokens",
        ),
        (RUNNING, e.RequestFinished(3, "stop", ""), "request 3 is not running"),
        ([*ADMITTED, e.RequestFinished(9, "error", "")], e.RequestFinished(9, "stop", ""), "request 9 has finished"),
        (RUNNING, e.RequestFinished(9, "bored", ""), "the reasons are stop"),
        (
            [*RUNNING, e.SlotAllocated(3, 2, 9)],
            e.RequestFinished(9, "cancelled", ""),
            "request 9 waits, but owns a slot",
        ),
        # slots
        (RUNNING, e.SlotAllocated(1, 2, 9), "slot 1 belongs to request 1"),
        (RUNNING, e.SlotAllocated(3, 1, 9), "slot 3 is at version 1 already"),
        (RUNNING, e.SlotAllocated(3, 2, 0), "request 0 owns a slot already"),
        (RUNNING, e.SlotAllocated(3, 2, 12), "request 12 is not waiting"),
        (RUNNING, e.SlotAllocated(4, 2, 9), "slot 4 does not exist: there are 4"),
        (RUNNING, e.SlotAllocated(-1, 2, 9), "slot -1 does not exist"),
        (RUNNING, e.SlotReused(3, 1, 9, 3), "slot 3 is at version 1 already"),
        (RUNNING, e.SlotReused(3, 2, 9, 4), "slot 3 holds 3 tokens"),
        ([*RUNNING, e.PathLocked(3)], e.SlotReused(3, 2, 9, 3), "locked: True"),
        (RUNNING, e.SlotTruncated(0, 2, 1), "slot 0 belongs to request 0"),
        (RUNNING, e.SlotTruncated(3, 1, 1), "slot 3 is at version 1 already"),
        (RUNNING, e.SlotTruncated(3, 2, 4), "slot 3 holds 3 tokens"),
        (RUNNING, e.SlotFreed(3, 1, 3), "slot 3 belongs to request None"),
        (RUNNING, e.SlotFreed(0, 1, 3), "slot 0 belongs to request 0, which has not run and finished"),
        (
            [*RUNNING, e.RequestFinished(0, "stop", "")],
            e.SlotFreed(0, 0, 3),
            "slot 0 is at version 1: the handle is stale",
        ),
        ([*RUNNING, e.RequestFinished(0, "stop", "")], e.SlotFreed(0, 1, 4), "slot 0 holds 3 tokens"),
        (RUNNING, e.PrefixMatched(9, 3, 3, 2), "the handle is stale"),
        (RUNNING, e.PrefixMatched(9, 4, 3, 1), "slot 3 holds 3, the prompt has 4 tokens"),
        (ADMITTED, e.PrefixMatched(9, 3, 0, 1), "request 9 is not waiting"),
        (
            [*RUNNING, e.SlotAllocated(3, 2, 9)],
            e.PrefixCopied(0, 0, 3, 2, 3),
            "slot 0 is at version 1: the handle is stale",
        ),
        (
            [*RUNNING, e.SlotAllocated(3, 2, 9)],
            e.PrefixCopied(0, 1, 3, 1, 3),
            "slot 3 is at version 2: the handle is stale",
        ),
        ([*RUNNING, e.SlotAllocated(3, 2, 9)], e.PrefixCopied(0, 1, 3, 2, 4), "slot 0 holds 3 tokens"),
        (RUNNING, e.PrefixCopied(0, 1, 1, 1, 2), "slot 1 was not just allocated"),
        (RUNNING, e.PrefixCopied(0, 1, 0, 1, 2), "slot 0 holds 3 tokens"),
        # the tree
        (RUNNING, e.NodeInserted(1, 0, (7,)), "node 1 exists already"),
        (RUNNING, e.NodeInserted(2, 0, ()), "has no tokens"),
        (RUNNING, e.NodeInserted(2, 7, (7,)), "node 7 does not exist"),
        (RUNNING, e.NodeInserted(2, 0, (1, 9)), "child that begins with token 1"),
        (RUNNING, e.NodeSplit(1, 2, 3), "the edge has 3 tokens"),
        (RUNNING, e.NodeSplit(1, 1, 2), "node 1 exists already"),
        (RUNNING, e.NodeSplit(0, 2, 1), "the root can be neither"),
        (TREE, e.NodeMerged(2, 1), "node 1 is not the only child"),
        (TREE, e.NodeMerged(1, 2), "node 2 is not the only child"),
        ([*RUNNING, e.NodeInserted(3, 1, (8,))], e.NodeMerged(1, 3), "other rows hold it"),
        (TREE, e.NodeEvicted(2), "node 2 has 2 children"),
        (TREE, e.NodeEvicted(1), "node 1 has 0 children and rows 0b1000"),
        (TREE, e.NodeEvicted(9), "node 9 does not exist"),
        (TREE, e.PathHeld(3, 1, 9), "node 9 does not exist"),
        (TREE, e.PathHeld(3, 2, 1), "slot 3 is at version 1: the handle is stale"),
        ([*TREE, e.NodeInserted(4, 1, (8,))], e.PathHeld(0, 1, 4), "the path has 4 tokens, but slot 0 holds 3"),
        (TREE, e.PathUsed(1, 4), "node 1 was used at tick 5 already"),
        (TREE, e.PathLocked(0), "slot 0 is locked already"),
        (TREE, e.PathUnlocked(1), "slot 1 is not locked"),
        # the loop
        (RUNNING, e.StepStarted(3), "step 1 was the last one"),
        ([*RUNNING, e.PhaseStarted("decode")], e.StepStarted(2), "phase decode is in progress"),
        ([*RUNNING, e.PhaseStarted("decode")], e.PhaseStarted("refill"), "phase decode has not ended"),
        ([*RUNNING, e.PhaseStarted("decode")], e.PhaseEnded("refill", 0.0), "the phase in progress is decode"),
        (RUNNING, e.Prefilled(0, 0, 3, 4), "request 0 has 3 of 3 prompt tokens"),
        (ADMITTED, e.Prefilled(9, 3, 1, 2), "request 9 has 0 of 4 prompt tokens"),
        (ADMITTED, e.Prefilled(9, 2, 0, 2), "in slot 3"),
        (ADMITTED, e.Prefilled(9, 3, 0, 5), "request 9 has 0 of 4 prompt tokens"),
        (ADMITTED, e.FirstTokenSampled(9, 1), "request 9 has 0 of 4 prompt tokens and 0 output"),
        (RUNNING, e.FirstTokenSampled(0, 1), "1 output tokens"),
        (RUNNING, four(positions=(3, 2, 3)), "request 1 is at position 3 of slot 1"),
        (RUNNING, four(slots=(0, 2, 1)), "request 1 is at position 3 of slot 1"),
        (RUNNING, four(request_ids=(0, 1, 1), slots=(0, 1, 1)), "request 1 is at position 4 of slot 1"),
        (RUNNING, four(request_ids=(0, 1, 9)), "request 9 is not running"),
        (RUNNING, four(groups=(2,)), "groups of 2 rows in all, but 3 requests"),
        (RUNNING, four(tokens=(5, 5)), "shorter"),
        ([*RUNNING, e.RequestFinished(1, "stop", "")], four(), "request 1 has finished already"),
        ([*ADMITTED, e.Prefilled(9, 3, 0, 4)], four((9,), (3,), (4,), (5,), (1,)), "with 0 output tokens"),
        # no event at all
        (RUNNING, e.Prefilled("nine", 3, 0, 4), "request nine is not running"),
        (ADMITTED, e.Prefilled(9, 3, 0, "four"), "TypeError"),
        (RUNNING, "StepStarted", "KeyError"),
    ],
)
def test_an_impossible_event_is_refused_with_its_number_and_the_reason(events, impossible, reason):
    replayer = replayed(events)
    with pytest.raises(ReplayError, match=f"event {len(events)} is impossible: .*{reason}"):
        replayer.apply(impossible)


def test_a_replayer_needs_a_slot():
    with pytest.raises(ValueError, match="num_slots is 0"):
        Replayer(0)
