import logging
import random

import pytest

from astrai.config import EngineConfig, SamplingParams
from astrai.inference.cache.slots import SlotAllocator
from astrai.inference.engine import GenerationRequest
from astrai.inference.inbox import QueueFullError
from astrai.inference.recorded import Recorded
from astrai.inference.request import Ending
from astrai.inference.rerun import MOST_IDLE_STEPS, RerunError, rerun
from astrai.inference.scheduler import InferenceScheduler
from astrai.inference.witness import take_snapshot
from astrai.trace import EventLog, ReplayError
from astrai.trace import events as e
from astrai.trace.replay import replay, replay_steps
from tests.inference.harness import Collector, Harness

ROW = 32
SEEDS = 10
PLAIN = dict(num_slots=3, prefill_budget=6)


def log_of(harness, config, **header):
    header = {"engine_config": config.to_dict(), "model_config": {"max_seq_len": ROW}, **header}
    log = EventLog(config.num_slots, header=header)
    for event in harness.events:
        log.emit(event)
    return log


def make(config, scheduler=InferenceScheduler):
    config = config.on("cpu")
    harness = Harness(
        config.num_slots,
        ROW,
        capacity_tokens=config.capacity_tokens,
        prefix_cache=config.prefix_cache,
        max_running=config.running_limit,
        max_waiting=config.max_waiting,
        prefill_budget=config.prefill_budget,
        decode_policy=config.decode_policy,
    )
    if scheduler is not InferenceScheduler:
        harness.scheduler.__class__ = scheduler
    return harness


def random_config(rng):
    return EngineConfig(
        num_slots=rng.choice([1, 2, 4]),
        max_waiting=rng.choice([4, 100]),
        prefill_budget=rng.choice([2, 3, 8, 100]),
        capacity_tokens=rng.choice([None, 0, 30]),
        decode_policy=rng.choice(["ragged", "grouped"]),
        prefix_cache=rng.random() < 0.8,
    )


def random_run(seed, model_fails=False, scheduler=InferenceScheduler):
    """Clients that come, go away, run out of time and raise; too many of them; and a model that fails."""
    rng = random.Random(seed)
    config = random_config(rng)
    harness = make(config, scheduler)
    stems = [[rng.randrange(50) for _ in range(14)] for _ in range(2)]
    for _ in range(rng.randint(8, 14)):
        for _ in range(rng.choice([0, 0, 1, 3])):
            prompt = [*rng.choice(stems)[: rng.randint(0, 14)], *(rng.randrange(50) for _ in range(rng.randint(1, 6)))]
            end = rng.choice([None, None, "raise", "stop"])
            sink = Collector(raise_at=2 if end == "raise" else None, stop_at=3 if end == "stop" else None)
            deadline = harness.now + rng.randint(1, 9) if rng.random() < 0.2 else None
            try:
                harness.submit(prompt, rng.choice([0, 1, 4, 6, 9]), sink, deadline)
            except QueueFullError:
                assert config.max_waiting == 4
        if harness.requests and rng.random() < 0.2:
            harness.scheduler.cancel(rng.choice(harness.requests).request_id)
        if model_fails and rng.random() < 0.15:
            harness.runner.fail_next = {rng.choice(["prefill", "decode", "copy"])}
        harness.step()
    harness.runner.fail_next = set()
    harness.run()
    return harness, config


def events_of(log):
    return [e.PhaseEnded(r.event.phase, 0.0) if isinstance(r.event, e.PhaseEnded) else r.event for r in log.records]


def outputs(log):
    tokens = {}
    for event in events_of(log):
        if isinstance(event, e.FirstTokenSampled):
            tokens[event.request_id] = [event.token_id]
        elif isinstance(event, e.TokensDecoded):
            for request_id, token_id in zip(event.request_ids, event.token_ids, strict=True):
                tokens[request_id].append(token_id)
    return tokens


def endings(log):
    return {event.request_id: event.reason for event in events_of(log) if isinstance(event, e.RequestFinished)}


def forwards(log):
    return sum(len(event.groups) for event in events_of(log) if isinstance(event, e.TokensDecoded))


