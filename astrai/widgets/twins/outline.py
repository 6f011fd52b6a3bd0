"""The radix tree as the rows of an outline: which are shown, in which order, and what each says.

Small trees are shown whole. In larger ones, branches that are not in use are folded into one row: all that is neither
locked nor among the nodes used last, save the leaf that would be evicted first. ``static/radix_tree.js`` goes by the
same rules, so that a live picture and its SVG agree. It knows a view's ``state`` and draws nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

SMALL = 32  # a tree of so many nodes is shown whole
RECENT = 20  # the nodes that were used last are never folded away

State = dict[str, Any]
Nodes = dict[int, dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Hit:
    """The last hit of the news: ``request`` found its first ``len`` tokens, which end on the edge of ``path[-1]``."""

    request: int
    len: int
    path: tuple[int, ...]  # ids below the root


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the outline. The root is at level 0 and has no text.

    ``continues`` tells for each level above whether a branch goes on below this row; ``folds`` is ``None`` for a node,
    else how many (branches, nodes, tokens) the row stands for.
    """

    node_id: int  # of the node, or of the parent of what is folded
    level: int
    continues: tuple[bool, ...]
    is_last: bool
    text: str = ""
    start: int = 0  # tokens from the root to the upper end of the edge
    len: int = 0
    holders: tuple[int, ...] = ()
    locked: tuple[int, ...] = ()  # those of the holders whose request runs
    used: int = 0
    age: int = 0  # ticks since
    matched: int | None = None  # tokens of this edge that the last hit found; None off its path
    hit: Hit | None = None  # where the last hit ended
    is_oldest: bool = False  # the leaf that goes first when room is needed
    folds: tuple[int, int, int] | None = None


def outline(state: State) -> list[Row]:
    """The rows of a state's tree, from the root down."""
    return _Outline(state).rows


def last_hit(state: State) -> Hit | None:
    """The last hit that the news tell of, followed through the splits and merges since; ``None`` when it is gone."""
    nodes, news = _nodes(state), state["news"]
    at = next((i for i in reversed(range(len(news))) if news[i]["kind"] == "matched" and news[i]["node"]), None)
    if at is None:
        return None
    node, length = news[at]["node"], news[at]["len"]
    for item in news[at:]:
        if item["kind"] == "merged" and item["child"] == node:
            node = item["node"]
    if node not in nodes:
        return None
    path = _path(nodes, node)
    end = sum(nodes[step]["len"] for step in path)
    while end - nodes[path[-1]]["len"] >= length:
        end -= nodes[path.pop()]["len"]
    return Hit(news[at]["request"], length, tuple(path))


def oldest_leaf(nodes: Nodes) -> int | None:
    """The least recently used leaf that is not locked."""
    parents = {node["parent"] for node in nodes.values()}
    free = [name for name, node in nodes.items() if name not in parents and not node["locked"]]
    return min(free, key=lambda name: (nodes[name]["used"], name), default=None)


class _Outline:
    """One walk over the tree, and what it must know at each node."""

    def __init__(self, state: State) -> None:
        self.nodes = _nodes(state)
        self.locked_slots = {slot for slot, row in enumerate(state["slots"]) if row["locked"]}
        self.children = _in_order(self.nodes)
        self.oldest = oldest_leaf(self.nodes)
        self.kept = _in_use(self.nodes, self.oldest)
        self.hit = last_hit(state)
        self.newest = max((node["used"] for node in self.nodes.values()), default=0)
        self.rows = [Row(0, 0, (), True, matched=0 if self.hit else None)]
        self._below(0, 0, 1, ())

    def _below(self, parent: int, start: int, level: int, continues: tuple[bool, ...]) -> None:
        shown, folded = self._branches(parent)
        for index, name in enumerate(shown):
            is_last = index == len(shown) - 1 and not folded
            self.rows.append(self._row(name, start, level, continues, is_last))
            self._below(name, start + self.nodes[name]["len"], level + 1, (*continues, not is_last))
        if folded:
            inside = _within(folded, self.children)
            size = (len(folded), len(inside), sum(self.nodes[name]["len"] for name in inside))
            self.rows.append(Row(parent, level, continues, True, folds=size))

    def _row(self, name: int, start: int, level: int, continues: tuple[bool, ...], is_last: bool) -> Row:
        node, hit = self.nodes[name], self.hit
        is_lit = hit is not None and name in hit.path
        return Row(
            name,
            level,
            continues,
            is_last,
            node["text"],
            start,
            node["len"],
            tuple(node["holders"]),
            tuple(slot for slot in node["holders"] if slot in self.locked_slots),
            node["used"],
            self.newest - node["used"],
            min(start + node["len"], hit.len) - start if is_lit else None,
            hit if is_lit and name == hit.path[-1] else None,
            name == self.oldest,
        )

    def _branches(self, parent: int) -> tuple[list[int], list[int]]:
        """The children that are shown, and those that are folded away: a single node is not worth a fold."""
        every = self.children.get(parent, [])
        if self.kept is None or not (parent == 0 or parent in self.kept):
            return every, []
        away = [name for name in every if name not in self.kept]
        if len(_within(away, self.children)) < 2:
            return every, []
        return [name for name in every if name in self.kept], away


def _nodes(state: State) -> Nodes:
    return {int(name): node for name, node in state["nodes"].items()}


def _in_order(nodes: Nodes) -> dict[int, list[int]]:
    """Children by parent, in the order of their text: neither a split nor a merge changes how a text begins."""
    children: dict[int, list[int]] = {}
    # NOTE: JavaScript compares texts by their UTF-16 units.
    for name in sorted(nodes, key=lambda name: (nodes[name]["text"].encode("utf-16-be", "surrogatepass"), name)):
        children.setdefault(nodes[name]["parent"], []).append(name)
    return children


def _in_use(nodes: Nodes, oldest: int | None) -> set[int] | None:
    """The nodes that are never folded away; ``None``: all."""
    if len(nodes) <= SMALL:
        return None
    recent = sorted(nodes, key=lambda name: (-nodes[name]["used"], -name))[:RECENT]
    locked = [name for name, node in nodes.items() if node["locked"]]
    kept: set[int] = set()
    for name in (*locked, *recent, *([] if oldest is None else [oldest])):
        kept.update(_path(nodes, name))
    return kept


def _path(nodes: Nodes, name: int) -> list[int]:
    path: list[int] = []
    while name:
        path.append(name)
        name = nodes[name]["parent"]
    return path[::-1]


def _within(names: Iterable[int], children: dict[int, Sequence[int]]) -> list[int]:
    found = list(names)
    for name in found:
        found.extend(children.get(name, ()))
    return found
