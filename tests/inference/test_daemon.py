"""The loop on its own thread: it sleeps when idle, ends in any state, and tells every client how."""

import logging
import threading
import time

import pytest

from astrai.inference.daemon import SchedulerDaemon
from astrai.inference.inbox import EngineDeadError
from astrai.inference.request import Ending, Sampled
from astrai.inference.witness import take_snapshot
from tests.inference.harness import Collector, Harness


class Waitable(Collector):
    """A collector that another thread can wait on."""

    def __init__(self, **options) -> None:
        super().__init__(**options)
        self.ended = threading.Event()

    def on_end(self, ending: Ending) -> None:
        super().on_end(ending)
        self.ended.set()


@pytest.fixture
def daemon(caplog):
    caplog.set_level(logging.CRITICAL)
    harness = Harness(num_slots=2, max_seq_len=64)
    daemon = SchedulerDaemon(harness.scheduler)
    daemon.harness = harness
    yield daemon
    assert daemon.stop(5)


def submit(daemon: SchedulerDaemon, *prompt: int, max_tokens: int = 4, sink: Waitable | None = None) -> Waitable:
    sink = sink or Waitable()
    daemon.harness.submit(prompt, max_tokens=max_tokens, sink=sink)
    return sink


def test_requests_submitted_before_and_after_the_start_are_served(daemon):
    before = submit(daemon, 1, 2)
    daemon.start()
    after = submit(daemon, 3, 4)
    assert before.ended.wait(5) and after.ended.wait(5)
    daemon.harness.check_outputs()


def test_starting_twice_keeps_one_thread(daemon):
    daemon.start()
    threads = threading.active_count()
    daemon.start()
    assert threading.active_count() == threads


def test_an_idle_loop_sleeps_and_takes_no_steps(daemon):
    daemon.start()
    assert submit(daemon, 1, 2).ended.wait(5)
    while daemon.scheduler.has_work:
        time.sleep(0.001)
    steps = daemon.scheduler.step_count
    time.sleep(0.05)
    assert daemon.scheduler.step_count == steps and daemon.is_alive


def test_a_thousand_tokens_take_no_more_than_their_steps(daemon):
    """Defect 16: a sleep of 5 ms per token would take five seconds."""
    daemon.harness.scheduler.max_seq_len = daemon.harness.max_seq_len = 1100
    daemon.harness.runner.rows = [[None] * 1100 for _ in range(2)]
    daemon.harness.scheduler.emit = lambda event: None
    started = time.monotonic()
    daemon.start()
    sink = submit(daemon, 1, 2, max_tokens=1000)
    assert sink.ended.wait(30)
    assert len(sink.tokens) == 1000 and time.monotonic() - started < 4.5


@pytest.mark.parametrize("moment", ["idle", "before start", "waiting", "prefill", "decode"])
def test_a_shutdown_ends_every_request_in_any_state(daemon, moment: str):
    gate, reached = threading.Event(), threading.Event()

    def hold(method):
        def held(work):
            reached.set()
            assert gate.wait(5)
            return method(work)

        return held

    runner = daemon.harness.runner
    if moment in ("prefill", "decode"):
        setattr(runner, moment, hold(getattr(runner, moment)))
    if moment != "before start":
        daemon.start()
    sinks = [] if moment == "idle" else [submit(daemon, n, 1, 2, max_tokens=50) for n in range(5)]
    if moment in ("prefill", "decode"):
        assert reached.wait(5)
        assert not daemon.stop(0.01)  # the step in progress is longer
        gate.set()
    assert daemon.stop(5)
    assert all(sink.ended.is_set() and len(sink.endings) == 1 for sink in sinks)
    assert all(sink.endings[0].reason in ("cancelled", "length") for sink in sinks)
    with pytest.raises(EngineDeadError, match="shut down"):
        submit(daemon, 1, 2)
    assert daemon.harness.replayer.snapshot() == take_snapshot(daemon.scheduler)
    assert not take_snapshot(daemon.scheduler).requests


def test_a_dead_loop_tells_every_client_and_refuses_new_ones(daemon):
    """Defects 3 and 19: never a hang, never an end that looks normal."""
    started, go = threading.Event(), threading.Event()

    def broken_refill() -> None:
        started.set()
        assert go.wait(5)
        raise ZeroDivisionError("planted")

    daemon.scheduler.refill = broken_refill
    daemon.start()
    first = submit(daemon, 1, 2)
    assert started.wait(5)
    second = submit(daemon, 3, 4)
    go.set()
    for sink in (first, second):
        assert sink.ended.wait(5)
        assert sink.endings == [Ending("error", "the engine's loop has died: ZeroDivisionError('planted')")]
    with pytest.raises(EngineDeadError, match=r"the engine's loop has died: ZeroDivisionError\('planted'\)"):
        submit(daemon, 5, 6)
    assert isinstance(daemon.error, ZeroDivisionError)


def test_a_callback_may_stop_the_engine(daemon):
    class Stopper(Waitable):
        def on_token(self, sampled: Sampled) -> bool:
            daemon.stop()
            return super().on_token(sampled)

    sink = Stopper()
    daemon.start()
    submit(daemon, 1, 2, max_tokens=50, sink=sink)
    assert sink.ended.wait(5) and sink.endings[0].reason == "cancelled"
    assert daemon.stop(5)


def test_client_threads_never_free_a_row_themselves(daemon):
    """Defect 18: a cancel from another thread is a command, carried out by the loop in its cleanup."""
    harness = daemon.harness
    request = harness.submit((1, 2), max_tokens=50)
    harness.step()
    canceller = threading.Thread(target=harness.scheduler.cancel, args=(request.request_id,))
    canceller.start()
    canceller.join()
    assert request.request_id in harness.scheduler.running and not harness.cache.slots.free_mask & 1
    harness.step()
    assert request.ending == Ending("cancelled") and harness.cache.slots.free_mask & 1