@pytest.fixture(autouse=True)
def quiet():
    logging.getLogger("astrai.scheduler").disabled = True
    yield
    logging.getLogger("astrai.scheduler").disabled = False


# --- under the same policy --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(SEEDS))
def test_a_fork_at_any_step_under_the_same_policy_repeats_the_whole_run(seed):
    harness, config = random_run(seed)
    log = log_of(harness, config)
    expected = events_of(log)
    for until_step in range(harness.scheduler.step_count + 1):
        assert events_of(rerun(log, until_step)) == expected, f"forked after step {until_step}"


@pytest.mark.parametrize("seed", range(SEEDS))
def test_a_run_in_which_the_model_failed_is_repeated_up_to_the_last_step(seed):
    harness, config = random_run(seed, model_fails=True)
    log = log_of(harness, config)
    assert events_of(rerun(log, harness.scheduler.step_count)) == events_of(log)


def test_the_runs_that_are_repeated_hold_everything_that_can_happen():
    seen, reasons, phases_that_failed = set(), set(), set()
    for seed in range(SEEDS):
        for model_fails in (False, True):
            harness, config = random_run(seed, model_fails)
            phases_that_failed |= {phase for _, phase in Recorded(log_of(harness, config)).failures}
            seen |= {type(event) for event in harness.events}
            reasons |= {(event.reason, event.message[:9]) for event in harness.of_type(e.RequestFinished)}
    assert seen == set(e.EVENT_TYPES.values())
    assert {reason for reason, _ in reasons} == set(e.FINISH_REASONS)
    assert {("error", "the model"), ("error", "the reque")} <= reasons
    assert phases_that_failed == {"refill", "prefill", "decode"}


def test_a_repeated_run_replays_and_is_the_same_each_time(tmp_path):
    harness, config = random_run(3)
    log = log_of(harness, config)
    first, second = rerun(log, 5, then={"prefill_budget": 2}), rerun(log, 5, then={"prefill_budget": 2})
    assert first.records == second.records
    assert len(list(replay_steps(first))) == replay(first).step
    first.save(tmp_path / "fork.jsonl")
    assert EventLog.load(tmp_path / "fork.jsonl").records == first.records


def test_a_log_from_a_file_is_repeated_like_the_log_itself(tmp_path):
    harness, config = random_run(1)
    log = log_of(harness, config)
    log.save(tmp_path / "run.jsonl")
    assert rerun(EventLog.load(tmp_path / "run.jsonl"), 4).records == rerun(log, 4).records


# --- under another policy ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(
    "then", [{"decode_policy": "grouped"}, {"decode_policy": "ragged"}, {"prefill_budget": 2}, {"max_running": 1}]
)
def test_another_policy_gives_each_request_the_tokens_that_it_got(seed, then):
    harness, config = random_run(seed)
    log = log_of(harness, config)
    was, ended = outputs(log), endings(log)
    for until_step in range(0, harness.scheduler.step_count + 1, 9):
        fork = rerun(log, until_step, then=then)
        assert replay(fork).requests == ()
        assert endings(fork).keys() == ended.keys()
        for request_id, tokens in outputs(fork).items():
            assert tokens == was.get(request_id, [])[: len(tokens)]
        for request_id, reason in ended.items():
            if reason in ("stop", "length"):
                # A slower policy may let a deadline pass, or a client go, that was not concerned before.
                assert outputs(fork).get(request_id) == was.get(request_id)
                assert endings(fork)[request_id] == reason


def burst(config):
    harness = make(config)
    for index in range(4):
        harness.submit([index + 1] * (index + 3), max_tokens=9)
    return harness


def test_grouped_decode_takes_more_forwards_for_the_same_tokens_and_steps():
    config = EngineConfig(num_slots=4, prefill_budget=100)
    harness = burst(config)
    harness.run()
    log = log_of(harness, config)
    fork = rerun(log, 2, then={"decode_policy": "grouped"})
    assert outputs(fork) == outputs(log)
    assert replay(fork).step == harness.scheduler.step_count
    # Four rows at four positions: one forward a step becomes four. 8 decodes each, of which 2 are before the fork.
    assert (forwards(log), forwards(fork)) == (8, 2 + 6 * 4)


