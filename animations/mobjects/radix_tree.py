"""The radix tree: from left to right a path reads as the text that it holds. Plain data in, animations out."""

from __future__ import annotations

from collections.abc import Mapping

from manim import Animation, VGroup

from .tree_layout import Nodes, height_below, in_use, path_to, rows_of
from .tree_motion import Rearrange, Stand
from .tree_node import TreeNode

GAP, PITCH = 0.4, 0.9
Lit = Mapping[int, tuple[str, float]]  # by node: a role, and the share of the edge that has its colour


class RadixTree(VGroup):
    """A tree whose first row stands at height ``top``, from ``left`` to ``right``.

    ``nodes`` of :meth:`tell` are those of a view's state with ids as ints, and with texts that can be shown.
    ``not_shown`` counts those for which there was no room.
    """

    def __init__(self, left: float, right: float, top: float) -> None:
        super().__init__()
        self.left, self.right, self.top = left, right, top
        self.boxes: dict[int, TreeNode] = {}
        self.rows: dict[int, int] = {}
        self._ends: dict[int, float] = {}  # x of the right edges
        self.not_shown = 0

    def tell(self, nodes: Nodes, lit: Lit | None = None) -> list[Animation]:
        """The way to these nodes, ``lit`` as in :meth:`light`. No animation: the tree looks like this already."""
        shown = in_use(nodes)
        self.not_shown = len(nodes) - len(shown)
        self.rows = rows_of(nodes, shown, self.rows)
        old, self.boxes = self.boxes, {}
        ends = {n: self._settle(n, nodes, old) for n in sorted(shown, key=lambda n: len(path_to(nodes, n)))}
        starts = {n: self._start(n, old, ends) for n in shown}
        gone = [box for n, box in old.items() if n not in shown]
        new = [n for n, box in self.boxes.items() if box is not old.get(n)]
        growing = [self.boxes[n] for n in new if starts[n][2] < ends[n][2]]
        changed = bool(gone or new) or starts != ends
        self.remove(*old.values())
        self.add(*gone, *self.boxes.values())
        for node_id, box in self.boxes.items():
            box.put(*starts[node_id][:3])
            box.say(None)
        self.light(lit or {})
        self.link()
        return [Rearrange(self, starts, ends, gone, growing)] if changed else []

    def light(self, lit: Lit) -> None:
        """Give nodes the colour of a role, or the first part of their edge, at once; all others lose theirs."""
        for node_id, box in self.boxes.items():
            box.light(*lit.get(node_id, (None, 1.0)))

    def link(self) -> None:
        """Draw the links anew."""
        for box in self.boxes.values():
            box.hang_on(self.boxes.get(box.parent_id))

    def shown(self) -> dict[int, tuple[int, int, tuple[int, ...]]]:
        """Of each node that can be seen its parent, its tokens and the slots that hold it, read off the boxes."""
        seen = [box for box in self.submobjects if isinstance(box, TreeNode) and box.frame.get_fill_opacity() > 0.02]
        return {box.node_id: box.shown() for box in seen}

    def _settle(self, node_id: int, nodes: Nodes, old: Mapping[int, TreeNode]) -> Stand:
        """Make or keep the box of a node whose parent has one, and say where it belongs."""
        parent = self.boxes.get(nodes[node_id]["parent"])
        x = self._ends[parent.node_id] + GAP if parent else self.left
        deeper = height_below(nodes, node_id, self.rows.keys())
        widest = (self.right - x - deeper * GAP) / (deeper + 1)
        box = old.get(node_id)
        if not (box and box.says(nodes[node_id]) and (box.widest == widest or box.natural < min(widest, box.widest))):
            box = TreeNode(node_id, nodes[node_id], widest)
        self.boxes[node_id] = box
        self._ends[node_id] = x + box.natural
        return x, self.top - self.rows[node_id] * PITCH, box.natural, 1.0

    def _start(self, node_id: int, old: Mapping[int, TreeNode], ends: Mapping[int, Stand]) -> Stand:
        """Where a node stood; both parts of an edge that is split begin where the edge was, cut but not yet apart."""
        parent_id = self.boxes[node_id].parent_id
        x, y, wide, _ = ends[node_id]
        lower = next((b for b in self.boxes.values() if b.parent_id == node_id and b.node_id in old), None)
        if node_id not in old and lower and old[lower.node_id].parent_id == parent_id:
            return old[lower.node_id].x, old[lower.node_id].y, wide, 1.0
        if node_id not in old:
            return x, y, wide, 0.0
        before = old[node_id]
        if before.parent_id != parent_id and parent_id not in old and parent_id in self.boxes:
            return before.x + self.boxes[parent_id].natural, before.y, wide, 1.0
        return before.x, before.y, before.wide, 1.0
