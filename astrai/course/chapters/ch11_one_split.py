"""One split of one edge, and all that must be true of it, one by one."""

from __future__ import annotations

from copy import copy
from typing import Any

from astrai.course.mistakes import Mistake, same
from astrai.inference.cache.radix_tree import RadixNode, RadixTree
from astrai.inference.cache.slots import Handle
from astrai.trace.events import Event, NodeSplit


def one_split(tree: RadixTree, node: RadixNode, length: int) -> None:
    """Split an edge of a tree whose slots are 0 to 2, and look at all that a split must keep.

    Raises:
        Mistake: naming the first thing that is wrong.
    """
    before, parent, known = copy(node), node.parent, set(tree.nodes)
    children, siblings = dict(node.children), dict(parent.children)  # type: ignore[union-attr]
    held = {slot: tree.row_ids(slot) for slot in range(3)}
    num_tokens = tree.num_tokens
    changes: list[Event] = []
    upper = tree.split(node, length, changes)
    _parts(upper, node, before, length)
    _facts(upper, node, before, length)
    _links(tree, upper, node, parent, children, siblings)
    _books(tree, upper, node, known, changes, length)
    same(tree.num_tokens, num_tokens, "num_tokens, the number of distinct tokens (a split makes none),")
    same({slot: tree.row_ids(slot) for slot in range(3)}, held, "what the slots hold (a split changes nothing of it)")
    tree.insert(Handle(3, 1), held[0][: upper.end])  # a row that ends there: until it comes, the two belong together
    in_order(tree)


def _parts(upper: Any, node: RadixNode, before: RadixNode, length: int) -> None:
    first, rest = before.token_ids[:length], before.token_ids[length:]
    if upper is None:
        raise Mistake("split returns nothing. It must return the new upper node: `insert` goes on from there.")
    if not isinstance(upper, RadixNode):
        raise Mistake("split must return a RadixNode, the new upper one.", actual=type(upper).__name__)
    if node.token_ids == first:
        raise Mistake(
            "You kept the given node as the upper part. It must stay the lower one: rows end at its lower end, and "
            "they would have to be told. So the new node is the upper part.",
            expected=f"given node {rest}",
            actual=f"given node {node.token_ids}",
        )
    if upper is node:
        raise Mistake("split returns the node that it was given. It must return the new upper one.")
    if node.token_ids == before.token_ids:
        raise Mistake("The lower node still has its whole edge. Its first tokens stand in the upper node now.")
    for name, one in (("upper", upper), ("lower", node)):
        if not isinstance(one.token_ids, tuple):
            kind = type(one.token_ids).__name__
            raise Mistake(f"The {name} node's token_ids must be a tuple, as all edges are, and are of type {kind}.")
    for name, one, right in (("upper", upper, first), ("lower", node, rest)):
        if one.token_ids != right:
            sentence = f"The {name} node has the wrong edge, when {before.token_ids} is split after {length}."
            raise Mistake(sentence, expected=right, actual=one.token_ids)


def _facts(upper: RadixNode, node: RadixNode, before: RadixNode, length: int) -> None:
    if not upper.holders:
        raise Mistake("The upper node has no holders. A row that holds a whole edge holds its beginning, too.")
    same(upper.holders, before.holders, "the upper node's holders (who holds an edge holds its beginning)")
    same(node.holders, before.holders, "the lower node's holders (nobody lost anything)")
    end = before.start + length
    if upper.end == length != end:
        raise Mistake("The upper node's end counts from the start of the edge. It must count from the root.")
    if upper.end == end + length:
        raise Mistake(
            "The upper node's end is too far by the length of its edge. `node.start` is worked out from `node.end` and "
            "the edge: once the edge is cut, it is another number.",
            expected=end,
            actual=upper.end,
        )
    same(upper.end, end, "the upper node's end, counted from the root,")
    same(node.end, before.end, "the lower node's end (it still ends where it ended)")
    if upper.last_used != before.last_used and not upper.last_used:
        raise Mistake("The upper node has no last_used. It was used when the whole edge was used last.")
    if upper.last_used > before.last_used:
        raise Mistake(
            "The upper node's last_used is too new. A split is not a use: the upper node was used when the whole edge "
            "was.",
            expected=before.last_used,
            actual=upper.last_used,
        )
    same(upper.last_used, before.last_used, "the upper node's last_used")
    same(node.last_used, before.last_used, "the lower node's last_used (a split is not a use)")


def _links(
    tree: RadixTree,
    upper: RadixNode,
    node: RadixNode,
    parent: RadixNode | None,
    children: dict[int, RadixNode],
    siblings: dict[int, RadixNode],
) -> None:
    assert parent is not None
    first = upper.token_ids[0]
    if parent.children.get(first) is node:
        raise Mistake("The old parent still leads to the lower node. Its child is the upper one now.")
    _same_children(parent.children, siblings | {first: upper}, "the old parent's children")
    if upper.parent is not parent:
        raise Mistake("`upper.parent` must be the old parent of the node that was split.")
    if node.parent is not upper:
        raise Mistake("The lower node's `parent` must be the upper node. By it, paths are walked up.")
    if list(upper.children.values()) == [node] and node.token_ids[0] not in upper.children:
        (key,) = upper.children
        raise Mistake(
            "The upper node finds its child under the wrong key: it must be the first token that is left to the lower "
            "node.",
            expected=node.token_ids[0],
            actual=key,
        )
    _same_children(upper.children, {node.token_ids[0]: node}, "the upper node's children")
    _same_children(node.children, children, "the lower node's children (they stay below it)")
    for child in children.values():
        if child.parent is not node:
            raise Mistake("A child of the lower node has another parent now. It hangs where it hung.")


def _same_children(yours: dict[int, RadixNode], expected: dict[int, RadixNode], what: str) -> None:
    ours, theirs = ({key: child.node_id for key, child in links.items()} for links in (yours, expected))
    same(ours, theirs, f"{what}, first token: node_id,")


def _books(
    tree: RadixTree, upper: RadixNode, node: RadixNode, known: set[int], changes: list[Event], length: int
) -> None:
    if upper.node_id in known:
        raise Mistake(f"The upper node's number, {upper.node_id}, belongs to another node. `self._new_id()` is free.")
    if tree.nodes.get(upper.node_id) is not upper:
        raise Mistake("The upper node is missing in `self.nodes`, the table of all nodes by number.")
    same(set(tree.nodes), known | {upper.node_id}, "the numbers in self.nodes")
    if not changes:
        raise Mistake("Nothing was appended to `changes`. Without a NodeSplit no trace and no picture knows of it.")
    if changes == [NodeSplit(upper.node_id, node.node_id, length)]:
        raise Mistake("NodeSplit has the two numbers in the wrong order: first the lower node's, then the upper one's.")
    same(changes, [NodeSplit(node.node_id, upper.node_id, length)], "changes")


def in_order(tree: RadixTree) -> None:
    """Make sure that a tree keeps its own promises."""
    try:
        tree.check_integrity()
    except AssertionError as error:
        says = [("check_integrity", str(error) or "an assertion does not hold")]
        raise Mistake("After your split the tree is no longer in order.", rows=says) from error
