"""The four phases, one behaviour at a time. Tokens come from a scripted runner; each step is checked in full."""

import logging

import pytest

from astrai.inference.inbox import EngineDeadError, QueueFullError
from astrai.inference.request import Ending, Request
from astrai.trace.events import (
    FirstTokenSampled,
    PathHeld,
    PhaseStarted,
    Prefilled,
    PrefixCopied,
    PrefixMatched,
    RequestFinished,
    RequestHeld,
    RequestsRejected,
    SlotFreed,
    SlotReused,
    TokensDecoded,
)
from tests.inference.harness import Collector, Harness


@pytest.fixture(autouse=True)
def quiet(caplog):
    """Planted failures are logged, as they should be, but not onto the screen."""
    caplog.set_level(logging.CRITICAL)


def prefilled_tokens(harness: Harness) -> int:
    return sum(event.end - event.start for event in harness.of_type(Prefilled))


# --- the loop ---------------------------------------------------------------------------------------------------------


def test_a_step_is_four_phases_in_order():
    harness = Harness()
    harness.step()
    assert [event.phase for event in harness.of_type(PhaseStarted)] == ["cleanup", "refill", "prefill", "decode"]


def test_phases_can_be_run_by_hand_one_at_a_time():
    harness = Harness()
    request, scheduler = harness.submit((1, 2, 3)), harness.scheduler
    scheduler.start_step()
    scheduler.cleanup()
    assert list(scheduler.waiting) == [0] and request.slot is None
    scheduler.refill()
    assert list(scheduler.running) == [0] and request.slot == 0 and request.context_len == 0
    scheduler.prefill()
    assert request.context_len == 3 and len(request.output_ids) == 1
    scheduler.decode()
    assert request.context_len == 4 and len(request.output_ids) == 2
    harness.check()


def test_the_first_token_comes_from_the_prefill_and_no_token_is_fed_twice():
    """Defect 1. The runner refuses a row whose tokens are not exactly prompt + output."""
    harness = Harness()
    request = harness.submit((1, 2, 3), max_tokens=3)
    harness.run()
    assert [event.positions for event in harness.of_type(TokensDecoded)] == [(3,), (4,)]
    assert len(harness.of_type(FirstTokenSampled)) == 1
    assert request.output_ids == harness.expected(request)


def test_a_prompt_is_prefilled_once_however_long_it_waits_to_decode():
    """Defect 13."""
    harness = Harness(num_slots=8, prefill_budget=5)
    for first in range(8):
        harness.submit((first, 1, 2, 3))
    harness.run()
    assert prefilled_tokens(harness) == 8 * 4


def test_no_sleep_stands_between_two_tokens():
    """Defect 16: the clock that the loop would have to wait on is never asked to."""
    harness = Harness()
    harness.submit((1,), max_tokens=20)
    harness.step(20)
    assert len(harness.requests[0].output_ids) == 20


# --- how requests end -------------------------------------------------------------------------------------------------


def test_max_tokens_zero_gives_no_token():
    """Defect 6."""
    harness = Harness()
    request = harness.submit((1, 2), max_tokens=0)
    harness.run()
    assert (request.output_ids, request.ending) == ([], Ending("length"))
    assert prefilled_tokens(harness) == 0


@pytest.mark.parametrize("prompt_len", [30, 31])
def test_a_row_that_fills_up_ends_its_request_with_length(prompt_len: int):
    """Defect 4."""
    harness = Harness(max_seq_len=32)
    request = harness.submit(range(prompt_len), max_tokens=100)
    harness.run()
    assert len(request.output_ids) == 32 - prompt_len and request.ending == Ending("length")


