"""A whole run as frames for a page that plays it: every state that ``RunView`` has, at the end of each step or phase.

``recording`` gives::

    {"schema": 1, "by": "step", "count": 412,
     "labels": [[0, null, 0], [1, null, 14], ...],   # of each frame: the step, the phase that ended, events so far
     "keyframe_every": 64, "keyframes": [state, ...],   # frames 0, 64, 128, ... with the tokens of all slots
     "deltas": [null, {...}, ...],   # what turns frame i - 1 into frame i (see deltas.py); null at keyframes
     "timeline": {...},   # of the whole run: a picture of frame i shows of it what lies before
     "vocab": {"5": " fox", ...}}

Frame 0 is the moment before the first event that the log still has. ``static/player.js`` plays it.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from itertools import chain
from typing import Any, Literal

from astrai.trace.events import Event, FirstTokenSampled, PhaseEnded, RequestArrived, StepStarted, TokensDecoded
from astrai.trace.jsonl import Record
from astrai.trace.log import EventLog, LogView
from astrai.trace.snapshot import Snapshot
from astrai.widgets.data.deltas import diff, patch
from astrai.widgets.data.texts import Decode
from astrai.widgets.data.view import RunView

SCHEMA = 1
FORMS = ("step", "phase")
Label = list[Any]


def recording(
    source: EventLog | str | os.PathLike[str],
    by: Literal["step", "phase"] = "step",
    decode: Decode | None = None,
    keyframe_every: int = 64,
) -> dict[str, Any]:
    """All frames of what a log, or a file that one was recorded to, still has.

    Raises:
        ReplayError: an event is impossible.
        TraceError: the file is no trace.
        OSError: it cannot be read.
    """
    if by not in FORMS:
        raise ValueError(f"by is {by!r}, but frames are made by 'step' or by 'phase'")
    if keyframe_every < 1:
        raise ValueError(f"keyframe_every is {keyframe_every}, but must be at least 1")
    log = source if isinstance(source, EventLog) else EventLog.load(source)
    seen = log.view()
    view = RunView.of(log, decode, seen, keep_steps=None)
    labels, keyframes, deltas = [], [], []
    before: dict[str, Any] = {}
    for index, label in enumerate(_moments(view, seen, by)):
        state = view.state(all_ids=True)
        labels.append(label)
        if index % keyframe_every == 0:
            keyframes.append(state)
        deltas.append(None if index % keyframe_every == 0 else diff(before, state))
        before = state
    return {
        "schema": SCHEMA,
        "by": by,
        "count": len(labels),
        "labels": labels,
        "keyframe_every": keyframe_every,
        "keyframes": keyframes,
        "deltas": deltas,
        "timeline": view.timeline(last=None),
        "vocab": view.vocab(sorted(_ids_in(seen))),
    }


def frames(recorded: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The states of a recording, one after the other. They share what is the same: change none of them."""
    state: dict[str, Any] = {}
    for index, delta in enumerate(recorded["deltas"]):
        state = recorded["keyframes"][index // recorded["keyframe_every"]] if delta is None else patch(state, delta)
        yield state


def _moments(view: RunView, seen: LogView, by: str) -> Iterator[Label]:
    """Applies all records to a view, and stops at each moment that becomes a frame."""
    step, told = seen.base.step, seen.first_seq
    yield [step, None, told]
    for record in seen.records:
        if by == "step" and type(record.event) is StepStarted and view.seq > told:
            told = view.seq
            yield [step, None, told]
        view.apply(record)
        step = record.step
        if by == "phase" and isinstance(record.event, PhaseEnded):
            told = view.seq
            yield [step, record.event.phase, told]
    if view.seq > told:
        yield [step, None, view.seq]


def _ids_in(seen: LogView) -> set[int]:
    ids = _ids_in_state(seen.base)
    for record in seen.records:
        ids.update(_ids_of(record))
    return ids


def _ids_in_state(base: Snapshot) -> set[int]:
    requests = (chain(request.prompt_ids, request.output_ids) for request in base.requests)
    return {*chain.from_iterable(requests), *chain.from_iterable(node.token_ids for node in base.nodes)}


def _ids_of(record: Record) -> tuple[int, ...]:
    event: Event = record.event
    match event:
        case RequestArrived(prompt_ids=ids) | TokensDecoded(token_ids=ids):
            return ids
        case FirstTokenSampled(token_id=token_id):
            return (token_id,)
    return ()
