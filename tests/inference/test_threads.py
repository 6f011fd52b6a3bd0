"""Many client threads that do as they please: nothing is lost, doubled or hung, and every answer is the right one."""

import logging
import random
import threading
import time
from collections import Counter

import pytest

from astrai.config import SamplingParams
from astrai.inference.engine import GenerationError, GenerationRequest
from astrai.inference.inbox import EngineDeadError, QueueFullError
from astrai.inference.witness import take_snapshot
from astrai.trace.replay import replay

PROMPTS = [[7, 8, 9, *range(10, 10 + n % 5), n] for n in range(40, 60)]


class Client(threading.Thread):
    """Submits, streams, cancels, times out and walks away at random until it is told to stop."""

    def __init__(self, engine, expected, seed: int, until: float) -> None:
        super().__init__(daemon=True)
        self.engine, self.expected, self.until = engine, expected, until
        self.random = random.Random(seed)
        self.seen: Counter[str] = Counter()
        self.failure: BaseException | None = None

    def run(self) -> None:
        try:
            while time.monotonic() < self.until:
                self.one_request()
        except EngineDeadError:
            self.seen["refused: shut down"] += 1
        except BaseException as failure:
            self.failure = failure

    def one_request(self) -> None:
        prompt, length = self.random.choice(PROMPTS), self.random.randint(0, 16)
        sampling = SamplingParams(max_tokens=length, ignore_eos=True)
        timeout = self.random.choice([None, None, 0.001, 0.02])
        try:
            stream = self.engine.submit(GenerationRequest(prompt, sampling=sampling, timeout=timeout))
        except QueueFullError:
            self.seen["queue full"] += 1
            time.sleep(0.001)
            return
        self.random.choice([self.wait, self.read, self.cancel, self.leave])(stream)
        result = stream.result(timeout=60)
        self.seen[result.finish_reason] += 1
        wanted = self.expected[tuple(prompt)][:length]
        given = list(result.token_ids)
        assert given == wanted if result.finish_reason == "length" else given == wanted[: len(given)]
        assert "".join(stream.output.pieces) == result.text

    def wait(self, stream) -> None:
        stream.result(timeout=60)

    def read(self, stream) -> None:
        try:
            assert "".join(stream) == stream.result().text
        except GenerationError:
            assert stream.result().finish_reason == "cancelled"  # by the shutdown

    def cancel(self, stream) -> None:
        time.sleep(self.random.random() * 0.01)
        stream.cancel()
        stream.cancel()

    def leave(self, stream) -> None:
        try:
            next(iter(stream), None)
        except GenerationError:
            assert stream.result().finish_reason == "cancelled"
        stream.cancel()


def storm(make_engine, seconds: float, shut_down_early: bool) -> Counter[str]:
    logging.disable(logging.CRITICAL)
    engine = make_engine(num_slots=8, max_waiting=40, capacity_tokens=100, prefill_budget=16, trace_events=2000)
    expected = {
        tuple(prompt): list(
            engine.submit(GenerationRequest(prompt, sampling=SamplingParams(max_tokens=16, ignore_eos=True)))
            .result(60)
            .token_ids
        )
        for prompt in PROMPTS
    }
    until = time.monotonic() + seconds
    clients = [Client(engine, expected, seed, until) for seed in range(64)]
    for client in clients:
        client.start()
    if shut_down_early:
        time.sleep(seconds / 2)
        assert engine.shutdown(10)
    for client in clients:
        client.join(seconds + 90)
        assert not client.is_alive(), "a client hangs"
        assert client.failure is None, repr(client.failure)
    assert engine.shutdown(10)
    logging.disable(logging.NOTSET)
    stats, seen = engine.stats(), sum((client.seen for client in clients), Counter())
    assert stats.free_slots == stats.num_slots and stats.running == stats.waiting == 0
    assert sum(stats.finished.values()) == stats.arrived == len(PROMPTS) + sum(seen[r] for r in stats.finished)
    engine.scheduler.check_integrity()
    assert replay(engine.trace) == take_snapshot(engine.scheduler)
    return seen


@pytest.mark.parametrize("shut_down_early", [False, True])
def test_sixty_four_clients_lose_and_double_nothing(make_engine, shut_down_early: bool):
    seen = storm(make_engine, seconds=4, shut_down_early=shut_down_early)
    assert seen["length"] and seen["cancelled"] and seen["timeout"], seen


@pytest.mark.nightly
@pytest.mark.timeout(300)
def test_sixty_four_clients_for_thirty_seconds(make_engine):
    seen = storm(make_engine, seconds=30, shut_down_early=False)
    assert seen["length"] > 100 and seen["cancelled"] and seen["timeout"], seen
