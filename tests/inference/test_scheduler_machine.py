"""The whole scheduler under random use: every promise is checked after every step, every output at the end."""

import logging

import hypothesis.strategies as st
import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule, run_state_machine_as_test

from astrai.inference.inbox import QueueFullError
from tests.inference.harness import Collector, Harness

ROW = 24
SHORT = st.lists(st.integers(0, 3), min_size=1, max_size=5).map(tuple)
FAMILIES = tuple(tuple((seed * position) % 4 for position in range(ROW)) for seed in (1, 2, 3))


class SchedulerMachine(RuleBasedStateMachine):
    """Clients that submit, repeat, continue, cancel and fail, and a loop that is stepped in between."""

    @initialize(
        num_slots=st.integers(1, 5),
        idle_slots=st.integers(0, 2),
        prefill_budget=st.integers(1, 12),
        policy=st.sampled_from(["ragged", "grouped"]),
        capacity=st.none() | st.integers(0, 60),
        prefix_cache=st.sampled_from([True, True, True, False]),
        lookahead=st.integers(1, 8),
    )
    def build(self, num_slots, idle_slots, prefill_budget, policy, capacity, prefix_cache, lookahead) -> None:
        logging.disable(logging.CRITICAL)
        self.harness = Harness(
            num_slots=num_slots,
            max_running=max(1, num_slots - idle_slots),
            max_seq_len=ROW,
            vocab_size=4,
            prefill_budget=prefill_budget,
            decode_policy=policy,
            capacity_tokens=capacity,
            prefix_cache=prefix_cache,
            lookahead=lookahead,
            eos_ids=(3,),
            max_waiting=12,
        )

    def submit(self, prompt_ids: tuple[int, ...], **options) -> None:
        try:
            self.harness.submit(prompt_ids[: ROW - 1], **options)
        except QueueFullError:
            assert len(self.harness.requests) >= 12

    @rule(tokens=SHORT, max_tokens=st.integers(0, 8), deadline=st.none() | st.integers(1, 30))
    def submit_fresh(self, tokens, max_tokens, deadline) -> None:
        self.submit(tokens, max_tokens=max_tokens, deadline=deadline and self.harness.now + deadline)

    @rule(family=st.sampled_from(FAMILIES), length=st.integers(1, ROW), tokens=SHORT, burst=st.integers(1, 4))
    def submit_sharing(self, family, length, tokens, burst) -> None:
        for own in range(burst):
            self.submit((*family[:length], own % 4, *tokens), max_tokens=3)

    @precondition(lambda self: self.harness.requests)
    @rule(data=st.data(), tokens=SHORT)
    def submit_next_turn(self, data, tokens) -> None:
        earlier = data.draw(st.sampled_from(self.harness.requests))
        self.submit((*earlier.prompt_ids, *earlier.output_ids, *tokens), max_tokens=4, ignore_eos=True)

    @rule(tokens=SHORT, raise_at=st.none() | st.integers(1, 4), stop_at=st.none() | st.integers(1, 4))
    def submit_with_a_sink(self, tokens, raise_at, stop_at) -> None:
        self.submit(tokens, max_tokens=6, sink=Collector(raise_at, stop_at))

    @precondition(lambda self: self.harness.requests)
    @rule(data=st.data())
    def cancel(self, data) -> None:
        self.harness.scheduler.cancel(data.draw(st.integers(0, len(self.harness.requests))))

    @rule(name=st.sampled_from(["copy", "prefill", "decode"]))
    def plant_a_failure(self, name) -> None:
        self.harness.runner.fail_next.add(name)

    @rule(times=st.integers(1, 4))
    def step(self, times) -> None:
        self.harness.step(times)

    def teardown(self) -> None:
        if hasattr(self, "harness"):
            self.harness.runner.fail_next.clear()
            self.harness.run()
            self.harness.check_outputs()
            assert not self.harness.scheduler.running and not self.harness.scheduler.waiting
            assert self.harness.cache.slots.free_mask.bit_count() == self.harness.cache.slots.num_slots
        logging.disable(logging.NOTSET)


def run_machine(max_examples: int, steps: int) -> int:
    """Run so many random lives of a scheduler; return the operations that were executed."""
    operations = 0

    class CountingMachine(SchedulerMachine):
        def check_invariants(self, settings, *args, **kwargs) -> None:  # called by hypothesis after every rule
            nonlocal operations
            operations += 1
            super().check_invariants(settings, *args, **kwargs)

    run_state_machine_as_test(
        CountingMachine,
        settings=settings(
            max_examples=max_examples,
            stateful_step_count=steps,
            deadline=None,
            suppress_health_check=list(HealthCheck),
            database=None,
        ),
    )
    return operations


def test_random_use_keeps_every_promise():
    assert run_machine(max_examples=250, steps=40) > 3_000


@pytest.mark.nightly
@pytest.mark.timeout(3600)
def test_two_hundred_thousand_random_operations_keep_every_promise():
    operations = 0
    while operations < 200_000:
        operations += run_machine(max_examples=2000, steps=60)
