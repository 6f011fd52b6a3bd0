"""A radix tree over token ids that says which rows of the KV cache hold which prefix.

The tree is exactly the union of what the rows hold. Each node carries the tokens of its edge and the rows that hold
it, as a bitmask; a node that no row holds does not exist, and a node whose only child is held by the same rows is one
node with it, so the same rows always give the same tree. It knows no tensor and no request, and it emits nothing:
each change returns the events that describe it.

The idea is RadixAttention's (Zheng et al. 2024, SGLang); whole rows as holders are this course's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from astrai.inference.cache.slots import Handle, slots_in
from astrai.trace.events import (
    Event,
    NodeEvicted,
    NodeInserted,
    NodeMerged,
    NodeSplit,
    PathHeld,
    PathLocked,
    PathUnlocked,
    PathUsed,
)


@dataclass(eq=False, slots=True)
class RadixNode:
    """An edge of the tree and the state at its lower end."""

    node_id: int
    token_ids: tuple[int, ...]
    parent: RadixNode | None
    holders: int = 0  # bitmask of rows
    last_used: int = 0  # tick of the tree's clock
    end: int = 0  # tokens from the root to the lower end
    children: dict[int, RadixNode] = field(default_factory=dict)  # by the first token of their edge

    @property
    def start(self) -> int:
        """Tokens from the root to the upper end."""
        return self.end - len(self.token_ids)


class Match(NamedTuple):
    """The longest known prefix: its length in tokens, and the node on whose edge it ends."""

    length: int
    node: RadixNode

    @property
    def holders(self) -> int:
        """The rows that hold all of it."""
        return self.node.holders if self.length else 0


class PrefixTree(Protocol):
    """What the prefix cache asks of a tree: write your own and pass it as ``InferenceEngine(tree=...)``."""

    nodes: dict[int, RadixNode]
    locked: int
    holding: int
    num_tokens: int

    def match_prefix(self, token_ids: Sequence[int]) -> Match: ...
    def insert(self, handle: Handle, token_ids: Sequence[int]) -> list[Event]: ...
    def cut(self, handle: Handle, length: int) -> list[Event]: ...
    def use(self, node: RadixNode) -> list[Event]: ...
    def lock(self, slot: int) -> list[Event]: ...
    def unlock(self, slot: int) -> list[Event]: ...
    def lru_leaf(self) -> RadixNode | None: ...
    def end_node(self, slot: int) -> RadixNode: ...
    def version(self, slot: int) -> int: ...
    def check_integrity(self) -> None: ...


def common_prefix_len(a: Sequence[int], b: Sequence[int]) -> int:
    """How many tokens two sequences share from their start."""
    limit = min(len(a), len(b))
    if a[:limit] == b[:limit]:
        return limit
    return next((i for i in range(limit) if a[i] != b[i]), limit)  # a tuple never equals a list


class RadixTree:
    """The tree, with ``match_prefix``, ``insert``, ``split``, ``cut`` and the locks and clock of LRU eviction.

    Example:
        >>> tree = RadixTree()
        >>> _ = tree.insert(Handle(0, 1), (7, 8, 9)), tree.insert(Handle(1, 1), (7, 8, 5))
        >>> [(node.token_ids, bin(node.holders)) for node in tree.nodes.values() if node.node_id]
        [((9,), '0b1'), ((7, 8), '0b11'), ((5,), '0b10')]
        >>> tree.match_prefix((7, 8, 9, 4)).length
        3
    """

    def __init__(self) -> None:
        self.root = RadixNode(0, (), None)
        self.nodes: dict[int, RadixNode] = {0: self.root}
        self.locked = 0  # rows whose path may not be evicted
        self.holding = 0  # rows that hold at least one token
        self.num_tokens = 0  # distinct tokens in the tree
        self.num_evicted = 0  # nodes that were detached since the start
        self._ends: dict[int, RadixNode] = {}
        self._versions: dict[int, int] = {}
        self._clock = 0
        self._last_id = 0

    # --- questions ----------------------------------------------------------------------------------------------------

    def match_prefix(self, token_ids: Sequence[int]) -> Match:
        """The longest prefix of ``token_ids`` that some row holds, in O(its length)."""
        token_ids, node, length = tuple(token_ids), self.root, 0
        while (child := node.children.get(token_ids[length])) if length < len(token_ids) else None:
            shared = common_prefix_len(child.token_ids, token_ids[length : length + len(child.token_ids)])
            node, length = child, length + shared
            if shared < len(child.token_ids):
                break
        return Match(length, node)

    def end_node(self, slot: int) -> RadixNode:
        """The node at which the row's path ends (the root for a blank row)."""
        return self._ends.get(slot, self.root)

    def version(self, slot: int) -> int:
        """The row's version under which the tree knows its path."""
        return self._versions.get(slot, 0)

    def row_ids(self, slot: int) -> tuple[int, ...]:
        """The tokens that the tree says a row holds."""
        parts = [node.token_ids for node in self._path(self.end_node(slot))]
        return tuple(token for part in reversed(parts) for token in part)

    def lru_leaf(self) -> RadixNode | None:
        """The least recently used leaf that no locked row holds."""
        leaves = (n for n in self.nodes.values() if not n.children and n.node_id and not n.holders & self.locked)
        return min(leaves, key=lambda node: (node.last_used, node.node_id), default=None)

    # --- commands -----------------------------------------------------------------------------------------------------

    def insert(self, handle: Handle, token_ids: Sequence[int]) -> list[Event]:
        """The row now holds ``token_ids``, which begin with what it held before."""
        bit, before = 1 << handle.slot, self.end_node(handle.slot)
        node, rest, changes = before, tuple(token_ids[before.end :]), []
        while rest:
            child = node.children.get(rest[0])
            if child is None:
                node = self._add_leaf(node, rest, changes)
            else:
                shared = common_prefix_len(child.token_ids, rest)
                node = child if shared == len(child.token_ids) else self.split(child, shared, changes)
            node.holders |= bit
            rest = rest[len(node.token_ids) :]
        self._set_end(handle, node, changes)
        self._merge_upwards(node, before, changes)
        return changes

    def cut(self, handle: Handle, length: int) -> list[Event]:
        """The row keeps its first ``length`` tokens. What no other row holds leaves the tree, leaf first."""
        changes: list[Event] = []
        before = self.end_node(handle.slot)
        keep = before
        while keep.start >= length and keep.parent is not None:
            keep = keep.parent
        if keep.end > length:
            keep = self.split(keep, length - keep.start, changes)
        lost = [node for node in self._path(before) if node.end > length]
        for node in lost:
            node.holders ^= 1 << handle.slot
        self._set_end(handle, keep, changes)
        for node in lost:
            if not node.holders:
                self._detach(node, changes)
        lowest = next((node for node in lost if node.holders), keep)
        self._merge_upwards(lowest, keep, changes)
        return changes

    def split(self, node: RadixNode, length: int, changes: list[Event]) -> RadixNode:
        """Move the first ``length`` tokens of a node's edge into a new parent, and return that."""
        assert node.parent is not None and 0 < length < len(node.token_ids)
        upper = RadixNode(
            self._new_id(), node.token_ids[:length], node.parent, node.holders, node.last_used, node.start + length
        )
        node.parent.children[upper.token_ids[0]] = upper
        node.token_ids, node.parent = node.token_ids[length:], upper
        upper.children[node.token_ids[0]] = node
        self.nodes[upper.node_id] = upper
        changes.append(NodeSplit(node.node_id, upper.node_id, length))
        return upper

    def use(self, node: RadixNode) -> list[Event]:
        """Mark the path to ``node`` as the most recently used."""
        self._clock += 1
        for step in self._path(node):
            step.last_used = self._clock
        return [PathUsed(node.node_id, self._clock)] if node.node_id else []

    def lock(self, slot: int) -> list[Event]:
        """What this row holds, now and as it grows, may not be evicted."""
        assert not self.locked >> slot & 1, f"slot {slot} is locked already"
        self.locked |= 1 << slot
        return [PathLocked(slot)]

    def unlock(self, slot: int) -> list[Event]:
        """What this row holds may be evicted again."""
        assert self.locked >> slot & 1, f"slot {slot} is not locked"
        self.locked ^= 1 << slot
        return [PathUnlocked(slot)]

    # --- the parts ----------------------------------------------------------------------------------------------------

    def _add_leaf(self, parent: RadixNode, token_ids: tuple[int, ...], changes: list[Event]) -> RadixNode:
        leaf = RadixNode(self._new_id(), token_ids, parent, last_used=self._clock, end=parent.end + len(token_ids))
        parent.children[token_ids[0]] = leaf
        self.nodes[leaf.node_id] = leaf
        self.num_tokens += len(token_ids)
        changes.append(NodeInserted(leaf.node_id, parent.node_id, token_ids))
        return leaf

    def _detach(self, node: RadixNode, changes: list[Event]) -> None:
        assert not node.children and node.parent is not None, f"node {node.node_id} is not a leaf"
        del node.parent.children[node.token_ids[0]]
        del self.nodes[node.node_id]
        self.num_tokens -= len(node.token_ids)
        self.num_evicted += 1
        changes.append(NodeEvicted(node.node_id))

    def _set_end(self, handle: Handle, node: RadixNode, changes: list[Event]) -> None:
        slot, bit = handle.slot, 1 << handle.slot
        self._ends[slot], self._versions[slot] = node, handle.version
        self.holding = self.holding | bit if node.end else self.holding & ~bit
        changes.append(PathHeld(slot, handle.version, node.node_id))

    def _merge_upwards(self, node: RadixNode, last: RadixNode, changes: list[Event]) -> None:
        """From ``node`` up to ``last``: join each node with its only child where the same rows hold both."""
        for step in [n for n in self._path(node) if n.end >= last.end]:
            if len(step.children) == 1:
                (child,) = step.children.values()
                if child.holders == step.holders:
                    self._merge(step, child, changes)

    def _merge(self, node: RadixNode, child: RadixNode, changes: list[Event]) -> None:
        node.token_ids += child.token_ids
        node.end, node.children = child.end, child.children
        node.last_used = max(node.last_used, child.last_used)
        for grandchild in node.children.values():
            grandchild.parent = node
        for slot in slots_in(child.holders):
            if self._ends[slot] is child:
                self._ends[slot] = node
        del self.nodes[child.node_id]
        changes.append(NodeMerged(node.node_id, child.node_id))

    def _path(self, node: RadixNode) -> list[RadixNode]:
        """The nodes from ``node`` up to the root, which is left out."""
        path = []
        while node.parent is not None:
            path.append(node)
            node = node.parent
        return path

    def _new_id(self) -> int:
        self._last_id += 1
        return self._last_id

    def check_integrity(self) -> None:
        """Assert every promise of the module docstring, by brute force."""
        seen, stack, tokens, ends = {0}, [self.root], 0, 0
        while stack:
            node = stack.pop()
            for first, child in node.children.items():
                assert child.parent is node and child.token_ids[0] == first, f"bad link to node {child.node_id}"
                assert child.end == node.end + len(child.token_ids), f"bad length at node {child.node_id}"
                assert child.holders, f"no row holds node {child.node_id}"
                assert self.nodes.get(child.node_id) is child, f"node {child.node_id} is linked but not listed"
                assert node is self.root or not child.holders & ~node.holders, "a row holds a node but not its parent"
                seen.add(child.node_id)
                tokens += len(child.token_ids)
                stack.append(child)
            below = [c.holders for c in node.children.values()]
            assert node is self.root or below != [node.holders], f"node {node.node_id} should be merged with its child"
            for slot in slots_in(node.holders):
                ends += self._ends[slot] is node
                assert sum(holders >> slot & 1 for holders in below) == (self._ends[slot] is not node)
        assert seen == set(self.nodes), f"nodes listed but not linked: {set(self.nodes) - seen}"
        assert tokens == self.num_tokens, f"num_tokens is {self.num_tokens}, but {tokens} are in the tree"
        assert ends == self.holding.bit_count() == sum(n.end > 0 for n in self._ends.values())
