"""What the witness costs: `python -m tests.trace.test_cost` shows it, the suite only guards against a blunder."""

import gc
import time
from itertools import islice

from astrai.trace import EventLog, Replayer
from astrai.trace import events as e
from tests.trace.streams import decode_stream


def seconds_per_call(call, values, chunk=500):
    """The best mean over a chunk of calls, which a busy machine disturbs least."""
    values, best = iter(values), float("inf")
    gc.disable()
    try:
        while part := list(islice(values, chunk)):
            start = time.perf_counter()
            for value in part:
                call(value)
            if len(part) == chunk:
                best = min(best, (time.perf_counter() - start) / chunk)
    finally:
        gc.enable()
    return best


def measure(tmp_path=None):
    """Microseconds per event; the stream is that of 16 rows that decode, 10 events a step."""
    events = decode_stream(1500, num_slots=16)
    ready = Replayer(16)
    begun = next(k for k, event in enumerate(events) if type(event) is e.TokensDecoded)
    for event in events[:begun]:
        ready.apply(event)
    decoded = [event for event in events if type(event) is e.TokensDecoded]
    figures = {
        "null sink": seconds_per_call(lambda event: None, events),
        "emit, ring not full": seconds_per_call(EventLog(16, 10**6).emit, events),
        "emit and fold": seconds_per_call(EventLog(16, 1000).emit, events),
        "replay": seconds_per_call(Replayer(16).apply, events),
        "replay TokensDecoded of 16 rows": seconds_per_call(ready.apply, decoded),
        "snapshot": seconds_per_call(lambda _: ready.snapshot(), range(20), chunk=20),
    }
    if tmp_path is not None:
        log = EventLog(16, 1000)
        with log.record(tmp_path / "run.jsonl"):
            figures["emit, fold and record"] = seconds_per_call(log.emit, events)
    return {name: seconds * 1e6 for name, seconds in figures.items()}


def test_emitting_an_event_is_cheap(tmp_path):
    figures = measure(tmp_path)
    assert figures["emit and fold"] < 30, figures
    assert figures["replay TokensDecoded of 16 rows"] < 100, figures


if __name__ == "__main__":
    import tempfile
    from pathlib import Path

    with tempfile.TemporaryDirectory() as folder:
        for name, value in measure(Path(folder)).items():
            print(f"{name:35}{value:9.2f} us")
