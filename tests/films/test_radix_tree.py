"""The tree that a film shows: what is left out, where boxes stand, and what is read back off them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("manim", reason="manim is not installed: pip install 'astrai[video]'")

from manim import tempconfig

from animations.mobjects.radix_tree import RadixTree
from animations.mobjects.tree_layout import MOST_DEEP, MOST_NODES, MOST_ROWS, in_use, rows_of
from animations.mobjects.tree_words import facts, read_facts


@pytest.fixture(autouse=True)
def _nothing_is_left_behind(tmp_path: Path) -> Iterator[None]:
    with tempconfig({"media_dir": str(tmp_path)}):
        yield


def node(parent: int, text: str, *holders: int, used: int = 1) -> dict[str, Any]:
    return {
        "parent": parent,
        "text": text,
        "len": len(text.split()),
        "holders": list(holders),
        "locked": 0,
        "used": used,
    }


WHOLE = {1: node(0, "there was a fox", 0)}
SPLIT = {1: node(2, "fox", 0), 2: node(0, "there was a", 0, 1), 3: node(2, "frog", 1)}


def told(*states: dict[int, dict[str, Any]]) -> RadixTree:
    tree = RadixTree(-6.8, 6.8, 2)
    for nodes in states:
        finish(tree.tell(nodes))
    return tree


def finish(moves: list[Any]) -> None:
    for move in moves:
        move.begin()
        move.finish()
        move.clean_up_from_scene(None)


def truth(nodes: dict[int, dict[str, Any]]) -> dict[int, tuple[int, int, tuple[int, ...]]]:
    return {n: (data["parent"], data["len"], tuple(data["holders"])) for n, data in nodes.items()}


@pytest.mark.parametrize("nodes", [WHOLE, SPLIT, {}])
def test_what_is_read_off_the_boxes_is_what_was_told(nodes):
    assert told(nodes).shown() == truth(nodes)
    assert told(WHOLE, SPLIT, nodes).shown() == truth(nodes)


def test_an_edge_that_is_split_is_cut_where_it_stood_and_then_comes_apart():
    tree = told(WHOLE)
    before = tree.boxes[1].x
    (move,) = tree.tell({n: SPLIT[n] for n in (1, 2)})
    move.begin()
    upper, lower = tree.boxes[2], tree.boxes[1]
    assert upper.x == before
    assert lower.x == pytest.approx(upper.x + upper.wide)
    finish([move])
    assert lower.x > upper.x + upper.wide + 0.3
    assert upper.y == lower.y


def test_the_same_tree_again_moves_nothing():
    tree = told(SPLIT)
    assert tree.tell({n: {**data, "used": 9} for n, data in SPLIT.items()}) == []


def test_what_was_evicted_is_gone_when_it_has_faded():
    fewer = {n: SPLIT[n] for n in (1, 2)}
    tree = told(SPLIT, fewer)
    assert tree.submobjects == list(tree.boxes.values())
    assert tree.shown() == truth(fewer)


def test_a_node_keeps_its_row_when_a_row_above_it_is_evicted_and_when_one_is_added_below():
    nodes = {n: node(0, f"word{n}", n) for n in (1, 2, 3)}
    rows = rows_of(nodes, set(nodes), {})
    assert rows == {1: 0, 2: 1, 3: 2}
    fewer = {n: nodes[n] for n in (1, 3)}
    assert rows_of(fewer, set(fewer), rows) == {1: 0, 3: 2}
    more = nodes | {4: node(0, "word4", 4)}
    assert rows_of(more, set(more), rows) == rows | {4: 3}


def test_a_branch_that_grows_pushes_down_only_what_is_below_it():
    nodes = {1: node(0, "a", 0), 2: node(1, "b", 0), 5: node(0, "z", 1)}
    rows = rows_of(nodes, set(nodes), {})
    grown = nodes | {6: node(1, "c", 2)}
    assert rows_of(grown, set(grown), rows) == {1: 0, 2: 0, 6: 1, 5: 2}


def test_of_a_large_tree_the_paths_used_last_are_shown_and_the_rest_is_counted():
    nodes = {n: node(0, f"word{n}", n, used=n) for n in range(1, 30)}
    assert in_use(nodes) == set(range(30 - MOST_ROWS, 30))
    assert told(nodes).not_shown == 29 - MOST_ROWS
    deep = {n: node(n - 1, "and", 0) for n in range(1, 10)}
    assert in_use(deep) == set(range(1, MOST_DEEP + 1))
    assert told(deep).shown() == truth({n: deep[n] for n in range(1, MOST_DEEP + 1)})


def test_what_is_shown_is_never_more_than_the_stage_holds_and_always_hangs_together():
    nodes = {1: node(0, "root", 0)}
    for n in range(2, 60):
        nodes[n] = node(1 + (n * 7919) % (n - 1), f"word {n}", n % 9, used=n)
        shown = in_use(nodes)
        rows = rows_of(nodes, shown, {})
        assert len(shown) <= MOST_NODES
        assert set(rows) == shown and all(0 <= row < MOST_ROWS for row in rows.values())
        assert all(nodes[m]["parent"] in shown | {0} for m in shown)


def test_boxes_stay_on_the_stage_and_do_not_overlap_however_long_their_texts_are():
    long = "once upon a time there was a fox who said that he would not be seen any more in the forest by the mill"
    nodes = {n: node(n - 1 if n < 4 else 2, long, *range(9)) for n in range(1, 7)}
    tree = told(nodes)
    boxes = list(tree.boxes.values())
    assert max(box.x + box.wide for box in boxes) <= 6.8 + 1e-6
    for box in boxes:
        assert box.frame.get_right()[0] >= max(box.words.get_right()[0], box.note.get_right()[0])
        for other in boxes:
            apart = abs(box.y - other.y) > 0.8 or box.x + box.wide < other.x or other.x + other.wide < box.x
            assert other is box or apart


@pytest.mark.parametrize("holders", [[], [3], [0, 1], [0, 1, 2], [0, 2, 5, 7]])
def test_the_slots_of_a_node_are_read_back_from_its_words(holders):
    assert read_facts(facts({"len": 1234, "holders": holders})) == (1234, tuple(holders))


def test_many_slots_are_only_counted():
    assert facts({"len": 1, "holders": list(range(12))}) == "1 token · in 12 slots"
    assert read_facts("1 token · in 12 slots") == (1, None)
