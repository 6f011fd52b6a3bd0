"""The loop of continuous batching: Cleanup, Refill, Prefill, Decode, one after the other, again and again.

The scheduler decides who runs, on which row and what is computed next; a ``Runner`` computes it. Everything happens on
one thread (the daemon that ``start`` makes, or the caller's, step by step), which alone changes state and emits
events; other threads only post commands to its inbox. It knows neither tensors nor text.

Continuous batching is Orca's idea (Yu et al. 2022), chunked prefill Sarathi's (Agrawal et al. 2023).
"""

from __future__ import annotations

import heapq
import logging
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import fields
from itertools import islice
from typing import NamedTuple, Protocol

from astrai.config import DecodePolicy, SamplingParams
from astrai.inference.cache.prefix_cache import PrefixCacheManager
from astrai.inference.cache.radix_tree import Match, common_prefix_len
from astrai.inference.cache.slots import Handle
from astrai.inference.inbox import Inbox
from astrai.inference.request import Ending, PrefillChunk, Request, Sampled
from astrai.trace.events import (
    Event,
    FinishReason,
    FirstTokenSampled,
    Phase,
    PhaseEnded,
    PhaseStarted,
    Prefilled,
    PrefixCopied,
    RequestAdmitted,
    RequestArrived,
    RequestFinished,
    RequestHeld,
    RequestsRejected,
    StepStarted,
    TokensDecoded,
)

log = logging.getLogger("astrai.scheduler")
Emit = Callable[[Event], None]


class Lead(NamedTuple):
    """Who is writing a prefix that a waiting request shares, and how many tokens they share."""

    leader_id: int
    shared_len: int


class Runner(Protocol):
    """What computes: ``runner.TransformerRunner`` with a model, or a scripted one in lessons and tests."""

    def copy(self, copies: Sequence[PrefixCopied]) -> None:
        """Copy prefixes between rows, in order."""

    def prefill(self, chunks: Sequence[PrefillChunk]) -> list[Sampled | None]:
        """Compute the chunks, and sample where a chunk ends its prompt (``None`` for the others)."""

    def decode(self, requests: Sequence[Request]) -> list[Sampled]:
        """Feed each request's last token and sample its next, in one forward."""


