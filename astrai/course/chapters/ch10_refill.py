"""The check of refill in chapter 10: who must be admitted in each step is worked out by hand from the state before it,
and the whole run is compared with the package's.
"""

from __future__ import annotations

from collections.abc import Sequence

from astrai.course.cards import Card, Kind, Run, Table, card, play, shared_len
from astrai.course.chapters.ch10_yours import run_phase, with_own
from astrai.course.mistakes import Mistake
from astrai.course.parting import same_trace
from astrai.inference.request import Request
from astrai.inference.scheduler import InferenceScheduler
from astrai.trace.events import PhaseEnded, RequestHeld
from astrai.trace.jsonl import Record
from astrai.trace.log import EventLog

ALIKE = tuple(range(900, 908))  # a beginning that several prompts share
REFILLS: tuple[Run, ...] = (
    ((card(10, 3, 3), card(20, 2, 5), card(30, 2, 2), card(40, 4, 3, 2), card(50, 2, 2, 4)), {"num_slots": 2}),
    (tuple(card(10 * i, 3, 4) for i in range(1, 7)), {"num_slots": 3, "max_running": 2}),
    (
        (Card((*ALIKE, 1, 2), 3), Card((*ALIKE, 3), 3), card(30, 3, 4), Card((*ALIKE, 5, 6), 2), card(50, 3, 2)),
        {"num_slots": 4, "prefill_budget": 6},
    ),
)


def refill(Scheduler: Kind) -> None:
    """Who is admitted in each step, then the whole run."""
    own = with_own("refill", Scheduler)
    for cards, settings in REFILLS:
        table = Table(own, cards, **settings)
        for scheduler in table.steps():
            scheduler.cleanup()
            _refill(table)
            scheduler.prefill()
            scheduler.decode()
        same_trace(_who_runs(table.log), _who_runs(play(InferenceScheduler, cards, **settings)), "your run")


def _refill(table: Table) -> None:
    scheduler = table.scheduler
    step, waiting, running = scheduler.step_count, list(scheduler.waiting.values()), list(scheduler.running.values())
    room = scheduler.max_running - len(running)
    expected, leaders = _admitted_by_hand(waiting, running, room)
    run_phase(table, "refill")
    there = scheduler.waiting.keys() | scheduler.running.keys()
    if gone := [request.request_id for request in waiting if request.request_id not in there]:
        raise Mistake(
            f"After your refill of step {step}, request {gone[0]} is gone: it neither waits nor runs, and nobody will "
            f"ever answer it. Leave it in `waiting`; only `admit` takes a request out."
        )
    admitted = [number for number in scheduler.running if number not in {r.request_id for r in running}]
    _same_admissions(step, admitted, expected, leaders, room)


def _admitted_by_hand(
    waiting: Sequence[Request], running: Sequence[Request], room: int
) -> tuple[list[int], dict[int, int]]:
    """Whom refill must admit, in order, and for each one that is held, who leads it."""
    admitted: list[Request] = []
    leaders: dict[int, int] = {}
    for request in waiting:
        for leader in (*running, *admitted):
            if leader.context_len < shared_len(leader.prompt_ids, request.prompt_ids[:-1]):
                leaders[request.request_id] = leader.request_id
        if request.request_id not in leaders and len(admitted) < room:
            admitted.append(request)
    return [request.request_id for request in admitted], leaders


def _same_admissions(step: int, admitted: list[int], expected: list[int], leaders: dict[int, int], room: int) -> None:
    def mistake(sentence: str) -> Mistake:
        return Mistake(sentence, rows=[(f"step {step}, expected", _named(expected)), ("yours", _named(admitted))])

    for place in range(max(len(admitted), len(expected))):
        got = admitted[place] if place < len(admitted) else None
        wanted = expected[place] if place < len(expected) else None
        if got == wanted:
            continue
        if got in leaders:
            raise mistake(
                f"Your refill admits request {got} in step {step}, while request {leaders[got]} is computing the "
                f"beginning that both share: it would be computed twice. Ask `self.must_hold(request)`."
            )
        if got is None:
            passed = [number for number in leaders if number < wanted]
            if not admitted:
                why = f"request {wanted} waits and a slot is free, but your refill admits nobody"
            elif passed and not [number for number in admitted if number > passed[0]]:
                why = f"request {passed[0]} is held, and your refill stops there: request {wanted} may pass it"
            else:
                why = (
                    f"{room} slots are free and your refill admits {len(admitted)}: request {wanted} waits for a "
                    f"step more, and nobody uses the slot"
                )
            raise mistake(f"In step {step}, {why}.")
        raise mistake(
            f"In step {step} your refill gives a slot to request {got} before request {wanted}, which came earlier: "
            f"first come, first served."
        )


def _named(requests: Sequence[int]) -> str:
    return f"request {', '.join(map(str, requests))} admitted" if requests else "nobody admitted"


def _who_runs(log: EventLog) -> list[Record]:
    """All but two kinds of notes: one may ask `must_hold` also when no slot is free, which only notes who was held;
    and how long a phase took is nobody's mistake.
    """
    return [record for record in log.records if not isinstance(record.event, RequestHeld | PhaseEnded)]
