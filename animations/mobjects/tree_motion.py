"""How a tree moves: one animation for all of its boxes and links."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from manim import Animation

from .tree_node import TreeNode

if TYPE_CHECKING:
    from .radix_tree import RadixTree

Stand = tuple[float, float, float, float]  # x of the left edge, y of the middle, width, opacity


class Rearrange(Animation):
    """All boxes go from where they stand to where they belong; new ones appear, old ones fade.

    The text of those that are ``growing`` comes when there is room for it.
    """

    def __init__(
        self,
        tree: RadixTree,
        starts: Mapping[int, Stand],
        ends: Mapping[int, Stand],
        gone: Iterable[TreeNode],
        growing: Iterable[TreeNode],
    ) -> None:
        super().__init__(tree)
        self.tree, self.starts, self.ends = tree, starts, ends
        self.gone, self.growing = list(gone), list(growing)

    def begin(self) -> None:
        """Without manim's copy of the tree: its boxes are set anew in each frame."""
        self.starting_mobject = self.mobject
        self.interpolate(0)

    def interpolate_mobject(self, alpha: float) -> None:
        """Called by manim for each frame."""
        share = self.rate_func(min(1, max(0, alpha)))
        for node_id, start in self.starts.items():
            box, end = self.tree.boxes[node_id], self.ends[node_id]
            x, y, wide, seen = (a + share * (b - a) for a, b in zip(start, end, strict=True))
            box.put(x, y, wide)
            if end[3] != start[3]:
                box.fade(seen)
        for box in self.gone:
            box.fade(1 - share)
        for box in self.growing:
            for text in (box.words, box.note, box.letter):
                text.set_fill(opacity=max(0.0, 2 * share - 1))
        self.tree.link()

    def clean_up_from_scene(self, scene: Any) -> None:
        """Forget what has faded."""
        super().clean_up_from_scene(scene)
        self.tree.remove(*self.gone)
