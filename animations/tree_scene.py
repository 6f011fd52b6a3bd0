"""A run as its radix tree: the beats, how long they may take, and what was shared. What is said is the film's."""

from __future__ import annotations

from typing import Any

from manim import Animation

from astrai.trace import events as e
from astrai.trace.log import EventLog
from astrai.widgets.data.texts import shown_ids

from .trace_scene import TraceScene
from .tree_stage import TreeStage, plain, readable

LONGEST = 70.0  # seconds: then no further event is told
# How long a beat of a kind is when it is told for the first time; after that, half as long.
SECONDS = {"miss": 2.8, "part": 3.2, "whole": 3.2, "split": 3.4, "shared": 3.2, "leaf": 3.6, "answer": 3.4, "over": 3.2}
SECONDS |= {"leaves": 3.6, "oldest": 2.4, "evicted": 2.8, "taken": 3.0, "merged": 2.8}


class FilmIsLong(Exception):
    """There is something to tell, but no time for it."""


class TreeScene(TraceScene):
    """Any run with a tree: its first steps, as many as fit.

    Raises:
        ValueError: the log holds no complete step, or no tree.
    """

    def __init__(self, trace: EventLog | None = None, quick: bool = False, **settings: Any) -> None:
        super().__init__(trace=trace, quick=quick, **settings)
        self.config = self.log.header.get("engine_config") or {}
        if self.config.get("prefix_cache") is False:
            raise ValueError(
                "this run was made with the prefix cache off: there is no tree to show. "
                "Film a run of an engine with prefix_cache=True"
            )
        if not self.state["nodes"] and not any(isinstance(record.event, e.NodeInserted) for record in self.records):
            raise ValueError("no prompt was computed in this run: there is no tree to show. Run a request first")

    def prepare(self) -> None:
        """An empty stage."""
        self.stage = TreeStage(self, self.config.get("capacity_tokens"))
        self.told: set[str] = set()  # kinds of beats
        self.over = False  # whether a leaf is being evicted for want of room
        self.shared: set[int] = set()  # nodes that were shown as found, or as held by several slots

    def play_until_long(self) -> None:
        """Play the steps. Where time runs out within one, say so."""
        try:
            for _ in self.play_steps():
                pass
        except FilmIsLong:
            step, last = self.view.snapshot().step, self.records[-1].step
            rest = f"The run goes on, to step {last}." if step < last else "The rest of this last step is not shown."
            self.beat(f"The film ends here, in step {step}. {rest}", pause=2.0)

    def go_on(self) -> None:
        """Call it before something is told.

        Raises:
            FilmIsLong: there is no time for it.
        """
        if self.told_seconds > LONGEST:
            raise FilmIsLong

    def tell(self, kind: str, text: str) -> None:
        """A beat for what is different now, if anything is."""
        if self.stage.tells(nodes := self.nodes()):
            return
        if not self.over:  # a question that was asked is answered
            self.go_on()
        if moves := self.stage.change(nodes):
            self.beat_of(kind, text, *moves)

    def beat_of(self, kind: str, text: str, *moves: Animation) -> None:
        """At leisure the first time, quicker after that."""
        seconds = SECONDS[kind] if kind not in self.told else max(1.4, 0.5 * SECONDS[kind])
        self.told.add(kind)
        self.shared |= self.stage.shared()
        self.beat(text, *moves, seconds=0.7, pause=seconds - (0.7 if moves else 0))

    def shown(self) -> dict[str, Any]:
        """The tree."""
        return self.stage.shown()

    def words(self, ids: tuple[int, ...]) -> str:
        """Tokens as text for a picture, or as numbers where nobody can decode them."""
        return plain(self.view.decode(ids)) if self.view.decode else shown_ids(ids)

    def nodes(self) -> dict[int, dict[str, Any]]:
        """The tree as it is now."""
        return readable(self.state["nodes"])