def test_prompts_without_tokens_or_without_room_are_refused_with_the_numbers():
    """Defects 4, 5 and 30: refused to the caller, never cut, and the loop lives on."""
    harness = Harness(max_seq_len=32)
    with pytest.raises(ValueError, match="the prompt has no tokens"):
        harness.submit(())
    with pytest.raises(ValueError, match="prompt has 32 tokens, but a row holds 32"):
        harness.submit(range(32))
    request = harness.submit((1, 2))
    harness.run()
    assert request.ending == Ending("length")
    assert harness.of_type(RequestsRejected) == [RequestsRejected(2, "invalid")]


def test_an_eos_token_ends_with_stop_and_stays_in_the_ids():
    harness = Harness(vocab_size=3, eos_ids=(2,))
    requests = [harness.submit((0, n), max_tokens=25) for n in range(6)]
    harness.run()
    harness.check_outputs()
    stopped = [request for request in requests if request.ending == Ending("stop")]
    assert stopped and all(request.output_ids[-1] == 2 for request in stopped)


def test_an_eos_token_at_prefill_ends_the_request_before_any_decode():
    harness = Harness(vocab_size=1, eos_ids=(0,))
    request = harness.submit((0, 0), max_tokens=5)
    harness.run()
    assert (request.output_ids, request.ending) == ([0], Ending("stop"))
    assert harness.of_type(TokensDecoded) == []


def test_ignore_eos_and_stop_ids_are_each_requests_own():
    harness = Harness(vocab_size=2, eos_ids=(1,))
    ignoring = harness.submit((0, 1, 1), max_tokens=12, ignore_eos=True)
    stopping = harness.submit((0, 1, 0), max_tokens=12, ignore_eos=True, stop_ids=(0,))
    harness.run()
    harness.check_outputs()
    assert ignoring.ending == Ending("length") and stopping.ending == Ending("stop")


def test_a_stop_string_ends_with_stop():
    harness = Harness()
    request = harness.submit((1, 2), max_tokens=9, sink=Collector(stop_at=3))
    harness.run()
    assert len(request.output_ids) == 3 and request.ending == Ending("stop")


def test_a_cancelled_request_loses_its_slot_in_the_next_step():
    """Defect 29, on the scheduler's side."""
    harness = Harness()
    running, other = harness.submit((1, 2), max_tokens=20), harness.submit((3, 4), max_tokens=6)
    harness.step(2)
    harness.scheduler.cancel(running.request_id)
    harness.step()
    assert running.ending == Ending("cancelled") and running.request_id not in harness.scheduler.running
    assert harness.of_type(SlotFreed)[-1].slot == running.slot
    harness.run()
    assert other.output_ids == harness.expected(other)


def test_cancelling_twice_or_after_the_end_does_nothing():
    harness = Harness()
    request = harness.submit((1, 2), max_tokens=2)
    harness.run()
    harness.scheduler.cancel(request.request_id)
    harness.scheduler.cancel(12345)
    harness.run()
    assert request.ending == Ending("length")
    assert len(harness.of_type(RequestFinished)) == 1


def test_a_request_cancelled_in_mid_prefill_leaves_what_was_written():
    harness = Harness(prefill_budget=4)
    request = harness.submit(range(10))
    harness.step()
    harness.scheduler.cancel(request.request_id)
    harness.step()
    assert harness.cache.tree.row_ids(0) == (0, 1, 2, 3)
    again = harness.submit(range(10))
    harness.run()
    assert again.cached_len == 4 and again.output_ids == harness.expected(again)


def test_deadlines_end_waiting_and_running_requests():
    harness = Harness(num_slots=1)
    running = harness.submit((1, 2), max_tokens=25, deadline=3.0)
    waiting = harness.submit((3, 4), deadline=2.0)
    later = harness.submit((5, 6))
    harness.run()
    assert running.ending.reason == waiting.ending.reason == "timeout"
    assert waiting.output_ids == [] and len(running.output_ids) > 1
    assert later.output_ids == harness.expected(later)