def test_no_more_than_max_running_run_after_the_fork():
    config = EngineConfig(num_slots=4, prefill_budget=100)
    harness = burst(config)
    harness.run()
    fork = rerun(log_of(harness, config), 0, then={"max_running": 2})
    assert max(len(state.running) for _, state in replay_steps(fork)) == 2


def test_before_the_fork_nothing_changes_and_after_it_the_first_decode_does():
    config = EngineConfig(num_slots=4, prefill_budget=100)
    harness = burst(config)
    harness.run()
    fork = rerun(log_of(harness, config), 3, then={"decode_policy": "grouped"})
    groups = [(r.step, r.event.groups) for r in fork.records if isinstance(r.event, e.TokensDecoded)]
    assert groups[:5] == [(1, (4,)), (2, (4,)), (3, (4,)), (4, (1, 1, 1, 1)), (5, (1, 1, 1, 1))]


class NewestFirst(InferenceScheduler):
    def refill(self):
        with self._in_phase("refill"):
            for request in reversed(list(self.waiting.values())):
                if self.can_admit():
                    self._admit(request, self.cache.match(request.prompt_ids))


def test_the_scheduler_after_the_fork_can_be_the_learners_own():
    config = EngineConfig(num_slots=1)
    harness = burst(config)
    harness.run()
    log = log_of(harness, config)
    fork = rerun(log, 3, then={"scheduler": NewestFirst})

    def admitted(log):
        return [event.request_id for event in events_of(log) if isinstance(event, e.RequestAdmitted)]

    assert (admitted(log), admitted(fork)) == ([0, 1, 2, 3], [0, 3, 2, 1])
    assert outputs(fork) == outputs(log)


@pytest.mark.parametrize("seed", range(4))
def test_another_scheduler_that_decides_alike_takes_over_everything(seed):
    class Alike(InferenceScheduler):
        pass

    harness, config = random_run(seed)
    log = log_of(harness, config)
    for until_step in range(0, harness.scheduler.step_count, 3):
        assert events_of(rerun(log, until_step, then={"scheduler": Alike})) == events_of(log)


def test_a_scheduler_that_takes_over_stands_where_the_other_stood():
    harness = make(EngineConfig(num_slots=2))
    for index in range(4):
        harness.submit([index + 1] * 5, max_tokens=2)
    harness.step(3)
    after = InferenceScheduler(harness.runner, harness.cache, max_seq_len=ROW)
    after.take_over(harness.scheduler)
    assert take_snapshot(after) == take_snapshot(harness.scheduler)
    after.check_integrity()


@pytest.mark.parametrize("seed", range(4))
def test_a_run_of_the_learners_own_scheduler_is_repeated_with_that_scheduler(seed):
    harness, config = random_run(seed, scheduler=NewestFirst)
    log = log_of(harness, config)
    for until_step in (0, 5, harness.scheduler.step_count):
        assert events_of(rerun(log, until_step, scheduler=NewestFirst)) == events_of(log)


def test_the_header_says_how_the_fork_was_made():
    harness, config = random_run(1)
    fork = rerun(log_of(harness, config, tokenizer_hash="f00d"), 4, then={"max_running": 1, "prefill_budget": 3})
    assert fork.header["scripted"] is True and fork.header["forked_after"] == 4
    assert fork.header["tokenizer_hash"] == "f00d"
    assert EngineConfig(**fork.header["engine_config"]).max_running == 1
    assert {r.event.seconds for r in fork.records if isinstance(r.event, e.PhaseEnded)} == {0.0}
    assert {r.time - r.step for r in fork.records} == {0.0}


# --- what is not known ------------------------------------------------------------------------------------------------


