"""The tree against brute force: a list of what each row holds."""

from itertools import takewhile

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from astrai.inference.cache.radix_tree import RadixTree, common_prefix_len
from astrai.inference.cache.slots import Handle, slots_in
from astrai.trace.events import NodeEvicted, NodeInserted, NodeMerged, NodeSplit, PathHeld, PathUsed

TOKENS = st.lists(st.integers(0, 2), max_size=9).map(tuple)
NUM_ROWS = 5


def shared(a: tuple[int, ...], b: tuple[int, ...]) -> tuple[int, ...]:
    """The common beginning, from its definition."""
    return tuple(x for x, _ in takewhile(lambda pair: pair[0] == pair[1], zip(a, b, strict=False)))


def tree_with(*rows: tuple[int, ...]) -> RadixTree:
    tree = RadixTree()
    for slot, tokens in enumerate(rows):
        tree.insert(Handle(slot, 1), tokens)
    return tree


def edges(tree: RadixTree) -> set[tuple[tuple[int, ...], tuple[int, ...]]]:
    """Each node as (all tokens from the root, rows that hold it)."""
    found = set()
    for node in tree.nodes.values():
        tokens, step = (), node
        while step.parent is not None:
            tokens, step = step.token_ids + tokens, step.parent
        if tokens:
            found.add((tokens, tuple(slots_in(node.holders))))
    return found


def expected_edges(rows: dict[int, tuple[int, ...]]) -> set[tuple[tuple[int, ...], tuple[int, ...]]]:
    """Where nodes must end, from the definition: where a row ends, or where two rows part."""
    held = [tokens for tokens in rows.values() if tokens]
    ends = set(held) | {shared(a, b) for a in held for b in held}
    holders = {end: tuple(s for s in sorted(rows) if rows[s][: len(end)] == end) for end in ends if end}
    return set(holders.items())


def test_a_prompt_that_parts_in_the_middle_of_an_edge_splits_it():
    tree = tree_with((1, 2, 3, 4))
    changes = tree.insert(Handle(1, 1), (1, 2, 9))
    assert changes == [NodeSplit(1, 2, 2), NodeInserted(3, 2, (9,)), PathHeld(1, 1, 3)]
    assert edges(tree) == {((1, 2), (0, 1)), ((1, 2, 3, 4), (0,)), ((1, 2, 9), (1,))}


def test_a_row_that_grows_alone_stays_one_node():
    tree = tree_with((1, 2))
    changes = tree.insert(Handle(0, 1), (1, 2, 3))
    assert changes == [NodeInserted(2, 1, (3,)), PathHeld(0, 1, 2), NodeMerged(1, 2)]
    assert edges(tree) == {((1, 2, 3), (0,))}
    assert tree.end_node(0).node_id == 1


def test_evicting_a_node_detaches_it_from_its_parent():
    tree = tree_with((1, 2, 3), (1, 2, 9))
    changes = tree.cut(Handle(0, 2), 2)
    assert [type(change) for change in changes] == [PathHeld, NodeEvicted]
    assert edges(tree) == {((1, 2), (0, 1)), ((1, 2, 9), (1,))}
    assert tree.match_prefix((1, 2, 3)).length == 2


def test_a_cut_in_the_middle_of_an_edge_keeps_the_first_part():
    tree = tree_with((1, 2, 3, 4))
    tree.cut(Handle(0, 2), 1)
    assert (tree.row_ids(0), tree.num_tokens, tree.version(0)) == ((1,), 1, 2)
    tree.cut(Handle(0, 3), 0)
    assert (tree.row_ids(0), tree.num_tokens, tree.holding) == ((), 0, 0)


def test_the_least_recently_used_leaf_goes_first_and_never_an_inner_node():
    tree = tree_with((1, 2, 3), (1, 2, 9), (5,))
    for slot in (1, 2, 0):
        tree.use(tree.end_node(slot))
    leaf = tree.lru_leaf()
    assert leaf is not None and leaf.token_ids == (9,)
    tree.cut(Handle(1, 2), 0)
    leaf = tree.lru_leaf()
    assert leaf is not None and leaf.token_ids == (5,)


def test_what_a_locked_row_holds_is_never_the_lru_leaf():
    tree = tree_with((1, 2), (7,))
    tree.lock(0)
    leaf = tree.lru_leaf()
    assert leaf is not None and leaf.token_ids == (7,)
    tree.lock(1)
    assert tree.lru_leaf() is None
    tree.unlock(0)
    leaf = tree.lru_leaf()
    assert leaf is not None and leaf.token_ids == (1, 2)