def test_a_full_queue_refuses_and_forgets_nobody():
    harness = Harness(num_slots=1, max_waiting=2)
    for first in range(2):
        harness.submit((first, 1))
    with pytest.raises(QueueFullError, match="2 requests wait already"):
        harness.submit((9, 9))
    harness.step()
    harness.submit((8, 8))  # one was admitted, so there is room again
    harness.run()
    harness.check_outputs()
    assert harness.of_type(RequestsRejected) == [RequestsRejected(1, "queue full")]


def test_after_the_inbox_is_closed_submits_are_refused_with_the_reason():
    harness = Harness()
    harness.scheduler.inbox.close("the engine was shut down")
    with pytest.raises(EngineDeadError, match="the engine was shut down"):
        harness.submit((1, 2))


# --- faults -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("phase", ["prefill", "decode"])
def test_an_exception_in_the_model_ends_that_batch_with_the_message_and_nothing_else(phase: str):
    harness = Harness(num_slots=2)
    hit = harness.submit((1, 2, 3), max_tokens=5)
    harness.runner.fail_next.add(phase)
    harness.step()
    assert hit.ending is not None and hit.ending.reason == "error"
    assert f"planted failure in {phase}" in hit.ending.message
    spared = harness.submit((1, 2, 3), max_tokens=5)
    harness.run()
    assert spared.output_ids == harness.expected(spared)


def test_a_failed_chunk_keeps_only_what_stood_before_it():
    harness = Harness(prefill_budget=4)
    harness.submit(range(10))
    harness.step()
    harness.runner.fail_next.add("prefill")
    harness.step(2)
    assert harness.cache.tree.row_ids(0) == (0, 1, 2, 3)


def test_a_failed_copy_ends_its_request_and_the_tree_claims_nothing_of_it():
    harness = Harness(num_slots=2)
    harness.submit((1, 2, 3, 4, 5), max_tokens=1)
    harness.run()
    harness.runner.fail_next.add("copy")
    hit = harness.submit((1, 2, 9), max_tokens=1)
    harness.run()
    assert hit.ending is not None and "planted failure in copy" in hit.ending.message
    assert harness.cache.tree.row_ids(1) == ()


def test_an_exception_in_a_callback_ends_that_request_alone():
    harness = Harness()
    raising = harness.submit((1, 2), max_tokens=6, sink=Collector(raise_at=2))
    other = harness.submit((1, 3), max_tokens=6)
    harness.run()
    assert raising.ending is not None and raising.ending.reason == "error"
    assert "callback raised RuntimeError('planted failure in a callback')" in raising.ending.message
    assert other.output_ids == harness.expected(other)


# --- batching ---------------------------------------------------------------------------------------------------------


def test_grouped_decode_gives_every_group_a_token_in_every_step():
    """Defect 14: the largest group alone would starve the others."""
    harness = Harness(num_slots=6, decode_policy="grouped")
    for length in (3, 3, 3, 3, 5, 9):
        harness.submit([length] * length, max_tokens=8)
    harness.step(3)
    tokens = [len(request.output_ids) for request in harness.requests]
    harness.step()
    assert [len(request.output_ids) for request in harness.requests] == [n + 1 for n in tokens]
    last = harness.of_type(TokensDecoded)[-1]
    assert sorted(last.groups) == sorted(harness.runner.group_sizes[-len(last.groups) :]) and len(last.groups) >= 3
    harness.run()
    harness.check_outputs()


def test_ragged_decode_is_one_forward_for_all_rows():
    harness = Harness(num_slots=4, decode_policy="ragged")
    for length in (2, 5, 7):
        harness.submit([length] * length, max_tokens=6)
    harness.step(3)
    assert harness.of_type(TokensDecoded)[-1].groups == (3,)


