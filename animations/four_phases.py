"""FourPhases: the same requests under two rules, step by step: static batching above, continuous batching below."""

from __future__ import annotations

from typing import Any

from manim import Animation, FadeIn, FadeOut

from astrai.inference.rerun import rerun
from astrai.trace import events as e

from .film import TOP
from .mobjects.lane import HEAD, Lane
from .mobjects.legend import Legend
from .mobjects.phase_dial import PhaseDial
from .static_batching import StaticScheduler, Work, work_of
from .style import BODY, HEADING, INK, LINE, Label, put_left
from .trace_scene import TraceScene

LEFT, RIGHT = -6.85, 6.85
UPPER, LOWER, PITCH, MOST_LANES, MOST_STEPS = 1.55, -1.1, 0.68, 3, 60
LEGEND_Y = -3.05

TALK = {
    "cleanup": "Each step has four phases. Cleanup: requests join the queue; none has ended.",
    "refill": "Refill: waiting requests get free slots.",
    "prefill": "Prefill: a prompt is computed in one go (P).",
    "decode": "Decode: each running request gets one more token (D).",
}


class FourPhases(TraceScene):
    """Any run that can be repeated: under the scheduler that made it, and under ``StaticScheduler``."""

    def story(self) -> None:
        """The title, the two charts, the steps, the sum."""
        self.static_log = rerun(self.log, 0, then={"scheduler": StaticScheduler})
        self.done, self.static = work_of(self.log), work_of(self.static_log)
        self.until = min(MOST_STEPS, max(self.last(self.done), self.last(self.static)))
        self.has_refilled = False
        self.title("The four phases", "An engine that refills its slots at once, and one that does not.")
        self._set_stage()
        for step in self.play_steps(self.until):
            if step >= self.last(self.done):
                break
        self._finish()

    @staticmethod
    def last(work: Work) -> int:
        """The last step in which a slot did something."""
        return max(work)

    def _set_stage(self) -> None:
        used = sorted({slot for slots in (*self.done.values(), *self.static.values()) for slot in slots})
        shown, total = used[:MOST_LANES], self.log.num_slots
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
        some = "" if len(shown) == total else f" ({len(shown)} are shown)"
        self.beat(
            f"{count} requests, {total} slots{some}. From left to right: the steps of the loop.",
            *(FadeIn(part) for part in (self.counter, self.dial, *self.lower, names[1])),
            FadeIn(Legend(["prefill", "decode"], 0, LEGEND_Y)),
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
        if self.view.snapshot().step == self.steps[0] and event.phase != "decode":
            self.beat(TALK[event.phase], *self.dial.point_at(event.phase), seconds=0.5, pause=2.0)

    def end_of_step(self, step: int) -> None:
        """One more place in each lane."""
        if step == self.steps[0]:
            lit = self.dial.point_at("decode")
            self.beat(TALK["decode"], *lit, *self._moves(step), seconds=0.8, pause=2.0)
        elif not self.has_refilled and (again := self._taken_again(step)):
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
        first, total = self.last(self.done), self.last(self.static)
        if self.until < max(first, total):
            self.beat(f"The first {self.until} steps, of {first} and {total}.", pause=3.0)
            return
        self.beat(f"Continuous batching is done after {first} steps.", pause=2.2)
        for step in range(first + 1, total + 1):
            self._count(step)
            self._tell_growth("Static batching goes on.", self._moves(step))
        gone = [FadeOut(self.dial)]
        if total > first:
            self.beat(f"Static batching took {total} steps: {total / first:.1f} times as many.", *gone, pause=2.4)
        empty = [self._empty_places(work) for work in (self.static, self.done)]
        self.beat(f"Places that stood empty: {empty[0]} above, {empty[1]} below. The answers are the same.", pause=4.0)

    def _empty_places(self, work: Work) -> int:
        """How often, until the last step, one of the lanes had nothing to do."""
        slots = {lane.slot for lane in self.lower}
        return self.last(work) * len(slots) - sum(len(slots & busy.keys()) for busy in work.values())

    def shown(self) -> dict[str, Any]:
        """The step, and who has each slot in it, below and above."""
        step = int(self.counter.text.split()[1])
        owners, static = ({lane.slot: lane.shown(step - 1) for lane in lanes} for lanes in (self.lower, self.upper))
        return {"step": step, "owners": owners, "static_owners": static}
