"""The engine's state, rebuilt from its events alone.

A ``Replayer`` is a second bookkeeper that believes nothing: it applies each event to its own small model and refuses
one that could not have happened, so that a wrong trace cannot pass for a run. It knows no tensor, no text and no
engine, and it never looks at times.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self

from astrai.trace import events as e
from astrai.trace.events import FINISH_REASONS, FinishReason, Phase
from astrai.trace.replay_tree import ReplayedTree, ReplayError
from astrai.trace.snapshot import Counters, RequestState, SlotState, Snapshot

if TYPE_CHECKING:
    from astrai.trace.log import EventLog


@dataclass(eq=False, slots=True)
class _Row:
    slot: int
    version: int = 0
    owner: int | None = None
    context_len: int = 0
    locked: bool = False

    def state(self, node_id: int) -> SlotState:
        return SlotState(self.slot, self.version, self.owner, self.context_len, node_id, self.locked)


@dataclass(eq=False, slots=True)
class _Request:
    request_id: int
    prompt_ids: tuple[int, ...]
    output_ids: list[int] = field(default_factory=list)
    row: _Row | None = None
    cached_len: int = 0
    leader_id: int | None = None
    finish_reason: FinishReason | None = None

    def state(self) -> RequestState:
        slot, version, context_len = (row.slot, row.version, row.context_len) if (row := self.row) else (None, 0, 0)
        return RequestState(
            self.request_id,
            self.prompt_ids,
            tuple(self.output_ids),
            slot,
            version,
            self.cached_len,
            context_len,
            self.leader_id,
            self.finish_reason,
        )


class Replayer:
    """The state after ``applied`` events, which is also the ``seq`` of the next one.

    What must come before what: the slot's events (``SlotAllocated`` or ``SlotReused``, ``PrefixCopied``) before
    ``RequestAdmitted``; ``Prefilled`` or ``PrefixCopied`` before the ``PathHeld`` that claims those
    tokens; ``PathHeld`` before the ``NodeEvicted`` and ``NodeMerged`` that follow from it; ``TokensDecoded`` before
    the ``RequestFinished`` of its rows; ``RequestFinished`` before ``SlotFreed``.

    Example:
        >>> from astrai.trace.events import RequestArrived, SlotAllocated
        >>> replayer = Replayer(num_slots=2)
        >>> replayer.apply(RequestArrived(7, (1, 2, 3), ()))
        >>> replayer.apply(SlotAllocated(slot=0, version=1, request_id=7))
        >>> replayer.snapshot().slots[0]
        SlotState(slot=0, version=1, request_id=7, context_len=0, node_id=0, locked=False)
    """

    def __init__(self, num_slots: int) -> None:
        if num_slots < 1:
            raise ValueError(f"num_slots is {num_slots}, but must be at least 1")
        self.num_slots = num_slots
        self.applied = 0
        self.step = 0
        self.phase: Phase | None = None
        self._tree = ReplayedTree(num_slots)
        self._rows = [_Row(slot) for slot in range(num_slots)]
        self._waiting: dict[int, _Request] = {}  # in order of arrival
        self._running: dict[int, _Request] = {}  # in order of admission
        self._finished = dict.fromkeys(FINISH_REASONS, 0)
        self._arrived = self._rejected = self._steps = self._evicted_nodes = 0
        self._prefilled_tokens = self._cached_tokens = self._copied_tokens = self._decoded_tokens = 0

    def apply(self, event: e.Event) -> None:
        """Take one event into account.

        Raises:
            ReplayError: the event cannot follow the ones before it. The replayer is then of no further use.
        """
        try:
            _HANDLERS[type(event)](self, event)
        except (ValueError, LookupError, TypeError, AttributeError) as error:
            what = error if isinstance(error, ReplayError) else f"{type(error).__name__}: {error}"
            raise ReplayError(f"event {self.applied:,} is impossible: {what}: {event}") from error
        self.applied += 1

    # --- snapshots ----------------------------------------------------------------------------------------------------

    def snapshot(self) -> Snapshot:
        """The state as plain values, in time linear in its size."""
        return Snapshot(
            self.step,
            self.phase,
            slots=tuple(row.state(end.node_id) for row, end in zip(self._rows, self._tree.ends, strict=True)),
            nodes=self._tree.states(),
            waiting=tuple(self._waiting),
            running=tuple(self._running),
            requests=tuple(request.state() for _, request in sorted((self._waiting | self._running).items())),
            counters=Counters(
                arrived=self._arrived,
                rejected=self._rejected,
                finished=tuple(self._finished.items()),
                prefilled_tokens=self._prefilled_tokens,
                cached_tokens=self._cached_tokens,
                copied_tokens=self._copied_tokens,
                decoded_tokens=self._decoded_tokens,
                evicted_nodes=self._evicted_nodes,
                steps=self._steps,
            ),
        )

    @classmethod
    def from_snapshot(cls, snapshot: Snapshot, applied: int = 0) -> Self:
        """A replayer that goes on from a snapshot, taken after ``applied`` events."""
        self = cls(snapshot.num_slots)
        self.applied, self.step, self.phase = applied, snapshot.step, snapshot.phase
        self._tree.restore(snapshot.nodes, [slot.node_id for slot in snapshot.slots])
        self._rows = [_Row(s.slot, s.version, s.request_id, s.context_len, s.locked) for s in snapshot.slots]
        requests = {state.request_id: self._request(state) for state in snapshot.requests}
        self._waiting = {request_id: requests[request_id] for request_id in snapshot.waiting}
        self._running = {request_id: requests[request_id] for request_id in snapshot.running}
        counters = {name: getattr(snapshot.counters, name) for name in Counters.__slots__}
        self._finished.update(counters.pop("finished"))
        for name, value in counters.items():
            setattr(self, f"_{name}", value)
        return self

    def copy(self) -> Self:
        """A replayer in the same state that goes its own way."""
        return self.from_snapshot(self.snapshot(), self.applied)

    def _request(self, state: RequestState) -> _Request:
        return _Request(
            state.request_id,
            state.prompt_ids,
            list(state.output_ids),
            None if state.slot is None else self._row(state.slot),
            state.cached_len,
            state.leader_id,
            state.finish_reason,
        )

    # --- the loop -----------------------------------------------------------------------------------------------------

    def _step_started(self, event: e.StepStarted) -> None:
        if event.step != self.step + 1 or self.phase:
            raise ReplayError(f"step {self.step} was the last one, and phase {self.phase} is in progress")
        self.step = event.step
        self._steps += 1

    def _phase_started(self, event: e.PhaseStarted) -> None:
        if self.phase:
            raise ReplayError(f"phase {self.phase} has not ended")
        self.phase = event.phase

    def _phase_ended(self, event: e.PhaseEnded) -> None:
        if self.phase != event.phase:
            raise ReplayError(f"the phase in progress is {self.phase}")
        self.phase = None

    def _prefilled(self, event: e.Prefilled) -> None:
        request, start, end = self._runner(event.request_id), event.start, event.end
        row = request.row
        if row.slot != event.slot or row.context_len != start or not start < end <= len(request.prompt_ids):
            raise ReplayError(
                f"request {event.request_id} has {row.context_len} of {len(request.prompt_ids)} prompt tokens "
                f"in slot {row.slot}"
            )
        row.context_len = end
        self._prefilled_tokens += end - start

    def _first_token_sampled(self, event: e.FirstTokenSampled) -> None:
        request = self._runner(event.request_id)
        if request.output_ids or request.row.context_len != len(request.prompt_ids):
            raise ReplayError(
                f"request {event.request_id} has {request.row.context_len} of {len(request.prompt_ids)} "
                f"prompt tokens and {len(request.output_ids)} output tokens"
            )
        request.output_ids.append(event.token_id)

    def _tokens_decoded(self, event: e.TokensDecoded) -> None:
        running, count = self._running, len(event.request_ids)
        if sum(event.groups) != count:
            raise ReplayError(f"groups of {sum(event.groups)} rows in all, but {count} requests")
        # NOTE: the hot loop of every replay. It asks one question a row, and who is to blame only when that fails.
        for request_id, slot, position, token_id in zip(
            event.request_ids, event.slots, event.positions, event.token_ids, strict=True
        ):
            request = running.get(request_id) or self._runner(request_id)
            row, output_ids = request.row, request.output_ids
            if row.context_len != position or row.slot != slot or not output_ids or request.finish_reason:
                self._refuse_decode(request)
            row.context_len = position + 1
            output_ids.append(token_id)
        self._decoded_tokens += count

    def _refuse_decode(self, request: _Request) -> None:
        row = self._runner(request.request_id).row
        raise ReplayError(
            f"request {request.request_id} is at position {row.context_len} of slot {row.slot}, "
            f"with {len(request.output_ids)} output tokens"
        )

    # --- requests -----------------------------------------------------------------------------------------------------

    def _request_arrived(self, event: e.RequestArrived) -> None:
        if event.request_id in self._waiting or event.request_id in self._running:
            raise ReplayError(f"request {event.request_id} is here already")
        self._waiting[event.request_id] = _Request(event.request_id, event.prompt_ids)
        self._arrived += 1

    def _requests_rejected(self, event: e.RequestsRejected) -> None:
        self._rejected += event.count

    def _request_held(self, event: e.RequestHeld) -> None:
        request = self._waiter(event.request_id)
        self._runner(event.leader_id)
        request.leader_id = event.leader_id

    def _request_admitted(self, event: e.RequestAdmitted) -> None:
        request, row = self._waiter(event.request_id), self._row_at(event.slot, event.version)
        if row.owner != event.request_id:
            raise ReplayError(f"slot {row.slot} belongs to request {row.owner}")
        if event.cached_len != row.context_len or event.cached_len >= len(request.prompt_ids):
            raise ReplayError(f"slot {row.slot} has {row.context_len} of {len(request.prompt_ids)} prompt tokens")
        request.row, request.cached_len, request.leader_id = row, event.cached_len, None
        self._running[event.request_id] = self._waiting.pop(event.request_id)
        self._cached_tokens += event.cached_len

    def _request_finished(self, event: e.RequestFinished) -> None:
        if event.reason not in self._finished:
            raise ReplayError(f"the reasons are {', '.join(FINISH_REASONS)}")
        if event.request_id not in self._waiting:
            self._runner(event.request_id).finish_reason = event.reason
        elif any(row.owner == event.request_id for row in self._rows):
            raise ReplayError(f"request {event.request_id} waits, but owns a slot that nobody would free")
        else:
            del self._waiting[event.request_id]
        self._finished[event.reason] += 1

    # --- slots --------------------------------------------------------------------------------------------------------

    def _prefix_matched(self, event: e.PrefixMatched) -> None:
        request, row = self._waiter(event.request_id), self._row_at(event.slot, event.version)
        if not 0 < event.length <= min(row.context_len, len(request.prompt_ids) - 1):
            raise ReplayError(
                f"slot {row.slot} holds {row.context_len}, the prompt has {len(request.prompt_ids)} tokens"
            )

    def _slot_allocated(self, event: e.SlotAllocated) -> None:
        self._hand_out(event, kept_len=0)

    def _slot_reused(self, event: e.SlotReused) -> None:
        self._hand_out(event, event.kept_len)

    def _hand_out(self, event: e.SlotAllocated | e.SlotReused, kept_len: int) -> None:
        if any(row.owner == event.request_id for row in self._rows):
            raise ReplayError(f"request {event.request_id} owns a slot already")
        self._waiter(event.request_id)
        self._cut(event.slot, event.version, kept_len).owner = event.request_id

    def _slot_truncated(self, event: e.SlotTruncated) -> None:
        self._cut(event.slot, event.version, event.kept_len)

    def _cut(self, slot: int, version: int, kept_len: int) -> _Row:
        """Renew a free row with its first ``kept_len`` tokens."""
        row = self._row(slot)
        if row.owner is not None or row.locked:
            raise ReplayError(f"slot {slot} belongs to request {row.owner}, locked: {row.locked}")
        if version <= row.version:
            raise ReplayError(f"slot {slot} is at version {row.version} already")
        if not 0 <= kept_len <= row.context_len:
            raise ReplayError(f"slot {slot} holds {row.context_len} tokens")
        row.version, row.context_len = version, kept_len
        return row

    def _slot_freed(self, event: e.SlotFreed) -> None:
        row = self._row_at(event.slot, event.version)
        request = self._running.get(row.owner) if row.owner is not None else None
        if request is None or not request.finish_reason:
            raise ReplayError(f"slot {row.slot} belongs to request {row.owner}, which has not run and finished")
        if not 0 <= event.kept_len <= row.context_len:
            raise ReplayError(f"slot {row.slot} holds {row.context_len} tokens")
        del self._running[request.request_id]
        row.owner, row.context_len = None, event.kept_len

    def _prefix_copied(self, event: e.PrefixCopied) -> None:
        source, target = self._row_at(event.src, event.src_version), self._row_at(event.dst, event.dst_version)
        if source is target or not 0 < event.length <= source.context_len:
            raise ReplayError(f"slot {source.slot} holds {source.context_len} tokens")
        if target.owner not in self._waiting or target.context_len:
            raise ReplayError(f"slot {target.slot} was not just allocated")
        target.context_len = event.length
        self._copied_tokens += event.length

    # --- the radix tree -----------------------------------------------------------------------------------------------

    def _node_evicted(self, event: e.NodeEvicted) -> None:
        self._tree.evicted(event)
        self._evicted_nodes += 1

    def _path_held(self, event: e.PathHeld) -> None:
        row, node = self._row_at(event.slot, event.version), self._tree.node(event.node_id)
        path = node.path()
        length = sum(len(step.token_ids) for step in path)
        if length > row.context_len:
            raise ReplayError(f"the path has {length} tokens, but slot {row.slot} holds {row.context_len}")
        self._tree.held(event.slot, node, path)

    def _path_locked(self, event: e.PathLocked) -> None:
        self._set_lock(event.slot, True)

    def _path_unlocked(self, event: e.PathUnlocked) -> None:
        self._set_lock(event.slot, False)

    def _set_lock(self, slot: int, locked: bool) -> None:
        row = self._row(slot)
        if row.locked == locked:
            raise ReplayError(f"slot {slot} is {'locked already' if locked else 'not locked'}")
        row.locked = locked

    # --- look-ups that refuse what is not there -----------------------------------------------------------------------

    def _waiter(self, request_id: int) -> _Request:
        request = self._waiting.get(request_id)
        if request is None:
            raise ReplayError(f"request {request_id} is not waiting")
        return request

    def _runner(self, request_id: int) -> _Request:
        request = self._running.get(request_id)
        if request is None or request.finish_reason:
            raise ReplayError(f"request {request_id} {'has finished already' if request else 'is not running'}")
        return request

    def _row(self, slot: int) -> _Row:
        if not 0 <= slot < self.num_slots:
            raise ReplayError(f"slot {slot} does not exist: there are {self.num_slots}")
        return self._rows[slot]

    def _row_at(self, slot: int, version: int) -> _Row:
        row = self._row(slot)
        if row.version != version:
            raise ReplayError(f"slot {slot} is at version {row.version}: the handle is stale")
        return row


_HANDLERS: dict[type[e.Event], Callable[[Replayer, Any], None]] = {
    e.RequestArrived: Replayer._request_arrived,
    e.RequestsRejected: Replayer._requests_rejected,
    e.RequestHeld: Replayer._request_held,
    e.RequestAdmitted: Replayer._request_admitted,
    e.RequestFinished: Replayer._request_finished,
    e.PrefixMatched: Replayer._prefix_matched,
    e.SlotAllocated: Replayer._slot_allocated,
    e.SlotReused: Replayer._slot_reused,
    e.PrefixCopied: Replayer._prefix_copied,
    e.SlotTruncated: Replayer._slot_truncated,
    e.SlotFreed: Replayer._slot_freed,
    e.NodeInserted: lambda replayer, event: replayer._tree.inserted(event),
    e.NodeSplit: lambda replayer, event: replayer._tree.split(event),
    e.NodeMerged: lambda replayer, event: replayer._tree.merged(event),
    e.NodeEvicted: Replayer._node_evicted,
    e.PathHeld: Replayer._path_held,
    e.PathLocked: Replayer._path_locked,
    e.PathUnlocked: Replayer._path_unlocked,
    e.PathUsed: lambda replayer, event: replayer._tree.used(event),
    e.StepStarted: Replayer._step_started,
    e.PhaseStarted: Replayer._phase_started,
    e.PhaseEnded: Replayer._phase_ended,
    e.Prefilled: Replayer._prefilled,
    e.FirstTokenSampled: Replayer._first_token_sampled,
    e.TokensDecoded: Replayer._tokens_decoded,
}


def replay(log: EventLog, k: int | None = None) -> Snapshot:
    """The state after the first ``k`` events of the whole run (``None``: all), by replaying what the log still has.

    Raises:
        ValueError: ``k`` lies before the events that the log still has, or beyond its end.
        ReplayError: an event is impossible.
    """
    view = log.view()
    first, end = view.first_seq, view.first_seq + len(view.records)
    k = end if k is None else k
    if not first <= k <= end:
        raise ValueError(
            f"k is {k:,}, but this log can be replayed from {first:,} to {end:,} events: older ones are folded into "
            f"its base (a larger capacity, or a recording, keeps them)"
        )
    replayer = Replayer.from_snapshot(view.base, first)
    for record in view.records[: k - first]:
        replayer.apply(record.event)
    return replayer.snapshot()


def replay_steps(log: EventLog) -> Iterator[tuple[int, Snapshot]]:
    """The state at the end of each step that the log still has, with the step's number; the last may be in progress.

    What happens between two steps belongs to the earlier one.
    """
    view = log.view()
    replayer = Replayer.from_snapshot(view.base, view.first_seq)
    for record in view.records:
        if replayer.step and type(record.event) is e.StepStarted:
            yield replayer.step, replayer.snapshot()
        replayer.apply(record.event)
    if replayer.step:
        yield replayer.step, replayer.snapshot()
