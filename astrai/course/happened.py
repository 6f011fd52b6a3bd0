"""What an engine did, as a table of the events that one asks for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from astrai.course.stills import TraceTable
from astrai.trace.events import Event, PhaseEnded, PhaseStarted, RequestAdmitted

if TYPE_CHECKING:
    from astrai.inference.engine import InferenceEngine


def happened(engine: InferenceEngine, *kinds: type[Event], request_id: int | None = None) -> TraceTable:
    """The events of these kinds, as a table. With a request's id, only those of the step in which it got its slot.

    Raises:
        ValueError: that request got no slot.
    """
    records = engine.trace.records
    if request_id is not None:
        got = [r.step for r in records if isinstance(r.event, RequestAdmitted) and r.event.request_id == request_id]
        if not got:
            raise ValueError(f"request {request_id} has got no slot in this run: requests count from 0")
        records = [record for record in records if record.step == got[0]]
    shown = (*kinds, PhaseStarted, PhaseEnded)  # by the last two the table knows the phases
    return TraceTable([record for record in records if isinstance(record.event, shown)])
