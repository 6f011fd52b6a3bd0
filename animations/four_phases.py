"""FourPhases: the same requests under two rules, step by step: static batching above, continuous batching below."""

from __future__ import annotations

from typing import Any

from manim import Animation, FadeIn, FadeOut

from astrai.inference.rerun import rerun
from astrai.trace import events as e
from astrai.trace.replay import replay

from .film import TOP
from .mobjects.lane import HEAD, Lane, steps_that_fit
from .mobjects.legend import Legend
from .mobjects.phase_dial import PhaseDial
from .static_batching import StaticScheduler, Work, answers, work_of
from .style import BODY, HEADING, INK, LINE, Label, put_left
from .trace_scene import TraceScene

LEFT, RIGHT = -6.85, 6.85
UPPER, LOWER, PITCH, MOST_LANES, MOST_STEPS = 1.55, -1.1, 0.68, 3, 60
LEGEND_Y = -3.05

TALK = {
    "cleanup": "Each step has four phases. Cleanup: new requests join the queue.",
    "refill": "Refill: waiting requests get free slots.",
    "prefill": "Prefill: tokens of a prompt are computed, many in one pass (P).",
    "decode": "Decode: one more token for each running request. Only that in a step: D.",
}


class FourPhases(TraceScene):
    """Any run that can be repeated: under the scheduler that made it, and under ``StaticScheduler``."""

    def story(self) -> None:
        """The title, the two charts, the steps, the sum."""
        if unfinished := self._unfinished():
            raise ValueError(f"this run is not over ({unfinished}): make the film when all its requests have ended")
        self.static_log = rerun(self.log, 0, then={"scheduler": StaticScheduler})
        self.done, self.static = work_of(self.log), work_of(self.static_log)
        if not self.done:
            raise ValueError("no request got a slot in this run, so there is nothing to compare: run a request first")
        self.first, self.total = max(self.done), max(self.static)
        slots = sorted({slot for owned in (*self.done.values(), *self.static.values()) for slot in owned})
        self.slots = slots[:MOST_LANES]
        owners = [
            [work.get(step, {}).get(slot, (None, None))[1] for step in range(1, max(work) + 1)]
            for work in (self.done, self.static)
            for slot in self.slots
        ]
        self.until = steps_that_fit(owners, RIGHT - LEFT, min(MOST_STEPS, max(self.first, self.total)))
        self.has_refilled = False
        self.title("The four phases", "An engine that refills its slots at once, and one that does not.")
        self._set_stage()
        for step in self.play_steps(self.until):
            if step >= self.first:
                break
        self._finish()

    def _unfinished(self) -> str:
        end = replay(self.log)
        running = [request for request in end.running if end.request(request).finish_reason is None]
        told = [("running", running), ("waiting", end.waiting)]
        return "; ".join(f"{what}: {', '.join(map(str, ids))}" for what, ids in told if ids)

    def _set_stage(self) -> None:
        shown, total = self.slots, self.log.num_slots
        width = RIGHT - LEFT
        self.upper, self.lower = (
            [Lane(slot, LEFT, top - PITCH * place, width, self.until) for place, slot in enumerate(shown)]
            for top in (UPPER, LOWER)
        )
        self.dial = PhaseDial(0, 2.9)
        self.counter = put_left(Label("step 0", HEADING), LEFT, TOP)
        names = [
            put_left(Label(words, BODY, LINE), LEFT + HEAD, top + 0.68)
            for words, top in (("static batching", UPPER), ("continuous batching", LOWER))
        ]
        count = len({record.event.request_id for record in self.records if isinstance(record.event, e.RequestArrived)})
        some = "" if len(shown) == total else f" (shown: {len(shown)})"
        idle = [work for works in (*self.done.values(), *self.static.values()) for work, _ in works.values()]
        roles = ["prefill", "decode", *(["owned"] if "owned" in idle else [])]
        self.beat(
            f"{_count_of(count, 'request')}, {_count_of(total, 'slot')}{some}. From left to right: the loop's steps.",
            *(FadeIn(part) for part in (self.counter, self.dial, *self.lower, names[1])),
            FadeIn(Legend(roles, 0, LEGEND_Y)),
            seconds=0.8,
            pause=2.4,
        )
        self.beat(
            "Above, the same requests under the old rule: a batch starts and ends together.",
            *(FadeIn(part) for part in (*self.upper, names[0])),
            seconds=0.8,
            pause=2.6,
        )

    def on_step_started(self, event: e.StepStarted) -> None:
        """The number changes with the first beat of the step."""
        self._count(event.step)

    def _count(self, step: int) -> None:
        self.remove(self.counter)
        self.counter = put_left(Label(f"step {step}", HEADING, INK), LEFT, TOP)
        self.add(self.counter)

    def on_phase_ended(self, event: e.PhaseEnded) -> None:
        """The phases of the first step at leisure; later what they do when a slot gets its second request."""
        step = self.view.snapshot().step
        if step == self.steps[0]:
            moves = self._moves(step) if event.phase == "prefill" else []
            self.beat(TALK[event.phase], *self.dial.point_at(event.phase), *moves, seconds=0.6, pause=2.0)

    def end_of_step(self, step: int) -> None:
        """One more place in each lane."""
        if step == self.steps[0]:
            return
        if not self.has_refilled and (again := self._taken_again(step)):
            self.has_refilled = True
            self._tell_refill(step, *again)
        else:
            self._tell_growth("Step by step the answers grow.", self.dial.point_at(None) + self._moves(step))

    def _tell_growth(self, caption: str, moves: list[Animation]) -> None:
        self.beat(caption, *moves, seconds=0.35, pause=0.1 if moves else 0.45)

    def _tell_refill(self, step: int, slot: int, before: int, after: int) -> None:
        lit = self.dial.point_at("cleanup")
        self.beat(f"Request {before} had its last token. Cleanup makes slot {slot} free.", *lit, seconds=0.5, pause=2.4)
        lit = self.dial.point_at("refill")
        moves = self._moves(step)
        self.beat(f"Refill: below, request {after} takes the slot at once.", *lit, *moves, seconds=0.8, pause=2.4)
        if slot not in self.static.get(step, {}):
            self.beat("Above, the slot stays empty until the slowest has ended.", pause=3.0)

    def _taken_again(self, step: int) -> tuple[int, int, int] | None:
        for lane in self.lower:
            now, before = (self.done.get(at, {}).get(lane.slot) for at in (step, step - 1))
            if now and before and now[1] != before[1]:
                return lane.slot, before[1], now[1]
        return None

    def _moves(self, step: int) -> list[Animation]:
        moves: list[Animation] = []
        for lanes, work in ((self.upper, self.static), (self.lower, self.done)):
            for lane in lanes:
                moves += lane.step(work.get(step, {}).get(lane.slot))
        return moves

    def _finish(self) -> None:
        if self.first > self.until:
            self.beat(f"So it goes on: below to step {self.first}, above to step {self.total}.", pause=3.5)
            return
        self.beat(f"Continuous batching is done after {self.first} steps.", *self.dial.point_at(None), pause=2.2)
        for step in range(self.first + 1, min(self.until, self.total) + 1):
            self._count(step)
            self._tell_growth("Static batching goes on.", self._moves(step))
        more = f": {self.total / self.first:.1f} times as many" if self.total > self.first else ""
        self.beat(f"Static batching takes {self.total} steps{more}.", FadeOut(self.dial), seconds=0.5, pause=2.4)
        if self.total <= self.until:
            above, below = (self._empty_places(work) for work in (self.static, self.done))
            self.beat(f"Places without an owner: {above} above, {below} below.", pause=2.6)
        self.beat(self._compared(), pause=3.0)

    def _compared(self) -> str:
        static, done = answers(self.static_log), answers(self.log)
        if other := [request_id for request_id, tokens in done.items() if static.get(request_id) != tokens]:
            return f"Request {other[0]} was ended from outside, so its answer is not the same in both."
        return "Every request got the same tokens in both."

    def _empty_places(self, work: Work) -> int:
        """How often, until the last step, one of the lanes had no owner."""
        return max(work) * len(self.slots) - sum(len(set(self.slots) & owned.keys()) for owned in work.values())

    def shown(self) -> dict[str, Any]:
        """The step, and who owns each slot in it, below."""
        step = int(self.counter.text.split()[1])
        return {"step": step, "owners": {lane.slot: lane.shown(step - 1) for lane in self.lower}}


def _count_of(number: int, what: str) -> str:
    return f"{number} {what}{'s' * (number != 1)}"
