"""Which nodes of a tree are shown, and where: columns by depth, rows that stay where they are. It draws nothing."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

MOST_NODES, MOST_ROWS, MOST_DEEP = 14, 6, 4

Nodes = Mapping[int, Mapping[str, Any]]  # by id: parent, text, len, holders, locked, used


class Place(NamedTuple):
    """The left edge of a node in units, its row (0 is the top one), and its width."""

    x: float
    row: int
    width: float


def path_to(nodes: Nodes, node_id: int) -> list[int]:
    """The ids from below the root down to a node."""
    path = []
    while node_id:
        path.append(node_id)
        node_id = nodes[node_id]["parent"]
    return path[::-1]


def in_use(nodes: Nodes) -> set[int]:
    """The nodes to show: whole paths from the root, the most recently used first, as many as there is room for."""
    paths = {node_id: path for node_id in nodes if len(path := path_to(nodes, node_id)) <= MOST_DEEP}
    inner = {nodes[node_id]["parent"] for node_id in paths}
    ends = sorted(paths.keys() - inner, key=lambda node_id: (-nodes[node_id]["used"], node_id))
    chosen: set[int] = set()
    for end in ends[:MOST_ROWS]:
        if len(chosen | set(paths[end])) <= MOST_NODES:
            chosen |= set(paths[end])
    return chosen


def height_below(nodes: Nodes, top: int, shown: Iterable[int]) -> int:
    """How many levels of shown nodes hang below one of them."""
    depth = len(path_to(nodes, top))
    return max(len(path) - depth for node_id in shown if top in (path := path_to(nodes, node_id)))


def rows_of(nodes: Nodes, shown: set[int], before: Mapping[int, int]) -> dict[int, int]:
    """A row for each node, counted from the top: a parent stands beside its first child.

    ``before`` holds the rows so far. A node keeps its own where it can: it is pushed down by what is inserted above
    it, and moves up only when the rows run out.
    """
    order = _in_order(nodes, shown)
    leaves = [node_id for node_id in order if not _children(nodes, shown, node_id)]
    rows: dict[int, int] = {}
    for index, leaf in enumerate(leaves):
        lowest = max(rows.values(), default=-1) + 1
        rows[leaf] = min(max(lowest, before.get(leaf, lowest)), MOST_ROWS - (len(leaves) - index))
    for node_id in reversed(order):
        if children := _children(nodes, shown, node_id):
            rows[node_id] = rows[children[0]]
    return rows


def _in_order(nodes: Nodes, shown: set[int]) -> list[int]:
    order: list[int] = []
    stack = _children(nodes, shown, 0)[::-1]
    while stack:
        order.append(stack.pop())
        stack += _children(nodes, shown, order[-1])[::-1]
    return order


def _children(nodes: Nodes, shown: set[int], parent: int) -> list[int]:
    """In the order of the oldest node below them, so that a split changes no order."""
    below = [node_id for node_id in shown if nodes[node_id]["parent"] == parent]
    return sorted(below, key=lambda node_id: _oldest(nodes, node_id))


def _oldest(nodes: Nodes, top: int) -> int:
    return min(node_id for node_id in nodes if top in path_to(nodes, node_id))
