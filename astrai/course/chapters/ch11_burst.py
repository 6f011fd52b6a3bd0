"""The check of 11.7: requests that arrive together compute what they share once, and nobody waits without a reason."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from astrai.course.chapters.ch11_runs import Ids, events_of, play, without_holds
from astrai.course.handed_in import own_class
from astrai.course.mistakes import Mistake
from astrai.course.parting import same_trace
from astrai.inference.scheduler import InferenceScheduler
from astrai.trace.events import Prefilled, RequestAdmitted
from astrai.trace.log import EventLog

Scheduler = Callable[..., InferenceScheduler]
SHARED: Ids = (1, 2, 3, 4, 5, 6)
GIVEN = ("MatchAtArrival", "MatchAtRefill", "HoldingScheduler")  # in the notebook, to be built upon
BURST = [(*SHARED, 10 + number, 20) for number in range(8)]


def place(scheduler: Scheduler) -> None:
    """A scheduler admits and holds as the package's does."""
    own_class(scheduler, "place", given=GIVEN, instead="refill")
    _nothing_twice(scheduler)
    _nobody_waits_for_nothing(scheduler)
    _the_last_token(scheduler)
    for prompts, settings in MIXED:
        yours, expected = (play(prompts, scheduler=one, **settings) for one in (scheduler, InferenceScheduler))
        same_trace(without_holds(yours), without_holds(expected), "your run")


def _nothing_twice(scheduler: Scheduler) -> None:
    least = len(SHARED) + sum(len(prompt) - len(SHARED) for prompt in BURST)
    log = play(BURST, scheduler=scheduler)
    at_once = computed(log)
    if len(admissions(log)) < len(BURST):
        lost = ", ".join(str(number) for number in range(len(BURST)) if number not in admissions(log))
        raise Mistake(
            f"The request(s) {lost} never got a row: they are neither running nor waiting any more. Whom you hold must "
            f"stay in `self.waiting`."
        )
    if at_once == least:
        return
    what = f"{len(BURST)} requests of {len(BURST[0])} tokens, the first {len(SHARED)} the same"
    rows = [("arrived", what), ("expected", f"{least} tokens computed"), ("yours", f"{at_once} tokens computed")]
    if computed(play(BURST, scheduler=scheduler, max_running=4)) == sum(map(len, BURST)):
        sentence = "Your requests still take what was found when they arrived, and at that time the cache was empty. "
        raise Mistake(f"{sentence}Match when the row is given.", rows=rows)
    if at_once == sum(map(len, BURST)):
        raise Mistake(
            "You match when the row is given, and that is half of it. But all eight get their rows in the same refill, "
            "before one token is computed: each matches an empty cache. Seven must wait for the one that computes "
            "what they share.",
            rows=rows,
        )
    raise Mistake("What several requests share is computed more than once.", rows=rows)


def _nobody_waits_for_nothing(scheduler: Scheduler) -> None:
    stranger = 2
    admitted = admissions(play([*BURST[:2], (7, 7, 7), *BURST[2:4]], scheduler=scheduler))
    if admitted[stranger] > 1:
        raise Mistake(
            f"Request {stranger} shares nothing with the others, and waits all the same: it is admitted in step "
            f"{admitted[stranger]} instead of step 1. Hold a request only if the leader will write more of its prompt "
            f"than the match has."
        )


def _the_last_token(scheduler: Scheduler) -> None:
    """A long prompt is computed in pieces of 4; a short one that is its beginning can gain nothing after the second."""
    long, short = tuple(range(1, 21)), tuple(range(1, 9))
    step = admissions(play([long, short], scheduler=scheduler, prefill_budget=4))[1]
    if step > 3:
        raise Mistake(
            f"Request 1 waits until step {step}, though after step 2 there is nothing to wait for: by then the match "
            f"has all of its prompt but the last token, and that one is always computed. Hold it only while the leader "
            f"shares more than the match has, the last token left out."
        )


def computed(log: EventLog) -> int:
    """The prompt tokens that were computed in a run."""
    return sum(chunk.end - chunk.start for chunk in events_of(log, Prefilled))


def admissions(log: EventLog) -> dict[int, int]:
    """The step in which each request got its row."""
    return {r.event.request_id: r.step for r in log.records if isinstance(r.event, RequestAdmitted)}


MIXED: tuple[tuple[Sequence[Ids], dict[str, int]], ...] = (
    ([*BURST[:3], (1, 2, 9, 9), (5, 5), (1, 2, 9, 8, 8), BURST[0]], {}),
    ([*BURST, (5, 5, 5)], {"prefill_budget": 3}),
    ([*BURST, (5, 5, 5), *BURST], {"max_running": 3, "num_slots": 5}),
    ([(1,), (1,), (1, 2), (1, 2, 3)], {}),
)
