"""The cost of being watched is measured on the same steps with and without a trace."""

import time

from astrai.model.transformer import Transformer
from astrai.trace.events import StepStarted
from benchmarks.loads import mixed
from benchmarks.watching import TimedEmit, measure
from tests.benchmarks.micro import MICRO


def test_the_share_of_the_trace_is_measured_over_all_steps() -> None:
    figures = measure(Transformer.random(MICRO, seed=0), mixed(3, (4, 6), (5, 5)), repeats=1)
    assert figures["steps"] >= 5
    assert figures["events"] > 10 * figures["steps"]
    assert 0 < figures["share_of_cpu_time"]["median"] < 1


def test_a_slow_sink_shows_in_the_measured_time() -> None:
    def spin(event: object) -> None:
        end = time.thread_time() + 0.001
        while time.thread_time() < end:
            pass

    timed = TimedEmit(spin)
    for step in range(5):
        timed(StepStarted(step))
    assert timed.events == 5
    assert 0.005 <= timed.seconds < 0.05
