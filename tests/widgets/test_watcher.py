"""The thread that looks at a log: it sends what changed, ends with its engine, and keeps nothing alive."""

from __future__ import annotations

import gc
import threading
import time
import weakref
from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import pytest

from astrai.trace import events as e
from astrai.trace.log import EventLog
from astrai.widgets.watcher import BYTES_PER_SECOND, SHARE_OF_A_CORE, Watcher


class Engine:
    """As much of an engine as a watcher looks at."""

    def __init__(self) -> None:
        self.daemon = SimpleNamespace(is_alive=True)
        self.scheduler = SimpleNamespace(inbox=SimpleNamespace(why_closed=None))

    def shut_down(self) -> None:
        self.scheduler.inbox.why_closed = "the engine was shut down"
        self.daemon.is_alive = False


class Screen:
    """Keeps what was sent and why it ended; each can be waited for."""

    def __init__(self, log: EventLog, size: int = 10) -> None:
        self.log, self.size = log, size
        self.sent: list[tuple[float, int]] = []
        self.ends: list[str] = []
        self.changed = threading.Condition()

    def send(self) -> int:
        with self.changed:
            self.sent.append((time.monotonic(), self.log.next_seq))
            self.changed.notify_all()
        return self.size

    def end(self, why: str) -> None:
        with self.changed:
            self.ends.append(why)
            self.changed.notify_all()

    def wait_for(self, question: Any) -> None:
        with self.changed:
            assert self.changed.wait_for(question, 20), (self.sent, self.ends)


def watched(size: int = 10, hz: float = 50) -> tuple[EventLog, Engine, Screen, Watcher]:
    log, engine = EventLog(num_slots=1), Engine()
    screen = Screen(log, size)
    return log, engine, screen, Watcher(log, screen.send, engine=engine, ended=screen.end, hz=hz)


def test_what_happened_is_sent_and_nothing_is_sent_while_nothing_happens() -> None:
    log, engine, screen, watcher = watched()
    watcher.start()
    screen.wait_for(lambda: len(screen.sent) == 1)
    log.emit(e.StepStarted(1))
    screen.wait_for(lambda: screen.sent[-1][1] == 1)
    looked = len(screen.sent)
    time.sleep(0.2)  # ten periods in which nothing happens
    assert len(screen.sent) == looked
    watcher.look_again()
    screen.wait_for(lambda: len(screen.sent) == looked + 1)
    watcher.stop()
    assert not watcher.is_alive and engine


def test_the_last_events_are_sent_before_the_end_is_told() -> None:
    log, engine, screen, watcher = watched(hz=20)
    watcher.start()
    screen.wait_for(lambda: screen.sent)
    log.emit(e.StepStarted(1))
    engine.shut_down()
    screen.wait_for(lambda: screen.ends)
    assert screen.ends == ["the engine was shut down"]
    assert screen.sent[-1][1] == 1


def test_a_watcher_keeps_no_engine_alive_and_ends_with_it() -> None:
    _log, engine, screen, watcher = watched()
    watcher.start()
    gone = weakref.ref(engine)
    del engine
    gc.collect()
    assert gone() is None
    screen.wait_for(lambda: screen.ends == ["the engine is gone"])


def test_an_engine_that_is_stepped_by_hand_is_watched_until_it_is_closed() -> None:
    log, engine, screen, watcher = watched()
    engine.daemon.is_alive = False
    watcher.start()
    screen.wait_for(lambda: screen.sent)
    log.emit(e.StepStarted(1))
    screen.wait_for(lambda: screen.sent[-1][1] == 1)
    assert screen.ends == []
    watcher.stop()


def test_large_pictures_are_sent_less_often() -> None:
    log, engine, screen, watcher = watched(size=BYTES_PER_SECOND // 2)
    watcher.start()
    emitting = threading.Event()

    def emit() -> None:
        step = 0
        while not emitting.wait(0.01):
            step += 1
            log.emit(e.StepStarted(step))

    thread = threading.Thread(target=emit)
    thread.start()
    screen.wait_for(lambda: len(screen.sent) == 3)
    emitting.set()
    thread.join()
    watcher.stop()
    times = [at for at, _ in screen.sent]
    assert min(later - sooner for sooner, later in pairwise(times)) >= 0.5
    assert engine


def test_looking_takes_a_small_share_of_a_core_however_long_a_look_takes() -> None:
    log, engine, screen, _ = watched()

    def spin() -> int:
        end = time.thread_time() + 0.01
        while time.thread_time() < end:
            pass
        return screen.send()

    watcher = Watcher(log, spin, engine=engine, hz=50)
    watcher.start()
    screen.wait_for(lambda: len(screen.sent) == 1)
    log.emit(e.StepStarted(1))
    screen.wait_for(lambda: len(screen.sent) == 2)
    watcher.stop()
    assert screen.sent[1][0] - screen.sent[0][0] >= 0.01 / SHARE_OF_A_CORE
    assert watcher.seconds >= 0.02


def test_a_picture_that_fails_says_so_and_ends() -> None:
    log, engine = EventLog(num_slots=1), Engine()
    screen = Screen(log)

    def fail() -> int:
        raise RuntimeError("planted")

    watcher = Watcher(log, fail, engine=engine, ended=screen.end)
    watcher.start()
    screen.wait_for(lambda: screen.ends)
    assert "planted" in screen.ends[0]
    watcher.stop()


def test_a_rate_that_makes_no_sense_is_refused() -> None:
    with pytest.raises(ValueError, match="hz is 0"):
        Watcher(EventLog(1), lambda: 0, hz=0)
