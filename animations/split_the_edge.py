"""SplitTheEdge: the tree of cached prompts grows, answers hits, is split, and forgets leaf by leaf."""

from __future__ import annotations

from astrai.trace import events as e

from .mobjects.tree_layout import Nodes, path_to
from .tree_scene import TreeScene

KEPT = {"cleanup": "The answer is kept too. But ", "prefill": "The new words are kept. But "}


class SplitTheEdge(TreeScene):
    """Any run with a tree: its first steps, as many as fit."""

    def story(self) -> None:
        """The title, the steps, the moral."""
        self.used = 0  # the node of the last walk
        self.copied_to: int | None = None  # the slot that the last copy went to
        self.prompts: dict[int, tuple[int, ...]] = {}
        self.title("Split the edge", "Many prompts begin with the same words. Why compute those twice?")
        self.prepare()
        self.tell("shared", "This is what the slots hold already: their words form a tree.")
        self.play_until_long()
        if self.shared & self.stage.tree.boxes.keys():
            self.beat("What many prompts share is used often, and stays. That is the prefix cache.", pause=3.4)
        else:
            self.beat("What was computed stays while there is room. That is the prefix cache.", pause=3.4)

    # --- a prompt comes -----------------------------------------------------------------------------------------------

    def on_request_arrived(self, event: e.RequestArrived) -> None:
        """Remember the prompt."""
        self.prompts[event.request_id] = event.prompt_ids

    def on_path_used(self, event: e.PathUsed) -> None:
        """A match walks to this node."""
        self.used = event.node_id

    def on_prefix_matched(self, event: e.PrefixMatched) -> None:
        """Walk down the tree, edge by edge, as far as the words agree."""
        self.go_on()
        ids, nodes, start = self._prompt(event.request_id), self.nodes(), 0
        path = path_to(nodes, self.used)
        whole = sum(nodes[node_id]["len"] for node_id in path) == event.length
        agrees = "all of this path is in the cache" if whole else "it begins with the same words"
        self.stage.ask(event.request_id, self.words(ids))
        walk = "A prompt walks down the tree, as long as the words agree."
        self.beat(walk, pause=0.6)
        for node_id in path:
            end = start + nodes[node_id]["len"]
            if self.stage.find(node_id, None if end <= event.length else self.words(ids[start : event.length])):
                self.beat(walk, pause=0.5)
            start = end
        found, new = self.words(ids[: event.length]), self.words(ids[event.length :])
        self.stage.strip.tell((found, "hit"), (new, "miss"))
        self.beat_of("whole" if whole else "part", f"Found (H): {agrees}. Only the rest is new (M).")

    def on_prefix_copied(self, event: e.PrefixCopied) -> None:
        """Remember where to."""
        self.copied_to = event.dst

    def on_request_admitted(self, event: e.RequestAdmitted) -> None:
        """A prompt of which nothing was found, or one that has just got its copy, or its slot as it was."""
        if event.cached_len and self.copied_to == event.slot:
            self.tell("shared", "The found words (H) are copied into another slot. Now both hold them.")
        elif event.cached_len:
            self.tell("shared", "Its slot held the found words (H) already. Nothing is copied.")
        else:
            self.go_on()
            ids = self._prompt(event.request_id)
            self.stage.ask(event.request_id, self.words(ids), "miss")
            alike = any(not node.parent_id and node.token_ids[0] == ids[0] for node in self.view.snapshot().nodes)
            why = "All of it is computed (M)." if alike else "Nothing like it is in the cache: all of it is new (M)."
            self.beat_of("miss", f"A prompt comes. {why}")
        self.copied_to = None

    # --- the tree changes ---------------------------------------------------------------------------------------------

    def on_node_split(self, event: e.NodeSplit) -> None:
        """The edge is cut in two."""
        if self.stage.lit.pop(event.node_id, None):
            self.stage.lit[event.upper_id] = ("hit", 1.0)
        self.tell("split", "Split: the edge is cut where the two prompts part.")

    def on_node_inserted(self, event: e.NodeInserted) -> None:
        """New words."""
        self.stage.lit[event.node_id] = ("miss", 1.0)

    def on_node_merged(self, event: e.NodeMerged) -> None:
        """An edge goes on, or two that were drawn become one."""
        self.stage.lit.pop(event.child_id, None)
        self.stage.lengthen(event.node_id, self.nodes()[event.node_id]["text"])
        if event.child_id in self.stage.tree.boxes:
            self.tell("merged", "The same slots hold both edges now: they become one.")

    def on_slot_truncated(self, event: e.SlotTruncated) -> None:
        """Too many tokens: who was used longest ago? Asked once, however many slots hold that leaf."""
        if self.over:
            return
        self.go_on()
        self.over, nodes = True, self.nodes()
        self._tell_over(nodes)
        inner = {node["parent"] for node in nodes.values()}
        boxes, leaves = self.stage.tree.boxes, nodes.keys() - inner
        one = "One leaf must go, never a shared beginning." if inner - {0} else "One leaf must go."
        if any(event.slot in nodes[leaf]["holders"] for leaf in leaves & boxes.keys()):
            for leaf in leaves & boxes.keys():
                boxes[leaf].say("in use" if nodes[leaf]["locked"] else f"used at tick {nodes[leaf]['used']}")
            self.beat_of("leaves", f"{one} Which one was used longest ago?")
        else:
            self.beat_of("leaves", "The leaf that was used longest ago must go. It is one of those not shown.")

    def on_node_evicted(self, event: e.NodeEvicted) -> None:
        """It fades."""
        if event.node_id in self.stage.tree.boxes:
            self.stage.tree.light({event.node_id: ("evicted", 1.0)})
            if self.over:
                self.beat_of("oldest", "This one. It is evicted (E).")
        if self.over:
            rest = (
                "What it shared with others stays."
                if self.stage.nodes[event.node_id]["parent"]
                else "Nothing hung on it."
            )
            self.tell("evicted", f"The leaf is gone. {rest}")
        else:
            self.tell("taken", "A slot was handed out anew: what it alone held is evicted (E).")
        self.over = False

    def on_phase_ended(self, event: e.PhaseEnded) -> None:
        """What else has changed."""
        if event.phase == "prefill":
            later = "Only the new words (M) are computed, and kept."
            self.tell("leaf", later if "leaf" in self.told else "Its words are kept, on an edge of a tree.")
        elif event.phase == "cleanup":
            self.tell("answer", "The answer is kept too, for a question that goes on from there.")
        else:
            self.tell("shared", "The tree follows what the slots hold.")

    def _tell_over(self, nodes: Nodes) -> None:
        count, capacity = sum(node["len"] for node in nodes.values()), self.stage.capacity
        limit = "" if capacity is None else f": {capacity} may stay"
        kept = "" if self.stage.tells(nodes) else KEPT.get(self.view.snapshot().phase or "", "")
        self.beat_of("over", f"{kept}{count} tokens are too many{limit}.", *self.stage.change(nodes))

    def _prompt(self, request_id: int) -> tuple[int, ...]:
        """What was asked. A trace may begin when a request is there already."""
        return self.prompts.get(request_id) or self.view.snapshot().request(request_id).prompt_ids