def test_a_long_prompt_cannot_stall_the_streams_that_run():
    harness = Harness(num_slots=2, prefill_budget=3, max_seq_len=32)
    stream = harness.submit((1,), max_tokens=20)
    harness.step()
    harness.submit(range(20), max_tokens=1)
    for _ in range(7):
        before = len(stream.output_ids)
        harness.step()
        assert len(stream.output_ids) == before + 1
        assert harness.of_type(Prefilled)[-1].end - harness.of_type(Prefilled)[-1].start <= 3


def test_requests_are_admitted_first_come_first_served():
    harness = Harness(num_slots=2)
    for first in range(5):
        harness.submit((first, 1), max_tokens=2)
    harness.step()
    assert list(harness.scheduler.running) == [0, 1] and list(harness.scheduler.waiting) == [2, 3, 4]
    harness.run()
    harness.check_outputs()


def test_max_running_leaves_rows_that_still_remember():
    harness = Harness(num_slots=4, max_running=1)
    first, second = harness.submit((1, 2, 3), max_tokens=2), harness.submit((4, 5, 6), max_tokens=2)
    harness.step()
    assert list(harness.scheduler.running) == [0]
    harness.run()
    again = harness.submit((1, 2, 3, *first.output_ids, 7), max_tokens=2)
    harness.run()
    assert again.cached_len == 4
    assert second.output_ids == harness.expected(second)


# --- prefixes ---------------------------------------------------------------------------------------------------------


def test_a_burst_computes_a_shared_prefix_once():
    """Defects 15 and 24: matched at refill, and held while a leader is writing."""
    harness = Harness(num_slots=8, prefill_budget=64)
    shared = tuple(range(10))
    for own in range(8):
        harness.submit((*shared, 20 + own, 30), max_tokens=3)
    harness.run()
    harness.check_outputs()
    assert prefilled_tokens(harness) == len(shared) + 8 * 2
    assert {event.leader_id for event in harness.of_type(RequestHeld)} == {0}


def test_others_pass_a_request_that_is_held():
    harness = Harness(num_slots=3, prefill_budget=4)
    harness.submit(range(12), max_tokens=2)
    held = harness.submit((*range(10), 30), max_tokens=2)
    passing = harness.submit((40, 41), max_tokens=2)
    harness.step()
    assert held.slot is None and passing.slot is not None
    harness.run()
    harness.check_outputs()
    assert held.cached_len == 10


def test_many_held_requests_do_not_stand_in_the_way_of_others():
    harness = Harness(num_slots=4, prefill_budget=2, lookahead=4, max_seq_len=64)
    harness.submit(range(40), max_tokens=1)
    for own in range(12):
        harness.submit((*range(38), 41 + own % 5), max_tokens=1)
    passing = harness.submit((49, 48), max_tokens=1)
    harness.step(6)
    assert passing.slot is not None and harness.requests[0].is_prefilling
    harness.run()
    harness.check_outputs()


def test_a_request_is_submitted_once():
    harness = Harness()
    request = harness.submit((1, 2))
    harness.run()
    with pytest.raises(ValueError, match="request 0 was submitted before"):
        harness.scheduler.submit(request)


def test_deadlines_of_requests_that_ended_are_forgotten():
    harness = Harness()
    for _ in range(300):
        harness.submit((1, 2), max_tokens=1, deadline=1e9)
        harness.run()
    assert len(harness.scheduler._deadlines) <= 66


def test_an_interrupt_of_a_step_leaves_a_trace_that_can_be_replayed():
    harness = Harness()
    harness.submit((1, 2, 3))
    harness.runner.decode = lambda requests: (_ for _ in ()).throw(KeyboardInterrupt)
    with pytest.raises(KeyboardInterrupt):
        harness.step()
    del harness.runner.decode
    harness.run()
    harness.check_outputs()


def test_a_held_request_goes_on_when_its_leader_is_cancelled():
    harness = Harness(num_slots=2, prefill_budget=4)
    leader = harness.submit(range(12), max_tokens=2)
    held = harness.submit((*range(10), 30), max_tokens=2)
    harness.step()
    harness.scheduler.cancel(leader.request_id)
    harness.run()
    assert held.cached_len == 4 and held.output_ids == harness.expected(held)