def test_requests_of_a_run_that_is_not_over_end_where_their_tokens_end():
    config = EngineConfig(num_slots=2, prefill_budget=100)
    harness = burst(config)  # of four requests two run, the others wait
    harness.step(5)
    log = log_of(harness, config)
    for until_step in range(6):
        fork = rerun(log, until_step)
        assert events_of(fork)[: len(log)] == events_of(log)
        assert endings(fork) == dict.fromkeys(range(4), "cancelled")
        assert outputs(fork) == outputs(log)
        assert replay(fork).counters.prefilled_tokens == sum(range(3, 7))


def test_requests_that_a_shutdown_ended_end_where_their_tokens_end():
    config = EngineConfig(num_slots=2, prefill_budget=100)
    harness = burst(config)
    harness.step(5)
    harness.scheduler.inbox.close("the engine was shut down")
    harness.scheduler.end_all(Ending("cancelled", "the engine was shut down"))
    log = log_of(harness, config)
    for then in ({"decode_policy": "grouped"}, {"max_running": 1}):
        fork = rerun(log, 0, then=then)
        assert endings(fork) == dict.fromkeys(range(4), "cancelled") and outputs(fork) == outputs(log)
    with pytest.raises(ValueError, match="0 to 5 complete steps"):
        rerun(log, 6)


def test_a_cancelled_request_that_ran_out_of_tokens_keeps_its_row_until_its_client_goes():
    config = EngineConfig(num_slots=2, prefill_budget=2)
    harness = make(config)
    request = harness.submit([1] * 12, max_tokens=100)
    harness.step(9)  # six steps of prefill, the last of which gives two tokens
    harness.scheduler.cancel(request.request_id)
    harness.run()
    log = log_of(harness, config)
    assert len(request.output_ids) == 5
    fork = rerun(log, 0, then={"prefill_budget": 100})
    states = dict(replay_steps(fork))
    assert [len(states[step].requests[0].output_ids) for step in range(1, 10)] == [2, 3, 4, 5, 5, 5, 5, 5, 5]
    assert states[9].slots[0].request_id == 0 and states[10].slots[0].request_id is None
    assert forwards(fork) == 4


def test_deadlines_pass_in_the_order_of_the_log():
    config = EngineConfig(num_slots=4)
    harness = make(config)
    for deadline in (3.9, 3.5, 3.2, 2.5):
        harness.submit([1, 2, 3], max_tokens=20, deadline=deadline)
    harness.run()
    log = log_of(harness, config)
    assert [event.request_id for event in harness.of_type(e.RequestFinished)] == [3, 2, 1, 0]
    for until_step in range(harness.scheduler.step_count + 1):
        assert events_of(rerun(log, until_step)) == events_of(log)


def test_a_model_that_failed_after_the_fork_does_not_fail_again():
    config = EngineConfig(num_slots=4, prefill_budget=100)
    harness = burst(config)
    harness.step(3)
    harness.runner.fail_next = {"decode"}
    harness.run()
    log = log_of(harness, config)
    assert set(endings(log).values()) == {"error"}
    for then in ({}, {"prefill_budget": 4}):
        fork = rerun(log, 0, then=then)
        assert set(endings(fork).values()) == {"cancelled"} and outputs(fork) == outputs(log)


# --- a whole engine ---------------------------------------------------------------------------------------------------


def test_an_engine_repeats_its_own_run_with_its_own_parts(make_engine):
    engine = make_engine(num_slots=4, slots=OddVersions, scheduler=NewestFirst, decode_policy="grouped")
    prompts = ["The fox", "The fox ran", "a", "ran to the river"]
    texts = engine.generate(prompts, max_tokens=6, stop="e", temperature=1.0)
    texts += engine.generate(prompts, max_tokens=6, stop="e", temperature=1.0)
    steps = engine.stats().steps
    log = engine.rerun(steps)
    assert events_of(log) == events_of(engine.trace)[: len(log)] and log.next_seq == engine.trace.next_seq
    other = engine.rerun(1, decode_policy="ragged", scheduler=InferenceScheduler)
    assert outputs(other) == outputs(engine.trace) and len(texts) == 8
    given = [[ev.version for ev in events_of(run) if isinstance(ev, e.RequestAdmitted)] for run in (log, other)]
    assert all(version % 2 for versions in given for version in versions), "a slot's versions are odd in this engine"
    assert max(map(max, given)) > 1, "no slot was handed out twice: this shows nothing"


