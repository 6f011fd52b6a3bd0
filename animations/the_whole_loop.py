"""TheWholeLoop: chats go through the four phases, from the queue into the slots and out again."""

from __future__ import annotations

from typing import Any

from manim import UP, Animation, FadeIn, FadeOut

from astrai.trace import events as e

from .film import TOP
from .loop_words import BRIEFLY, News, last_words, told
from .mobjects.bar import Span
from .mobjects.legend import Legend
from .mobjects.phase_dial import PhaseDial
from .mobjects.queue import MOST_CARDS, Queue
from .mobjects.request_card import OwnerTag
from .mobjects.slot_row import SlotRow
from .style import BODY, HEADING, LINE, Label, fitted_end, put_left
from .trace_scene import TraceScene

LEFT, RIGHT = -6.85, 6.85
QUEUE_WIDTH, ROWS_LEFT = 3.5, -2.95
QUEUE_TOP = 1.6
ROWS_TOP, ROWS_HEIGHT, MOST_ROWS = 1.6, 4.6, 4
MORE_Y, LEGEND_Y = -2.35, -2.95
LONGEST = 72.0  # seconds: a longer run is shown up to here


class TheWholeLoop(TraceScene):
    """Any run: its first steps in full, as many as fit."""

    def story(self) -> None:
        """The title, the stage, the steps."""
        self.explained: set[str] = set()
        self.copies: list[e.PrefixCopied] = []
        self.queue = Queue(LEFT, QUEUE_TOP, QUEUE_WIDTH)
        self.tags: dict[int, OwnerTag] = {}
        self.lines: dict[int, Label] = {}
        self.news: list[News] = []  # of this phase
        self.more = Label("")
        self.title("The whole loop", "A language model engine serves many chats at once. How?")
        self._set_stage()
        for step in self.play_steps():
            if self.told_seconds > LONGEST and step != self.steps[-1]:
                self.beat(f"The run goes on, to step {self.steps[-1]}: always the same four phases.", pause=3.0)
                return
        self.beat(last_words(self.view.snapshot()), *self.dial.point_at(None), seconds=0.5, pause=3.0)

    def _set_stage(self) -> None:
        used = sorted({r.event.slot for r in self.records if isinstance(r.event, e.RequestAdmitted)})
        slots = self.state["slots"]
        self.seen_slots = used[:MOST_ROWS] or [0]
        ends = [r.event.end for r in self.records if isinstance(r.event, e.Prefilled)]
        ends += [p + 1 for r in self.records if isinstance(r.event, e.TokensDecoded) for p in r.event.positions]
        pitch = min(1.5, ROWS_HEIGHT / len(self.seen_slots))
        self.rows = {
            slot: SlotRow(slot, ROWS_LEFT, ROWS_TOP - index * pitch, RIGHT - ROWS_LEFT, max(ends, default=1))
            for index, slot in enumerate(self.seen_slots)
        }
        self.dial = PhaseDial(0, 2.75)
        legend = Legend(["prefill", "decode", "copied", "reused"], 0, LEGEND_Y)
        self.counter = put_left(Label(f"step {self.state['step']}", HEADING), LEFT, TOP)
        queue = put_left(Label("waiting", BODY, LINE), LEFT, QUEUE_TOP + 0.5)
        for slot, row in self.rows.items():
            row.tell(slots[slot])
        some = "" if len(slots) == len(self.rows) else f" Shown: {len(self.rows)} of {len(slots)}."
        self.beat(
            f"A slot is a row of the cache, with room for one running chat.{some}",
            *(FadeIn(row) for row in self.rows.values()),
            seconds=0.8,
            pause=2.2,
        )
        self.beat(
            "A loop of four phases moves chats from the queue into slots, and out again.",
            FadeIn(self.dial),
            FadeIn(queue),
            FadeIn(self.counter),
            FadeIn(legend),
            seconds=0.8,
            pause=2.4,
        )

    # --- what the events say ------------------------------------------------------------------------------------------

    def on_step_started(self, event: e.StepStarted) -> None:
        """The number changes with the first beat of the step."""
        self.remove(self.counter)
        self.counter = put_left(Label(f"step {event.step}", HEADING), LEFT, TOP)
        self.add(self.counter)

    def on_prefix_copied(self, event: e.PrefixCopied) -> None:
        """What is copied will be seen to fly."""
        if {event.src, event.dst} <= self.rows.keys():
            self.copies.append(event)

    def on_event(self, event: e.Event) -> None:
        """What is to be said of it, where it can be seen."""
        news = told(event, self.view.snapshot())
        if news and (news.slot is None or news.slot in self.rows):
            self.news.append(news)

    def on_phase_ended(self, event: e.PhaseEnded) -> None:
        """Show what the phase did. What was not seen before is told at leisure, all else in short beats."""
        moves = self._moves()
        new = {news.kind: news for news in self.news if news.kind not in self.explained}
        self.explained |= new.keys()
        if moves or new:
            moves = self.dial.point_at(event.phase) + moves
        for news in new.values():
            self.beat(news.caption, *moves, seconds=0.9, pause=news.pause)
            moves = []
        if moves and (event.phase == "decode" or not self.news):
            self.beat(BRIEFLY[event.phase], *moves, seconds=0.35, pause=0.1)
        elif moves:
            self.beat(self.news[-1].caption, *moves, seconds=0.6, pause=1.0)
        self.news.clear()

    def _moves(self) -> list[Animation]:
        state, moves = self.state, []
        for slot, row in self.rows.items():
            moves += row.tell(state["slots"][slot])
        for copy in self.copies:  # what is copied is seen to fly
            piece = Span("copied", 0, copy.length, self.rows[copy.src])
            moves.append(FadeOut(piece, shift=(self.rows[copy.dst].y - self.rows[copy.src].y) * UP))
        self.copies.clear()
        for request_id in state["waiting"]:  # those that came before the log begins
            self.queue.arrive(request_id, self.asked(self.view.snapshot().request(request_id).prompt_ids))
        self._count_the_others(len(state["waiting"]) - MOST_CARDS)
        places = {s["owner"]: self.rows[n].name.get_center() for n, s in enumerate(state["slots"]) if n in self.rows}
        return moves + self.queue.tell(state["waiting"], places) + self._owner_moves(state)

    def _count_the_others(self, count: int) -> None:
        self.remove(self.more)
        self.more = put_left(Label(f"and {count} more" if count > 0 else "", BODY, LINE), LEFT, MORE_Y)
        if count > 0:
            self.add(self.more)

    def _owner_moves(self, state: dict[str, Any]) -> list[Animation]:
        moves: list[Animation] = []
        snapshot = self.view.snapshot()
        for slot, row in self.rows.items():
            owner, tag = state["slots"][slot]["owner"], self.tags.get(slot)
            if tag and tag.request_id != owner:
                moves.append(FadeOut(self.tags.pop(slot)))
            if owner is not None and slot not in self.tags:
                self.tags[slot] = OwnerTag(owner, ROWS_LEFT, row.y - 0.5)
                moves.append(FadeIn(self.tags[slot]))
            request = snapshot.request(owner) if owner is not None else None
            text = self.text_of(request.output_ids) if request else ""
            line = put_left(fitted_end(text.strip(), RIGHT - row.left), row.left, row.y - 0.5)
            if slot in self.lines:
                self.remove(self.lines.pop(slot))
            if line.text:
                self.lines[slot] = line
                self.add(line)
        return moves

    def shown(self) -> dict[str, Any]:
        """The step, the rows with their owners, and the queue."""
        rows = {}
        for slot, row in self.rows.items():
            version, tokens = row.shown()
            rows[slot] = (version, self.tags[slot].request_id if slot in self.tags else None, tokens)
        step, waiting = int(self.counter.text.split()[1]), self.queue.shown(self.mobjects)
        return {"step": step, "slots": rows, "waiting": waiting}
