"""The witness: what happened, kept and replayed, without a tensor.

The functions ``replay`` and ``replay_steps`` are in ``astrai.trace.replay`` (exported here, they would hide it).
"""

from astrai.trace.jsonl import Record, TraceError
from astrai.trace.log import EventLog, LogView, Recording
from astrai.trace.replay import Replayer, ReplayError
from astrai.trace.snapshot import Counters, NodeState, RequestState, SlotState, Snapshot

__all__ = [
    "Counters",
    "EventLog",
    "LogView",
    "NodeState",
    "Record",
    "Recording",
    "ReplayError",
    "Replayer",
    "RequestState",
    "SlotState",
    "Snapshot",
    "TraceError",
]