def test_a_prefix_is_never_matched_before_the_forward_that_wrote_it():
    """Defect 23: the tree claims a chunk only after it was computed."""
    harness = Harness(num_slots=3, prefill_budget=4)
    harness.submit(range(12), max_tokens=2)
    harness.step()
    assert harness.cache.match((*range(12), 1)).length == 4
    order = [type(event) for event in harness.events if isinstance(event, Prefilled | PathHeld)]
    assert order.index(Prefilled) < order.index(PathHeld, 1)


def test_the_next_turn_of_a_chat_reuses_the_row_in_place():
    harness = Harness(num_slots=3)
    first = harness.submit((1, 2, 3), max_tokens=4)
    harness.run()
    second = harness.submit((1, 2, 3, *first.output_ids, 9), max_tokens=4)
    harness.run()
    assert second.cached_len == 3 + 4 - 1  # the last sampled token has no KV yet
    assert harness.of_type(SlotReused)[-1].slot == first.slot and not harness.of_type(PrefixCopied)
    harness.check_outputs()


def test_a_cancelled_request_that_comes_back_with_a_hit_runs_to_its_end():
    """Defect 25."""
    harness = Harness(num_slots=2)
    first = harness.submit((1, 2, 3), max_tokens=20)
    harness.step(4)
    harness.scheduler.cancel(first.request_id)
    harness.step()
    again = harness.submit((1, 2, 3, *first.output_ids), max_tokens=20)
    harness.run()
    assert again.cached_len >= 6 and again.output_ids == harness.expected(again)


def test_a_row_taken_for_a_partial_match_gets_a_new_version():
    """Defects 10 and 26: the ghost prefix. The old path must not match what was overwritten."""
    harness = Harness(num_slots=1)
    harness.submit((1, 2, 3, 4, 5), max_tokens=2)
    harness.run()
    version = harness.cache.slots.handle(0).version
    harness.submit((1, 2, 9, 9), max_tokens=2)
    harness.run()
    assert harness.cache.slots.handle(0).version > version
    ghost = harness.submit((1, 2, 3, 4, 5, 6), max_tokens=2)
    harness.run()
    assert ghost.cached_len == 2 and ghost.output_ids == harness.expected(ghost)


def test_a_disabled_prefix_cache_computes_every_prompt():
    harness = Harness(prefix_cache=False)
    for _ in range(3):
        harness.submit((1, 2, 3, 4), max_tokens=2)
    harness.run()
    harness.check_outputs()
    assert prefilled_tokens(harness) == 12 and not harness.of_type(PrefixMatched)


def test_a_thousand_prompts_leave_a_working_tree():
    """Defect 7: nodes that were evicted but stayed linked broke the next match."""
    harness = Harness(num_slots=4, capacity_tokens=20, vocab_size=5)
    for number in range(1000):
        harness.submit((number % 7, number % 11, number % 13, number % 17), max_tokens=1)
        if number % 4 == 3:
            harness.run()
    harness.check_outputs()
    assert harness.cache.tree.num_tokens <= 20


def test_bookkeeping_errors_are_not_taken_for_model_errors():
    """A stale handle or a broken tree must end the loop, never a request in silence."""
    harness = Harness()
    harness.submit((1, 2, 3))
    harness.step()
    harness.cache.slots.renew(0)
    with pytest.raises(RuntimeError, match="stale handle"):
        harness.scheduler.cancel(0)
        harness.scheduler.step()


def test_a_request_knows_what_it_still_has_to_compute():
    request = Request(0, (1, 2, 3, 4, 5), Harness().submit((1,)).sampling)
    request.context_len = request.cached_len = 3
    assert (request.extend_len, request.is_prefilling, request.resident_ids()) == (2, False, (1, 2, 3))
