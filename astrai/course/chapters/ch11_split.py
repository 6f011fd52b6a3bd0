"""The check of 11.3: a split keeps every promise of the tree, looked at one by one and then by brute force."""

from __future__ import annotations

import random
from itertools import pairwise
from typing import Any

from astrai.course.chapters.ch11_one_split import in_order, one_split
from astrai.course.chapters.ch11_runs import Ids, grown, play, random_ids
from astrai.course.handed_in import own_class
from astrai.course.mistakes import same
from astrai.course.parting import same_trace
from astrai.inference.cache.radix_tree import RadixNode, RadixTree
from astrai.inference.cache.slots import Handle


def split(tree_class: type[RadixTree]) -> None:
    """A tree class splits edges as the package does, and an engine runs on it as on the package's."""
    own_class(tree_class, "split")
    for length in (2, 1, 4):
        tree, node = _tree_with_an_edge(tree_class)
        one_split(tree, node, length)
    tree, node = _tree_with_an_edge(tree_class)
    assert node.parent is not None
    one_split(tree, node.parent, 1)
    draw = random.Random(3)
    for _ in range(25):
        _same_growth(tree_class, [random_ids(draw) for _ in range(5)])
    prompts = [random_ids(draw, longest=9) for _ in range(16)]
    yours = play(prompts, tree_class, together=False)
    same_trace(yours, play(prompts, together=False), "the engine on your tree")


def _tree_with_an_edge(tree_class: type[RadixTree]) -> tuple[RadixTree, RadixNode]:
    """A tree that was made without a split, and in it the edge (3, 4, 5, 6, 7) below (1, 2), of slots 0 and 2.

    What was used last is another edge: the tree's clock is ahead of this one.
    """
    tree, path, rows = tree_class(), (1, 2, 3, 4, 5, 6, 7), ((0, 9), (2, 10))
    for slot in (0, 1, 2):
        tree.insert(Handle(slot, 1), (1, 2))
    tree.insert(Handle(1, 1), (1, 2, 8, 8))
    for slot, _ in rows:
        tree.insert(Handle(slot, 1), path)
    for slot, token in rows:
        tree.insert(Handle(slot, 1), (*path, token))
    for slot in (0, 2, 1):
        tree.use(tree.end_node(slot))
    parent = tree.root.children[1]
    return tree, parent.children[3]


def _same_growth(tree_class: type[RadixTree], rows: list[Ids]) -> None:
    """Rows that come, are cut and come again leave the same tree as the package's."""
    trees = grown(tree_class, rows), grown(RadixTree, rows)
    held = list(rows)
    for slot, (row, new) in enumerate(pairwise(rows)):
        keep = len(row) // 2
        held[slot] = (*row[:keep], *new)
        for tree in trees:
            tree.cut(Handle(slot, 2), keep)
            tree.insert(Handle(slot, 2), held[slot])
    yours, expected = trees
    in_order(yours)
    same([yours.row_ids(slot) for slot in range(len(rows))], held, "what the slots hold")
    same(sorted(map(_plain, yours.nodes.values())), sorted(map(_plain, expected.nodes.values())), "the nodes")


def _plain(node: RadixNode) -> tuple[Any, ...]:
    return node.start, node.end, node.token_ids, node.holders, node.last_used, sorted(node.children)
