"""The check of cleanup in chapter 10: who owns a slot after each one, and the whole run beside the package's."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from astrai.course.cards import Card, Kind, Run, Table, card, play
from astrai.course.chapters.ch10_yours import run_phase, with_own
from astrai.course.mistakes import Mistake
from astrai.inference.request import Request
from astrai.inference.scheduler import InferenceScheduler
from astrai.trace.events import (
    FirstTokenSampled,
    PhaseStarted,
    RequestAdmitted,
    RequestArrived,
    RequestFinished,
    TokensDecoded,
)
from astrai.trace.log import EventLog

CLEANUPS: tuple[Run, ...] = (
    ((card(10, 3, 1), card(20, 2, 4), card(30, 2, 4), card(40, 2, 3), card(50, 2, 2, 3)), {"num_slots": 3}),
    (
        (card(10, 3, 30, 1, 4), card(20, 3, 4), card(30, 3, 9, 1, 2), card(40, 2, 2), card(50, 2, 20, 1, 6)),
        {"num_slots": 2},
    ),
)


def cleanup(Scheduler: Kind) -> None:
    """Who owns a slot after each cleanup, then the whole run."""
    own = with_own("cleanup", Scheduler)
    for cards, settings in CLEANUPS:
        table = Table(own, cards, **settings)
        for scheduler in table.steps():
            _cleanup(table)
            scheduler.refill()
            scheduler.prefill()
            scheduler.decode()
        _same_course(table.log, play(InferenceScheduler, cards, **settings))


def _cleanup(table: Table) -> None:
    scheduler = table.scheduler
    step, running, waiting = scheduler.step_count, list(scheduler.running.values()), list(scheduler.waiting.values())
    had_ended = {request.request_id for request in running if request.is_finished}
    run_phase(table, "cleanup")
    _look_at_queue(scheduler, table.cards, waiting)
    for request in running:
        _look_at_slot(scheduler, request, request.request_id in had_ended)
    try:
        scheduler.check_integrity()
    except AssertionError as error:
        raise Mistake(f"After your cleanup of step {step} the books of the slots do not agree: {error}.") from error


def _look_at_queue(scheduler: InferenceScheduler, cards: Sequence[Card], waited: Sequence[Request]) -> None:
    step = scheduler.step_count
    for number, dealt in enumerate(cards):
        if dealt.step == step and dealt.cancelled != step and number not in scheduler.waiting:
            raise Mistake(
                f"Request {number} was sent before step {step}, but does not wait after your cleanup: "
                f"`self.read_inbox()` lets it join."
            )
    for request in waited:
        if not request.is_finished and request.request_id not in scheduler.waiting:
            raise Mistake(
                f"Request {request.request_id} waited before your cleanup of step {step}, and waits no more: to give "
                f"it a slot is the work of refill, and nobody else takes it out of `waiting`."
            )


def _look_at_slot(scheduler: InferenceScheduler, request: Request, had_ended: bool) -> None:
    number, step = request.request_id, scheduler.step_count
    assert request.slot is not None
    is_free, runs = bool(scheduler.cache.slots.free_mask >> request.slot & 1), number in scheduler.running
    if not request.is_finished and (is_free or not runs):
        raise Mistake(
            f"Request {number} loses its slot in the cleanup of step {step}, but it has not ended: it has "
            f"{len(request.output_ids)} tokens and wants more. Look at `request.is_finished`."
        )
    if not request.is_finished:
        return
    if not runs and not is_free:
        raise Mistake(
            f"Request {number} runs no more, but its slot was not freed in step {step}: nobody can ever use it again. "
            f"`self.give_back(request)` does both."
        )
    if runs:
        raise Mistake(
            f"{_why_it_ended(request, had_ended)}, but after the cleanup of step {step} it still owns slot "
            f"{request.slot}{_what_to_do(had_ended)}."
        )


def _why_it_ended(request: Request, had_ended: bool) -> str:
    assert request.ending is not None
    if request.ending.reason == "cancelled":
        return f"Request {request.request_id} was cancelled"
    if len(request.output_ids) == 1:
        return f"Request {request.request_id} ended with its very first token, which prefill gave it"
    return f"Request {request.request_id} has ended in the step before"


def _what_to_do(had_ended: bool) -> str:
    if had_ended:
        return ". Give back every slot whose request has ended, for whatever reason"
    return (
        ". It ended while this cleanup read the inbox: do that first, and then give back every slot whose request has "
        "ended, for whatever reason"
    )


def _same_course(yours: EventLog, expected: EventLog) -> None:
    """Who joins, is admitted, gets tokens and ends, in which phase of which step. In which slot does not count: that
    follows from the order of giving back, which is free.
    """
    mine, wanted = _happened(yours), _happened(expected)
    for step, phase in {**wanted, **mine}:
        one, other = mine[step, phase], wanted[step, phase]
        if one != other:
            raise Mistake(
                f"In the {phase} of step {step} your run goes another way than it should.",
                rows=[("expected", ", ".join(other) or "nothing"), ("yours", ", ".join(one) or "nothing")],
            )


def _happened(log: EventLog) -> defaultdict[tuple[int, str], list[str]]:
    found: defaultdict[tuple[int, str], list[str]] = defaultdict(list)
    phase = ""
    for record in log.records:
        there = found[record.step, phase]
        match record.event:
            case PhaseStarted(name):
                phase = name
            case RequestArrived(number):
                there.append(f"request {number} joins")
            case RequestAdmitted(number):
                there.append(f"request {number} gets a slot")
            case FirstTokenSampled(number, token):
                there.append(f"request {number} gets token {token}")
            case TokensDecoded(request_ids=numbers, token_ids=tokens):
                there += [f"request {number} gets token {token}" for number, token in zip(numbers, tokens, strict=True)]
            case RequestFinished(number, reason):
                there.append(f"request {number} ends with {reason}")
    return found