def test_an_engine_repeats_its_run_while_it_goes_on(make_engine):
    engine = make_engine(num_slots=2)
    stream = engine.submit(GenerationRequest("The fox", sampling=SamplingParams(max_tokens=40, ignore_eos=True)))
    stream.output.wait_for_piece(3)
    fork = engine.rerun(2, decode_policy="grouped")
    assert events_of(fork)[:40] == events_of(engine.trace)[:40]
    assert set(endings(fork)) == {stream.request_id}


# --- refusals ---------------------------------------------------------------------------------------------------------


def test_a_log_whose_beginning_has_left_the_ring_is_refused_with_the_remedy():
    harness, config = random_run(1)
    small = EventLog(config.num_slots, capacity=50, header=log_of(harness, config).header)
    for event in harness.events:
        small.emit(event)
    with pytest.raises(ValueError, match="trace_events"):
        rerun(small, 3)


def test_a_log_that_does_not_say_its_settings_is_refused():
    with pytest.raises(ValueError, match="engine_config"):
        rerun(EventLog(2), 0)
    with pytest.raises(ValueError, match="the log has 2 slots, but its engine_config 3"):
        rerun(EventLog(2, header={"engine_config": EngineConfig(num_slots=3, max_seq_len=9).to_dict()}), 0)
    with pytest.raises(ValueError, match="max_seq_len"):
        rerun(EventLog(2, header={"engine_config": EngineConfig(num_slots=2).to_dict()}), 0)


@pytest.mark.parametrize(
    ("until_step", "then", "words"),
    [
        (-1, {}, "0 to"),
        (999, {}, "0 to"),
        (1, {"num_slots": 9}, "num_slots cannot change in mid-run"),
        (1, {"decode_policy": "fast"}, "choose 'ragged' or 'grouped'"),
        (1, {"prefill_budget": 0}, "prefill_budget is 0"),
    ],
)
def test_what_cannot_be_done_is_refused_in_words(until_step, then, words):
    harness, config = random_run(2)
    with pytest.raises(ValueError, match=words):
        rerun(log_of(harness, config), until_step, then=then)


class OddVersions(SlotAllocator):
    def renew(self, slot):
        super().renew(slot)
        self.versions[slot] += self.versions[slot] % 2 == 0
        return self.handle(slot)


class Unfair(InferenceScheduler):
    def can_admit(self):
        return not self.running and super().can_admit()


def test_a_run_that_takes_another_course_than_recorded_is_refused_at_the_first_event_that_differs():
    config = EngineConfig(num_slots=4)
    harness = burst(config)
    harness.run()
    with pytest.raises(
        RerunError, match=r"event \d+, in step 1, is another one .* instead of 'slot 1 v1: handed to request 1"
    ):
        rerun(log_of(harness, config), 3, scheduler=Unfair)


class Closed(InferenceScheduler):
    def refill(self):
        with self._in_phase("refill"):
            pass


class Broken(InferenceScheduler):
    def refill(self):
        raise ZeroDivisionError("nobody gets in")


def test_a_scheduler_that_serves_nobody_is_stopped_in_words():
    harness, config = random_run(2)
    with pytest.raises(RerunError, match=f"nothing has happened for {MOST_IDLE_STEPS:,} steps"):
        rerun(log_of(harness, config), 3, then={"scheduler": Closed})


def test_an_error_of_the_learners_scheduler_comes_through_with_the_step():
    harness, config = random_run(2)
    with pytest.raises(ZeroDivisionError) as caught:
        rerun(log_of(harness, config), 3, then={"scheduler": Broken})
    assert caught.value.__notes__ == ["This was in step 4 of a run that was repeated."]


def test_a_log_with_an_impossible_event_is_refused():
    log = EventLog(2, capacity=1, header={"engine_config": EngineConfig(num_slots=2).to_dict()})
    log.emit(e.StepStarted(7))
    log.emit(e.StepStarted(8))
    with pytest.raises(ReplayError):
        rerun(log, 1)