class InferenceScheduler:
    """Four phases over a queue of requests.

    Args:
        prefill_budget: prompt tokens computed in one step, over all requests.
        max_seq_len: tokens that a row holds; prompt and output together never exceed it.
        eos_ids: tokens that end a request with ``stop``.
        lookahead: waiting requests, held ones aside, that one refill matches, so that a long queue costs little more.
    """

    def __init__(
        self,
        runner: Runner,
        cache: PrefixCacheManager,
        *,
        max_seq_len: int,
        max_running: int | None = None,
        max_waiting: int = 4096,
        prefill_budget: int = 512,
        decode_policy: DecodePolicy = "ragged",
        eos_ids: Sequence[int] = (),
        emit: Emit = lambda event: None,
        clock: Callable[[], float] = time.monotonic,
        lookahead: int = 64,
    ) -> None:
        self.runner = runner
        self.cache = cache
        self.max_seq_len = max_seq_len
        self.max_running = cache.slots.num_slots if max_running is None else max_running
        self.inbox = Inbox(max_waiting)
        self.prefill_budget = prefill_budget
        self.decode_policy = decode_policy
        self.eos_ids = frozenset(eos_ids)
        self.lookahead = lookahead
        self.emit = emit
        self.clock = clock

        self.waiting: dict[int, Request] = {}  # in order of arrival
        self.running: dict[int, Request] = {}  # in order of admission
        self._deadlines: list[tuple[float, int]] = []  # a heap of (time, request id)
        self._unread: deque[Request | int] = deque()  # commands that were taken from the inbox
        self.step_count = 0
        self.phase: Phase | None = None
        self.totals: Counter[str] = Counter()  # the sums of trace.snapshot.Counters, by name
        self.finished: Counter[FinishReason] = Counter()

    # --- commands from any thread -------------------------------------------------------------------------------------

    def submit(self, request: Request) -> None:
        """Queue a request.

        Raises:
            ValueError: the prompt is empty or leaves no room for an answer.
            QueueFullError: ``max_waiting`` requests wait already.
            EngineDeadError: the loop has ended.
        """
        self.inbox.submit(request, self._check_room)

    def cancel(self, request_id: int) -> None:
        """End a request in the next cleanup, if it has not ended by then."""
        self.inbox.cancel(request_id)

    def _check_room(self, request: Request) -> None:
        if request.slot is not None or request.is_finished:
            raise ValueError(f"request {request.request_id} was submitted before: make a new one")
        if not request.prompt_ids:
            raise ValueError("the prompt has no tokens: give it at least one")
        if request.prompt_len >= self.max_seq_len:
            raise ValueError(
                f"prompt has {request.prompt_len:,} tokens, but a row holds {self.max_seq_len:,} and the answer needs "
                f"at least one: shorten it or raise max_seq_len"
            )

    # --- the loop -----------------------------------------------------------------------------------------------------

    def step(self) -> None:
        """One turn of the loop."""
        self.start_step()
        self.cleanup()
        self.refill()
        self.prefill()
        self.decode()

    def start_step(self) -> None:
        """Count a turn of the loop. Call it before the phases when you run them one by one."""
        self.step_count += 1
        self.emit(StepStarted(self.step_count))

    def cleanup(self) -> None:
        """Read the inbox, end what was cancelled or is overdue, and take back the rows of what has ended."""
        with self._in_phase("cleanup"):
            self._read_inbox()
            self._end_overdue()
            for request in [request for request in self.running.values() if request.ending]:
                self._release(request)

    def refill(self) -> None:
        """Match waiting requests against the cache as it is now, and give them rows, first come first served."""
        with self._in_phase("refill"):
            if not self.can_admit():
                return
            ready = (request for request in self.waiting.values() if not self._is_still_held(request))
            for request in list(islice(ready, self.lookahead)):
                if not self.can_admit():
                    break
                match = self.cache.match(request.prompt_ids)
                lead = self._find_lead(request, match.length)
                if lead is None:
                    self._admit(request, match)
                else:
                    self._hold(request, lead)

    def prefill(self) -> None:
        """Compute prompt tokens, oldest request first, up to the budget; a finished prompt gives the first token."""
        with self._in_phase("prefill"):
            chunks = self._plan_chunks()
            sampled: list[Sampled | None] | None = None
            if chunks:
                with self._ending_on_error([chunk.request for chunk in chunks]):
                    sampled = self.runner.prefill(chunks)
            if sampled is not None:
                self._take_prefilled(chunks, sampled)

    def decode(self) -> None:
        """Give every request whose prompt is computed its next token: all groups, in every step."""
        with self._in_phase("decode"):
            rows: list[Request] = []
            tokens: list[Sampled] = []
            groups: list[int] = []
            for group in self._plan_groups():
                with self._ending_on_error(group):
                    sampled = self.runner.decode(group)
                    assert len(sampled) == len(group), f"{len(sampled)} tokens for {len(group)} requests"
                    tokens += sampled
                    rows += group
                    groups.append(len(group))
            if rows:
                self._take_decoded(rows, tokens, groups)

    def take_over(self, other: InferenceScheduler) -> None:
        """Go on where another scheduler of the same cache stands between two steps. It must not be used any more."""
        self.waiting, self.running, self.inbox = other.waiting, other.running, other.inbox
        self._deadlines, self._unread = other._deadlines, other._unread
        self.step_count, self.totals, self.finished = other.step_count, other.totals, other.finished

    # --- cleanup ------------------------------------------------------------------------------------------------------

    def _read_inbox(self) -> None:
        commands = self.inbox.take()
        self._unread += commands.submitted_or_cancelled
        for reason, count in commands.rejected.items():
            self.totals["rejected"] += count
            self.emit(RequestsRejected(count, reason))
        while self._unread:
            command = self._unread.popleft()
            if isinstance(command, Request):
                self._arrive(command)
            elif request := self.waiting.get(command) or self.running.get(command):
                self._finish(request, Ending("cancelled"))

    def _arrive(self, request: Request) -> None:
        self.waiting[request.request_id] = request
        self.totals["arrived"] += 1
        self.emit(RequestArrived(request.request_id, request.prompt_ids, _changed_fields(request.sampling)))
        if request.deadline is not None:
            heapq.heappush(self._deadlines, (request.deadline, request.request_id))
        sampling = request.sampling
        request.output_limit = min(sampling.max_tokens, self.max_seq_len - request.prompt_len)
        request.ending_ids = frozenset(sampling.stop_ids) | (frozenset() if sampling.ignore_eos else self.eos_ids)
        if sampling.max_tokens == 0:
            self._finish(request, Ending("length"))

    def _end_overdue(self) -> None:
        if len(self._deadlines) > 2 * (len(self.waiting) + len(self.running)) + 64:  # most belong to the past
            alive = self.waiting.keys() | self.running.keys()
            self._deadlines = [entry for entry in self._deadlines if entry[1] in alive]
            heapq.heapify(self._deadlines)
        while self._deadlines and self._deadlines[0][0] <= self.clock():
            _, request_id = heapq.heappop(self._deadlines)
            if request := self.waiting.get(request_id) or self.running.get(request_id):
                self._finish(request, Ending("timeout", "the request's deadline has passed"))

    def _release(self, request: Request) -> None:
        del self.running[request.request_id]
        self._emit_all(self.cache.release(self._handle(request), request.resident_ids()))

    def _finish(self, request: Request, ending: Ending) -> None:
        """End a request. A row that it owns is taken back in the next cleanup."""
        if request.is_finished:
            return
        request.ending = ending
        self.finished[ending.reason] += 1
        self._leave_queue(request)
        try:
            self.emit(RequestFinished(request.request_id, *ending))
        finally:
            self._tell_end(request, ending)

    def _tell_end(self, request: Request, ending: Ending) -> None:
        try:
            request.sink.on_end(ending)
        except BaseException:
            log.exception("the on_end callback of request %d failed", request.request_id)

    def _leave_queue(self, request: Request) -> None:
        if self.waiting.pop(request.request_id, None):
            self.inbox.leave_queue()

    # --- refill -------------------------------------------------------------------------------------------------------

    def can_admit(self) -> bool:
        """Whether one more request may run, and there is a row for it."""
        return len(self.running) < self.max_running and self.cache.can_place()

    def _is_still_held(self, request: Request) -> bool:
        """Whether the leader that it was held for has yet to write the shared part (asked without a match)."""
        leader = self.running.get(request.leader_id) if request.leader_id is not None else None
        return leader is not None and leader.is_prefilling and leader.context_len < request.shared_len

    def _find_lead(self, request: Request, matched_len: int) -> Lead | None:
        """A request in prefill that is about to write more of this prompt than the cache has."""
        if not self.cache.enabled:
            return None
        for leader in self.running.values():
            if leader.is_prefilling:
                shared_len = common_prefix_len(leader.prompt_ids, request.prompt_ids[:-1])
                if shared_len > matched_len:
                    return Lead(leader.request_id, shared_len)
        return None

    def _hold(self, request: Request, lead: Lead) -> None:
        is_new = request.leader_id != lead.leader_id
        request.leader_id, request.shared_len = lead
        if is_new:
            self.emit(RequestHeld(request.request_id, lead.leader_id))

    def _admit(self, request: Request, match: Match) -> None:
        placement = self.cache.place(request.request_id, match)
        self._emit_all(placement.changes)
        request.slot, request.version = placement.handle
        failure = self._copy_prefix(request, placement.copy) if placement.copy else None
        request.cached_len = request.context_len = 0 if failure else placement.cached_len
        request.leader_id = None
        self._leave_queue(request)
        self.running[request.request_id] = request
        self.totals["cached_tokens"] += request.cached_len
        self.emit(RequestAdmitted(request.request_id, *placement.handle, request.cached_len))
        if failure:
            self._finish(request, failure)

    def _copy_prefix(self, request: Request, copy: PrefixCopied) -> Ending | None:
        """Have the runner copy, then tell the tree; or return how the request ends because it could not."""
        self.cache.slots.check(Handle(copy.src, copy.src_version))
        try:
            self.runner.copy([copy])
        except Exception as error:
            return _model_error([request], error)
        self.totals["copied_tokens"] += copy.length
        self.emit(copy)
        self._emit_all(self.cache.commit(self._handle(request), request.prompt_ids[: copy.length]))
        return None

    # --- prefill and decode -------------------------------------------------------------------------------------------

    def _plan_chunks(self) -> list[PrefillChunk]:
        chunks, budget = [], self.prefill_budget
        for request in self.running.values():
            if request.is_prefilling and budget:
                start = request.context_len
                end = min(request.prompt_len, start + budget)
                chunks.append(PrefillChunk(request, start, end))
                budget -= end - start
        return chunks

    def _plan_groups(self) -> list[list[Request]]:
        """The forwards of one decode: all rows at once, or one for each position that rows are at."""
        rows = [request for request in self.running.values() if request.is_decoding]
        if self.decode_policy == "ragged":
            return [rows] if rows else []
        groups: dict[int, list[Request]] = {}
        for request in rows:
            groups.setdefault(request.context_len, []).append(request)
        return list(groups.values())

    def _take_prefilled(self, chunks: list[PrefillChunk], sampled: list[Sampled | None]) -> None:
        for chunk, token in zip(chunks, sampled, strict=True):
            request = chunk.request
            request.context_len = chunk.end
            self.totals["prefilled_tokens"] += chunk.end - chunk.start
            self.emit(Prefilled(request.request_id, self._handle(request).slot, chunk.start, chunk.end))
            self._emit_all(self.cache.commit(self._handle(request), request.resident_ids()))
            if token is not None:
                self.emit(FirstTokenSampled(request.request_id, token.token_id))
                self._accept(request, token)

    def _take_decoded(self, rows: list[Request], tokens: list[Sampled], groups: list[int]) -> None:
        self.emit(
            TokensDecoded(
                request_ids=tuple([request.request_id for request in rows]),
                slots=tuple([request.slot for request in rows]),  # type: ignore[misc]  # who decodes owns one
                positions=tuple([request.context_len for request in rows]),
                token_ids=tuple([token.token_id for token in tokens]),
                groups=tuple(groups),
            )
        )
        self.totals["decoded_tokens"] += len(rows)
        for request, token in zip(rows, tokens, strict=True):
            request.context_len += 1
            self._accept(request, token)

    def _accept(self, request: Request, token: Sampled) -> None:
        """Hand a sampled token to its client, and end the request if that was its last."""
        request.output_ids.append(token.token_id)
        try:
            verdict = request.sink.on_token(token)
        except KeyboardInterrupt:  # of somebody who steps by hand
            raise
        except BaseException as error:  # sys.exit() in a callback ends that request, not the engine
            log.exception("the on_token callback of request %d failed", request.request_id)
            self._finish(request, Ending("error", f"the request's own callback raised {error!r}"))
            return
        if verdict:
            self._finish(request, verdict if isinstance(verdict, Ending) else Ending("stop"))
        elif token.token_id in request.ending_ids:
            self._finish(request, Ending("stop"))
        elif len(request.output_ids) >= request.output_limit:
            self._finish(request, Ending("length"))

    def _handle(self, request: Request) -> Handle:
        assert request.slot is not None, f"request {request.request_id} owns no slot"
        return Handle(request.slot, request.version)

    @contextmanager
    def _ending_on_error(self, requests: list[Request]) -> Iterator[None]:
        """An exception of the runner ends the requests of its batch, and nothing else."""
        try:
            yield
        except Exception as error:
            ending = _model_error(requests, error)
            for request in requests:
                self._finish(request, ending)

    @contextmanager
    def _in_phase(self, phase: Phase) -> Iterator[None]:
        self.phase = phase
        self.emit(PhaseStarted(phase))
        started = time.perf_counter()
        try:
            yield
        finally:
            self.emit(PhaseEnded(phase, time.perf_counter() - started))
            self.phase = None

    def _emit_all(self, events: list[Event]) -> None:
        for event in events:
            self.emit(event)

    # --- the end of the loop ------------------------------------------------------------------------------------------

    @property
    def has_work(self) -> bool:
        """Whether a step would find anything to do."""
        return bool(self.inbox or self.waiting or self.running)

    def end_all(self, ending: Ending) -> None:
        """End every request there is, and take back all rows. The inbox must be closed."""
        self.start_step()
        with self._in_phase("cleanup"):
            self._read_inbox()
            for request in [*self.waiting.values(), *self.running.values()]:
                self._finish(request, ending)
            for request in list(self.running.values()):
                self._release(request)

    def check_integrity(self) -> None:
        """Assert that queues, requests and cache agree. The tests call it after every step."""
        self.cache.check_integrity()
        slots = self.cache.slots
        owned = [request.slot for request in self.running.values()]
        free = slots.free_mask.bit_count()
        assert len(set(owned)) == len(owned) == slots.num_slots - free, f"owned slots {owned}, free {free}"
        assert len(self.running) <= self.max_running
        for request in self.running.values():
            slots.check(self._handle(request))
            assert not slots.free_mask >> self._handle(request).slot & 1
            assert request.context_len <= request.prompt_len + len(request.output_ids) <= self.max_seq_len
            held_len = self.cache.tree.end_node(self._handle(request).slot).end
            assert held_len == (min(request.context_len, request.prompt_len) if self.cache.enabled else 0)
            if not request.is_finished and not request.is_prefilling:
                assert request.context_len == request.prompt_len + len(request.output_ids) - 1
        for request in self.waiting.values():
            assert request.slot is None and not request.is_finished and not request.output_ids

    def abandon(self, ending: Ending) -> None:
        """Tell every client that the loop is dead, trusting nothing but the lists of requests."""
        posted = [*self._unread, *self.inbox.take().submitted_or_cancelled]
        submitted = [command for command in posted if isinstance(command, Request)]
        for request in [*submitted, *self.waiting.values(), *self.running.values()]:
            if not request.is_finished:
                request.ending = ending
                self._tell_end(request, ending)


def _model_error(requests: list[Request], error: Exception) -> Ending:
    log.error("the model failed on requests %s", [request.request_id for request in requests], exc_info=error)
    return Ending("error", f"the model raised {error!r}")


def _changed_fields(sampling: SamplingParams) -> tuple[tuple[str, object], ...]:
    default = SamplingParams()
    pairs = ((f.name, getattr(sampling, f.name)) for f in fields(SamplingParams))
    return tuple((name, value) for name, value in pairs if value != getattr(default, name))