def test_a_use_marks_the_whole_path():
    tree = tree_with((1, 2, 3), (1, 2, 9))
    assert tree.use(tree.end_node(1)) == [PathUsed(tree.end_node(1).node_id, 1)]
    assert sorted((node.token_ids, node.last_used) for node in tree.nodes.values() if node.node_id) == [
        ((1, 2), 1),
        ((3,), 0),
        ((9,), 1),
    ]
    assert tree.use(tree.root) == []


def test_locking_twice_is_our_own_mistake():
    tree = tree_with((1,))
    tree.lock(0)
    with pytest.raises(AssertionError, match="slot 0 is locked already"):
        tree.lock(0)
    tree.unlock(0)
    with pytest.raises(AssertionError, match="slot 0 is not locked"):
        tree.unlock(0)


@given(TOKENS, TOKENS)
def test_common_prefix_len_equals_the_definition(a: tuple[int, ...], b: tuple[int, ...]):
    assert common_prefix_len(a, b) == common_prefix_len(list(a), b) == len(shared(a, b))


@given(st.lists(TOKENS, min_size=1, max_size=6), st.randoms(use_true_random=False))
def test_the_tree_of_a_state_does_not_depend_on_the_order_of_arrival(rows: list[tuple[int, ...]], random):
    tree, shuffled = tree_with(*rows), RadixTree()
    order = [(slot, tokens) for slot, tokens in enumerate(rows)]
    random.shuffle(order)
    for slot, tokens in order:
        for end in range(1, len(tokens) + 1):
            shuffled.insert(Handle(slot, 1), tokens[:end])
    assert edges(tree) == edges(shuffled)


class TreeMachine(RuleBasedStateMachine):
    """Random growth, cuts, uses and locks; after each, the tree is exactly the union of the rows."""

    def __init__(self) -> None:
        super().__init__()
        self.tree = RadixTree()
        self.rows: dict[int, tuple[int, ...]] = dict.fromkeys(range(NUM_ROWS), ())
        self.versions = dict.fromkeys(range(NUM_ROWS), 1)
        self.locked: set[int] = set()

    @rule(slot=st.integers(0, NUM_ROWS - 1), more=TOKENS, like=st.integers(0, NUM_ROWS - 1))
    def grow(self, slot: int, more: tuple[int, ...], like: int) -> None:
        before = self.rows[slot]
        model = self.rows[like]
        start = model if model[: len(before)] == before else before
        self.rows[slot] = start + more
        self.tree.insert(Handle(slot, self.versions[slot]), self.rows[slot])

    @rule(slot=st.integers(0, NUM_ROWS - 1), share=st.floats(0, 1))
    def cut(self, slot: int, share: float) -> None:
        length = int(share * len(self.rows[slot]))
        self.versions[slot] += 1
        self.rows[slot] = self.rows[slot][:length]
        self.tree.cut(Handle(slot, self.versions[slot]), length)

    @rule(tokens=TOKENS)
    def match_and_use(self, tokens: tuple[int, ...]) -> None:
        best = max(len(shared(tokens, held)) for held in self.rows.values())
        match = self.tree.match_prefix(tokens)
        assert match.length == best
        holders = [s for s, held in self.rows.items() if best and held[:best] == tokens[:best]]
        assert list(slots_in(match.holders)) == holders
        self.tree.use(match.node)

    @rule(slot=st.integers(0, NUM_ROWS - 1))
    def toggle_lock(self, slot: int) -> None:
        if slot in self.locked:
            self.tree.unlock(slot)
        else:
            self.tree.lock(slot)
        self.locked ^= {slot}

    @precondition(lambda self: self.tree.lru_leaf() is not None)
    @rule()
    def evict(self) -> None:
        leaf = self.tree.lru_leaf()
        assert leaf is not None and not leaf.children
        holders, start, before = list(slots_in(leaf.holders)), leaf.start, self.tree.num_tokens
        assert not self.locked & set(holders)
        for slot in holders:
            self.versions[slot] += 1
            self.rows[slot] = self.rows[slot][:start]
            self.tree.cut(Handle(slot, self.versions[slot]), start)
        assert self.tree.num_tokens < before

    @invariant()
    def the_tree_is_the_union_of_the_rows(self) -> None:
        self.tree.check_integrity()
        assert edges(self.tree) == expected_edges(self.rows)
        for slot, held in self.rows.items():
            assert self.tree.row_ids(slot) == held
            assert self.tree.version(slot) in (0, self.versions[slot])


TestTree = TreeMachine.TestCase
