"""SplitTheEdge: the tree of cached prompts grows, answers hits, is split, and forgets leaf by leaf."""

from __future__ import annotations

from typing import Any

from manim import Animation

from astrai.trace import events as e
from astrai.widgets.data.texts import shown_ids

from .mobjects.tree_layout import path_to
from .trace_scene import TraceScene
from .tree_stage import TreeStage, plain, readable

LONGEST = 80.0  # seconds: a longer run is shown up to here
# How long a beat of a kind is when it is told for the first time; after that, half as long.
SECONDS = {"miss": 2.8, "part": 3.2, "whole": 3.2, "split": 3.4, "shared": 3.2, "leaf": 3.6, "answer": 3.4, "over": 3.2}
SECONDS |= {"leaves": 3.6, "oldest": 2.4, "evicted": 2.8, "taken": 3.0}


class SplitTheEdge(TraceScene):
    """Any run: its first steps, as many as fit."""

    def story(self) -> None:
        """The title, the steps, the moral."""
        self.told: set[str] = set()
        self.used = 0  # the node of the last walk
        self.over = False  # whether a leaf is being evicted for want of room
        self.prompts: dict[int, tuple[int, ...]] = {}
        self.title("Split the edge", "Many prompts begin with the same words. Why compute those twice?")
        self.stage = TreeStage(self, (self.log.header.get("engine_config") or {}).get("capacity_tokens"))
        self._tell("shared", "This is what the slots hold already: their words form a tree.")
        for step in self.play_steps():
            if self.renderer.time > LONGEST and step != self.steps[-1]:
                self.beat(f"The run goes on, to step {self.steps[-1]}.", pause=1.6)
                break
        self.beat("What many prompts share is used often, and stays. That is the prefix cache.", pause=3.4)

    # --- what the events say ------------------------------------------------------------------------------------------

    def on_request_arrived(self, event: e.RequestArrived) -> None:
        """Remember the prompt."""
        self.prompts[event.request_id] = event.prompt_ids

    def on_path_used(self, event: e.PathUsed) -> None:
        """A match walks to this node."""
        self.used = event.node_id

    def on_prefix_matched(self, event: e.PrefixMatched) -> None:
        """Walk down the tree, edge by edge, as far as the words agree."""
        ids, nodes, start = self._prompt(event.request_id), self._nodes(), 0
        path = path_to(nodes, self.used)
        whole = sum(nodes[node_id]["len"] for node_id in path) == event.length
        agrees = "all of this path is in the cache" if whole else "it begins with the same words"
        self.stage.ask(event.request_id, self._words(ids))
        walk = "A prompt walks down the tree, as long as the words agree."
        self.beat(walk, pause=0.6)
        for node_id in path:
            end = start + nodes[node_id]["len"]
            self.stage.find(node_id, None if end <= event.length else self._words(ids[start : event.length]))
            self.beat(walk, pause=0.5)
            start = end
        found, new = self._words(ids[: event.length]), self._words(ids[event.length :])
        self.stage.strip.tell((found, "hit"), (new, "miss"))
        self._beat("whole" if whole else "part", f"Found (H): {agrees}. Only the rest is new (M).")

    def on_request_admitted(self, event: e.RequestAdmitted) -> None:
        """A prompt of which nothing was found, or one that has just got its copy."""
        if event.cached_len:
            self._tell("shared", "The found words (H) are copied into another slot. Now both hold them.")
        else:
            self.stage.ask(event.request_id, self._words(self._prompt(event.request_id)), "miss")
            self._beat("miss", "A prompt comes. Nothing like it is in the cache: all of it is new (M).")

    def on_node_split(self, event: e.NodeSplit) -> None:
        """The edge is cut in two."""
        if self.stage.lit.pop(event.node_id, None):
            self.stage.lit[event.upper_id] = ("hit", 1.0)
        self._tell("split", "Split: the edge is cut where the two prompts part.")

    def on_node_inserted(self, event: e.NodeInserted) -> None:
        """New words."""
        self.stage.lit[event.node_id] = ("miss", 1.0)

    def on_node_merged(self, event: e.NodeMerged) -> None:
        """An edge goes on."""
        self.stage.lit.pop(event.child_id, None)
        self.stage.lengthen(event.node_id, self._nodes()[event.node_id]["text"])

    def on_slot_truncated(self, event: e.SlotTruncated) -> None:
        """Too many tokens: who was used longest ago?"""
        self.over, nodes = True, self._nodes()
        count = sum(node["len"] for node in nodes.values())
        self._tell("over", f"The answer is kept too. But {count} tokens are too many: {self.stage.capacity} may stay.")
        boxes, inner = self.stage.tree.boxes, {node["parent"] for node in nodes.values()}
        for node_id in boxes.keys() - inner:
            boxes[node_id].say("in use" if nodes[node_id]["locked"] else f"used at tick {nodes[node_id]['used']}")
        self._beat("leaves", "One leaf must go, never a shared beginning. Which one was used longest ago?")

    def on_node_evicted(self, event: e.NodeEvicted) -> None:
        """It fades."""
        if event.node_id in self.stage.tree.boxes:
            self.stage.tree.light({event.node_id: ("evicted", 1.0)})
            if self.over:
                self._beat("oldest", "This one. It is evicted (E).")
        if self.over:
            self._tell("evicted", "The leaf is gone. What it shared with others stays.")
        else:
            self._tell("taken", "A slot was handed out anew: what it alone held is evicted (E).")
        self.over = False

    def on_phase_ended(self, event: e.PhaseEnded) -> None:
        """What else has changed."""
        if event.phase == "prefill":
            later = "Only the new words (M) are computed, and kept."
            self._tell("leaf", later if "leaf" in self.told else "Its words are kept, on an edge of a tree.")
        elif event.phase == "cleanup":
            self._tell("answer", "The answer is kept too, for a question that goes on from there.")
        else:
            self._tell("shared", "The tree follows what the slots hold.")

    def shown(self) -> dict[str, Any]:
        """The tree."""
        return self.stage.shown()

    # --- telling ------------------------------------------------------------------------------------------------------

    def _tell(self, kind: str, text: str) -> None:
        """A beat for what is different now, if anything is."""
        if moves := self.stage.change(self._nodes()):
            self._beat(kind, text, *moves)

    def _beat(self, kind: str, text: str, *moves: Animation) -> None:
        """At leisure the first time, quicker after that."""
        seconds = SECONDS[kind] if kind not in self.told else max(1.4, 0.5 * SECONDS[kind])
        self.told.add(kind)
        self.beat(text, *moves, seconds=0.7, pause=seconds - (0.7 if moves else 0))

    def _prompt(self, request_id: int) -> tuple[int, ...]:
        """What was asked. A trace may begin when a request is there already."""
        return self.prompts.get(request_id) or self.view.snapshot().request(request_id).prompt_ids

    def _words(self, ids: tuple[int, ...]) -> str:
        return plain(self.view.decode(ids)) if self.view.decode else shown_ids(ids)

    def _nodes(self) -> dict[int, dict[str, Any]]:
        return readable(self.state["nodes"])
