"""The stage on which a radix tree is shown: whose turn it is, the prompt, the tree, and how full it is."""

from __future__ import annotations

from typing import Any

from manim import Animation, Scene

from .film import TOP
from .mobjects.prompt_strip import PromptStrip
from .mobjects.radix_tree import RadixTree
from .mobjects.tree_layout import Nodes
from .style import BODY, INK, LINE, Label, put_left
from .trace_scene import SPECIAL

LEFT, RIGHT = -6.85, 6.85
STRIP_Y, TREE_TOP, STRIP_WIDTH = 2.75, 1.7, 10.3


class TreeStage:
    """``lit`` are the nodes of the prompt that is told of: a role, and the share of the edge that has its colour."""

    def __init__(self, scene: Scene, capacity: int | None) -> None:
        self.scene, self.capacity = scene, capacity
        self.tree = RadixTree(LEFT, RIGHT, TREE_TOP)
        self.strip = PromptStrip(LEFT, STRIP_Y, STRIP_WIDTH)
        self.lit: dict[int, tuple[str, float]] = {}
        self.nodes: Nodes = {}  # what the tree was told last
        self.labels = {name: Label("") for name in ("who", "counter", "missing")}
        scene.add(self.strip, self.tree)

    def ask(self, request_id: int, text: str, role: str | None = None) -> None:
        """The next prompt; the last one's colours go."""
        self._write("who", f"request {request_id}", TOP, at_left=True)
        self.strip.tell((text, role))
        self.lit = {}
        self.tree.light(self.lit)

    def find(self, node_id: int, beginning: str | None = None) -> bool:
        """The prompt goes on like the edge of this node, or like its ``beginning``. False: the node is not shown."""
        if node_id not in self.tree.boxes:
            return False
        whole = self.tree.boxes[node_id].data["text"]
        self.lit[node_id] = ("hit", 1.0 if beginning is None else min(0.99, len(beginning) / len(whole)))
        self.tree.light(self.lit)
        return True

    def lengthen(self, node_id: int, text: str) -> None:
        """The edge goes on, and now says ``text``: what was found of it is a smaller part of it."""
        if node_id in self.lit and node_id in self.tree.boxes:
            role, share = self.lit[node_id]
            self.lit[node_id] = (
                role,
                share * len(self.tree.boxes[node_id].data["text"]) / len(text) if role == "hit" else 1,
            )

    def tells(self, nodes: Nodes) -> bool:
        """Whether the tree was told of these nodes, be it that they were used since."""
        looks = ("parent", "text", "len", "holders")
        return nodes.keys() == self.nodes.keys() and all(
            node[look] == self.nodes[node_id][look] for node_id, node in nodes.items() for look in looks
        )

    def shared(self) -> set[int]:
        """The nodes that can be seen to be found as a whole, or to be in several slots."""
        found = {node_id for node_id, (role, share) in self.lit.items() if role == "hit" and share == 1}
        return {n for n, box in self.tree.boxes.items() if n in found or len(box.data["holders"]) > 1}

    def change(self, nodes: Nodes) -> list[Animation]:
        """The way to these nodes; none, if the picture is the same."""
        self.nodes = nodes
        moves = self.tree.tell(nodes, self.lit)
        total, count = sum(node["len"] for node in nodes.values()), self.tree.not_shown
        most = "" if self.capacity is None else f" of {self.capacity}"
        is_over = self.capacity is not None and total > self.capacity
        self._write("counter", f"{total}{most} tokens", TOP, INK if is_over else LINE)
        self._write("missing", f"{count} more node{'s' * (count != 1)} not shown" if count else "", STRIP_Y)
        return moves

    def shown(self) -> dict[str, Any]:
        """The tree, and how much of it there was no room for."""
        missing = self.labels["missing"].text
        return {"tree": self.tree.shown()} | ({"not_shown": int(missing.split()[0])} if missing else {})

    def _write(self, name: str, text: str, y: float, color: str = LINE, at_left: bool = False) -> None:
        self.scene.remove(self.labels[name])
        label = self.labels[name] = Label(text, BODY, color)
        self.scene.add(put_left(label, LEFT if at_left else RIGHT - label.width, y))


def plain(text: str) -> str:
    """Text for a picture: on one line, without special tokens."""
    return " ".join(SPECIAL.sub(" ", text).split())


def readable(nodes: dict[str, dict[str, Any]]) -> dict[int, dict[str, Any]]:
    """The nodes of a view's state, with texts for a picture."""
    return {int(n): {**node, "text": plain(node["text"]) or "(start)"} for n, node in nodes.items()}
