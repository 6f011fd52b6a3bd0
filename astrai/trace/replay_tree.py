"""The radix tree as its events tell it, with the node at which each row's path ends.

The replayer's half that knows tokens and holders. It knows no versions, owners or valid lengths: ``replay`` asks about
those before it changes anything here.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from astrai.trace.events import NodeEvicted, NodeInserted, NodeMerged, NodeSplit, PathUsed
from astrai.trace.snapshot import NodeState


class ReplayError(ValueError):
    """An event that cannot follow the ones before it. The message names its ``seq`` and what is wrong."""


@dataclass(eq=False, slots=True)
class Node:
    """A node that changes in place; ``holders`` is a bitmask of slots."""

    node_id: int
    token_ids: tuple[int, ...]
    parent: Node | None
    holders: int = 0
    last_used: int = 0
    children: dict[int, Node] = field(default_factory=dict)  # by the first token of their edge

    def state(self) -> NodeState:
        """The node as plain values."""
        return NodeState(self.node_id, self.parent.node_id, self.token_ids, _slots_in(self.holders), self.last_used)

    def path(self) -> list[Node]:
        """The nodes from this one up to the root, which is left out."""
        path, node = [], self
        while node.parent is not None:
            path.append(node)
            node = node.parent
        return path


class ReplayedTree:
    """Applies the events of the tree; each of the methods named after one raises ``ReplayError`` if it cannot be."""

    def __init__(self, num_slots: int) -> None:
        self.root = Node(0, (), None)
        self.nodes = {0: self.root}
        self.ends = [self.root] * num_slots  # by slot; the root: the tree knows nothing of the row

    def states(self) -> tuple[NodeState, ...]:
        """All nodes but the root, by id."""
        return tuple(node.state() for _, node in sorted(self.nodes.items()) if node is not self.root)

    def restore(self, states: tuple[NodeState, ...], ends: list[int]) -> None:
        """Fill a new tree with nodes, and with the end of each row's path."""
        for state in states:
            holders = sum(1 << slot for slot in state.holders)
            self.nodes[state.node_id] = Node(state.node_id, state.token_ids, None, holders, state.last_used)
        for state in states:
            self._link(self.nodes[state.node_id], self.node(state.parent_id))
        self.ends = [self.node(node_id) for node_id in ends]

    def node(self, node_id: int) -> Node:
        """The node with this id."""
        node = self.nodes.get(node_id)
        if node is None:
            raise ReplayError(f"node {node_id} does not exist")
        return node

    # --- events -------------------------------------------------------------------------------------------------------

    def inserted(self, event: NodeInserted) -> None:
        """A leaf that nobody holds yet, used at no time."""
        self._link(self._new(Node(event.node_id, event.token_ids, None)), self.node(event.parent_id))

    def split(self, event: NodeSplit) -> None:
        """The upper part is new, the lower part keeps the id, the children and the rows that end in it."""
        node, length = self._below_root(event.node_id), event.length
        if not 0 < length < len(node.token_ids):
            raise ReplayError(f"the edge has {len(node.token_ids)} tokens")
        upper = self._new(Node(event.upper_id, node.token_ids[:length], node.parent, node.holders, node.last_used))
        upper.parent.children[upper.token_ids[0]] = upper
        node.token_ids = node.token_ids[length:]
        self._link(node, upper)

    def merged(self, event: NodeMerged) -> None:
        """The rows that ended in the child end in the node."""
        node, child = self._below_root(event.node_id), self._below_root(event.child_id)
        if list(node.children.values()) != [child] or node.holders != child.holders:
            raise ReplayError(f"node {child.node_id} is not the only child, or other rows hold it")
        node.token_ids += child.token_ids
        node.last_used = max(node.last_used, child.last_used)
        node.children = child.children
        for grandchild in node.children.values():
            grandchild.parent = node
        self.ends = [node if end is child else end for end in self.ends]
        del self.nodes[child.node_id]

    def evicted(self, event: NodeEvicted) -> None:
        """Only a leaf that no row holds."""
        node = self._below_root(event.node_id)
        if node.children or node.holders:
            raise ReplayError(f"node {node.node_id} has {len(node.children)} children and rows {node.holders:#b}")
        del node.parent.children[node.token_ids[0]]
        del self.nodes[node.node_id]

    def held(self, slot: int, node: Node, path: list[Node]) -> None:
        """The row holds the path to ``node``, and nothing else."""
        for step in self.ends[slot].path():
            step.holders &= ~(1 << slot)
        for step in path:
            step.holders |= 1 << slot
        self.ends[slot] = node

    def used(self, event: PathUsed) -> None:
        """The clock of the tree only goes forward."""
        node = self.node(event.node_id)
        if event.tick < node.last_used:
            raise ReplayError(f"node {node.node_id} was used at tick {node.last_used} already")
        for step in node.path():
            step.last_used = event.tick

    # --- the parts ----------------------------------------------------------------------------------------------------

    def _below_root(self, node_id: int) -> Node:
        node = self.node(node_id)
        if node is self.root:
            raise ReplayError("the root can be neither split, merged nor evicted")
        return node

    def _new(self, node: Node) -> Node:
        if node.node_id in self.nodes or not node.token_ids:
            raise ReplayError(f"node {node.node_id} exists already, or has no tokens")
        self.nodes[node.node_id] = node
        return node

    def _link(self, node: Node, parent: Node) -> None:
        if node.token_ids[0] in parent.children:
            raise ReplayError(f"node {parent.node_id} has a child that begins with token {node.token_ids[0]} already")
        parent.children[node.token_ids[0]] = node
        node.parent = parent


def _slots_in(mask: int) -> tuple[int, ...]:
    # NOTE: this walks the set bits alone. Trying every slot for every node takes most of a snapshot of 256 slots.
    slots = []
    while mask:
        lowest = mask & -mask
        slots.append(lowest.bit_length() - 1)
        mask ^= lowest
    return tuple(slots)
