"""Chapter 11: what learners write, right in several ways and wrong in many, and what each is told."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import takewhile
from typing import Any

import numpy as np
import pytest

from astrai.course.catalogue import chapter, exercise
from astrai.course.checking import Verdict, judge
from astrai.inference.cache.radix_tree import Match, RadixNode, RadixTree, common_prefix_len
from astrai.inference.request import Request
from astrai.inference.scheduler import InferenceScheduler
from astrai.trace.events import NodeSplit, RequestHeld

Ids = tuple[int, ...]


def words(verdict: Verdict) -> str:
    """Everything that a learner is told, without the hint to the hints."""
    return " ".join([verdict.lines[0], *(f"{name}: {value}" for name, value in verdict.rows)])


def assert_refused(exercise_id: str, thing: Any, sentence: str) -> None:
    verdict = judge(exercise(exercise_id), thing)
    assert not verdict.passed and not verdict.still_open
    assert sentence in words(verdict)


def assert_passes(exercise_id: str, thing: Any) -> None:
    verdict = judge(exercise(exercise_id), thing)
    assert verdict.passed, words(verdict)


# --- 11.2 -------------------------------------------------------------------------------------------------------------


def matching(function: Callable[[RadixTree, Ids], Any]) -> type[RadixTree]:
    """A tree class with this ``match_prefix``."""
    return type("MatchingTree", (RadixTree,), {"match_prefix": function, "__module__": __name__})


def match_token_by_token(tree: RadixTree, token_ids: Ids) -> Match:
    node, length, at = tree.root, 0, 0
    for token in token_ids:
        if at == len(node.token_ids):
            if token not in node.children:
                break
            node, at = node.children[token], 0
        if node.token_ids[at] != token:
            break
        length, at = length + 1, at + 1
    return Match(length, node)


def match_by_recursion(tree: RadixTree, token_ids: Ids) -> Match:
    def below(node: RadixNode, rest: Ids, length: int) -> Match:
        child = node.children.get(rest[0]) if rest else None
        if child is None:
            return Match(length, node)
        shared = len(list(takewhile(lambda pair: pair[0] == pair[1], zip(child.token_ids, rest, strict=False))))
        length += shared
        return Match(length, child) if shared < len(child.token_ids) else below(child, rest[shared:], length)

    return below(tree.root, token_ids, 0)


def match_by_holding_on(tree: RadixTree, token_ids: Ids) -> Match:
    best = Match(0, tree.root)
    for node in tree.nodes.values():
        row = next((tree.row_ids(s)[: node.end] for s in range(9) if node.holders >> s & 1), ())
        shared = common_prefix_len(row, token_ids)
        if node.start < shared and shared > best.length:
            best = Match(shared, node)
    return best


@pytest.mark.parametrize("function", [match_token_by_token, match_by_recursion, match_by_holding_on])
def test_other_ways_to_match_pass(function: Callable[[RadixTree, Ids], Match]) -> None:
    assert_passes("11.2", matching(function))


def hasty(tree: RadixTree, token_ids: Ids) -> Match:
    node, length = tree.root, 0
    while length < len(token_ids) and token_ids[length] in node.children:
        node = node.children[token_ids[length]]
        length += common_prefix_len(node.token_ids, token_ids[length:])
    return Match(length, node)


def whole_edges(tree: RadixTree, token_ids: Ids) -> Match:
    node, length = tree.root, 0
    while length < len(token_ids) and token_ids[length] in node.children:
        node = node.children[token_ids[length]]
        shared = common_prefix_len(node.token_ids, token_ids[length:])
        length += len(node.token_ids)
        if shared < len(node.token_ids):
            break
    return Match(length, node)


def only_whole_edges(tree: RadixTree, token_ids: Ids) -> Match:
    node, length = tree.root, 0
    while length < len(token_ids) and token_ids[length] in node.children:
        child = node.children[token_ids[length]]
        if token_ids[length : length + len(child.token_ids)] != child.token_ids:
            break
        node, length = child, length + len(child.token_ids)
    return Match(length, node)


def first_edge(tree: RadixTree, token_ids: Ids) -> Match:
    child = tree.root.children.get(token_ids[0]) if token_ids else None
    return Match(common_prefix_len(child.token_ids, token_ids), child) if child else Match(0, tree.root)


def parent_of_a_partial_edge(tree: RadixTree, token_ids: Ids) -> Match:
    length, node = match_token_by_token(tree, token_ids)
    return Match(length, node.parent if length < node.end and node.parent else node)


def never_ends(tree: RadixTree, token_ids: Ids) -> Match:
    node, length = tree.root, 0
    while length < len(token_ids) and token_ids[length] in node.children:
        length += common_prefix_len((), token_ids)  # forgot to go to the child
    return Match(length, node)


def from_the_start_again(tree: RadixTree, token_ids: Ids) -> Match:
    node, length = tree.root, 0
    while length < len(token_ids) and token_ids[length] in node.children:
        node = node.children[token_ids[length]]
        shared = common_prefix_len(node.token_ids, token_ids)
        length += shared
        if shared < len(node.token_ids):
            break
    return Match(length, node)


def marks_what_it_finds(tree: RadixTree, token_ids: Ids) -> Match:
    match = match_token_by_token(tree, token_ids)
    match.node.last_used += 1
    return match


def beyond_the_prompt(tree: RadixTree, token_ids: Ids) -> Match:
    node, length = tree.root, 0
    while token_ids[length] in node.children:
        node = node.children[token_ids[length]]
        length += common_prefix_len(node.token_ids, token_ids[length:])
    return Match(length, node)


def splits(tree: RadixTree, token_ids: Ids) -> Match:
    length, node = match_token_by_token(tree, token_ids)
    return Match(length, tree.split(node, length - node.start, []) if node.start < length < node.end else node)


@pytest.mark.parametrize(
    ("function", "sentence"),
    [
        (hasty, "goes on below an edge that did not match to its end"),
        (whole_edges, "counted as a whole"),
        (only_whole_edges, "not counted at all"),
        (first_edge, "stops after the first edge"),
        (lambda tree, ids: Match(0, tree.root), "finds nothing"),
        (parent_of_a_partial_edge, "The length is right, the node is not"),
        (lambda tree, ids: None, "returns nothing"),
        (lambda tree, ids: match_token_by_token(tree, ids).length, "must return a `Match(length, node)`"),
        (lambda tree, ids: match_token_by_token(tree, ids[:-1]), "The length is wrong"),
        (lambda tree, ids: tuple(match_token_by_token(tree, ids)), "is of type tuple"),
        (lambda tree, ids: Match(*match_token_by_token(tree, ids)[::-1]), "The second part of a Match is the node"),
        (from_the_start_again, "compare with the prompt from its start again"),
        (marks_what_it_finds, "`last_used` of node"),
        (never_ends, "does not come to an end: look at the loop around line"),
        (beyond_the_prompt, "IndexError"),
        (splits, "leave the tree as it is"),
    ],
)
def test_a_wrong_match_is_told_what_is_wrong(function: Callable[[RadixTree, Ids], Any], sentence: str) -> None:
    assert_refused("11.2", matching(function), sentence)


class MisspelledTree(RadixTree):
    def match_prefx(self, token_ids: Ids) -> Match:
        return match_token_by_token(self, token_ids)

    def splitt(self, node: RadixNode, length: int, changes: list[Any]) -> RadixNode:
        return RadixTree.split(self, node, length, changes)


def test_a_tree_without_the_method_is_not_passed_on_the_package_s_own() -> None:
    assert_refused("11.2", MisspelledTree, "MisspelledTree has no `match_prefix` of its own, so RadixTree answers")
    assert_refused("11.3", MisspelledTree, "MisspelledTree has no `split` of its own, so RadixTree answers")
    assert_refused("11.3", matching(match_token_by_token), "has no `split` of its own")
    assert_refused("11.2", RadixTree, "is AstrAI's own: give the class that you wrote")


def test_an_instance_or_a_function_in_place_of_the_class_is_named() -> None:
    for thing in (matching(match_token_by_token)(), match_token_by_token):
        assert_refused("11.2", thing, "Give the class itself, by its name and without brackets.")


def test_a_method_may_stand_in_a_class_below_the_tree() -> None:
    below = type("MyTree", (matching(match_token_by_token),), {"__module__": __name__})
    assert_passes("11.2", below)
    assert_passes("11.3", type("MyTree", (Split, matching(match_token_by_token)), {"__module__": __name__}))


# --- 11.3 -------------------------------------------------------------------------------------------------------------


class Split(RadixTree):
    """A right split in small pieces, so that each wrong one below differs in one of them."""

    def split(self, node: RadixNode, length: int, changes: list[Any]) -> Any:
        parent = node.parent
        upper = self.make(node, length)
        node.token_ids = node.token_ids[length:]
        self.hang(parent, upper, node)
        self.book(node, upper, length, changes)
        return self.answer(upper, node)

    def make(self, node: RadixNode, length: int) -> RadixNode:
        return RadixNode(
            self._new_id(), node.token_ids[:length], node.parent, node.holders, node.last_used, node.start + length
        )

    def hang(self, parent: Any, upper: RadixNode, node: RadixNode) -> None:
        parent.children[upper.token_ids[0]] = upper
        upper.children = {node.token_ids[0]: node}
        node.parent = upper

    def book(self, node: RadixNode, upper: RadixNode, length: int, changes: list[Any]) -> None:
        self.nodes[upper.node_id] = upper
        changes.append(NodeSplit(node.node_id, upper.node_id, length))

    def answer(self, upper: RadixNode, node: RadixNode) -> Any:
        return upper


class SplitByReplace(RadixTree):
    def split(self, node: RadixNode, length: int, changes: list[Any]) -> RadixNode:
        first, rest = node.token_ids[:length], node.token_ids[length:]
        end = node.end - len(rest)
        upper = replace(node, node_id=self._new_id(), token_ids=first, end=end, children={rest[0]: node})
        assert node.parent is not None
        node.parent.children |= {first[0]: upper}
        node.parent, node.token_ids = upper, rest
        self.nodes |= {upper.node_id: upper}
        changes += [NodeSplit(node_id=node.node_id, upper_id=upper.node_id, length=length)]
        return upper


class SplitAndReadTheStartLate(RadixTree):
    def split(self, node: RadixNode, length: int, changes: list[Any]) -> RadixNode:
        upper = RadixNode(self._new_id(), node.token_ids[:length], node.parent)
        node.token_ids = node.token_ids[length:]
        upper.end = node.start  # after the cut, this is where the lower part begins
        upper.last_used, upper.holders = node.last_used, node.holders
        old_parent, node.parent = node.parent, upper
        assert old_parent is not None
        for key in [key for key, child in old_parent.children.items() if child is node]:
            old_parent.children[key] = upper
        upper.children[node.token_ids[0]] = node
        self.nodes[upper.node_id] = upper
        changes.append(NodeSplit(node.node_id, upper.node_id, length))
        return upper


@pytest.mark.parametrize("tree_class", [Split, SplitByReplace, SplitAndReadTheStartLate])
def test_other_ways_to_split_pass(tree_class: type[RadixTree]) -> None:
    assert_passes("11.3", tree_class)


def wrong(**methods: Any) -> type[RadixTree]:
    return type("MyTree", (Split,), {**methods, "__module__": __name__})


def made(**fields: Any) -> type[RadixTree]:
    """A split whose upper node differs: ``fields`` are functions of the node that is split and of the length."""

    def make(self: Split, node: RadixNode, length: int) -> RadixNode:
        return replace(Split.make(self, node, length), **{name: f(node, length) for name, f in fields.items()})

    return wrong(make=make)


def hung(*, parent: bool = True, down: bool = True, up: bool = True, key: int | None = None) -> type[RadixTree]:
    def hang(self: Split, old: Any, upper: RadixNode, node: RadixNode) -> None:
        if parent:
            old.children[upper.token_ids[0]] = upper
        if down:
            upper.children[node.token_ids[0] if key is None else upper.token_ids[key]] = node
        if up:
            node.parent = upper

    return wrong(hang=hang)


def never_stops_climbing(self: Split, upper: RadixNode, node: RadixNode) -> RadixNode:
    while node.parent:
        pass
    return upper


def children_move_up(self: Split, parent: Any, upper: RadixNode, node: RadixNode) -> None:
    Split.hang(self, parent, upper, node)
    upper.children |= node.children
    node.children = {}


def in_a_circle(self: Split, parent: Any, upper: RadixNode, node: RadixNode) -> None:
    Split.hang(self, parent, upper, node)
    upper.parent = node


def ends_move(self: Split, upper: RadixNode, node: RadixNode) -> RadixNode:
    node.end = upper.end
    return upper


class KeepsTheOldNodeAbove(RadixTree):
    def split(self, node: RadixNode, length: int, changes: list[Any]) -> RadixNode:
        lower = RadixNode(self._new_id(), node.token_ids[length:], node, node.holders, node.last_used, node.end)
        lower.children, node.children = node.children, {}
        node.token_ids, node.end = node.token_ids[:length], node.start + length
        node.children[lower.token_ids[0]] = lower
        self.nodes[lower.node_id] = lower
        changes.append(NodeSplit(lower.node_id, node.node_id, length))
        return node


class ForgetsToCut(Split):
    def split(self, node: RadixNode, length: int, changes: list[Any]) -> Any:
        upper = self.make(node, length)
        upper.children, node.parent = {node.token_ids[length]: node}, upper
        self.book(node, upper, length, changes)
        return upper


class CutsTooEarly(Split):
    def split(self, node: RadixNode, length: int, changes: list[Any]) -> Any:
        parent, first = node.parent, node.token_ids[:length]
        node.token_ids = node.token_ids[length:]
        upper = RadixNode(self._new_id(), first, parent, node.holders, node.last_used, node.start + length)
        self.hang(parent, upper, node)
        self.book(node, upper, length, changes)
        return upper


@pytest.mark.parametrize(
    ("tree_class", "sentence"),
    [
        (wrong(answer=lambda self, upper, node: None), "split returns nothing"),
        (wrong(answer=lambda self, upper, node: node), "returns the node that it was given"),
        (wrong(answer=lambda self, upper, node: upper.node_id), "must return a RadixNode"),
        (KeepsTheOldNodeAbove, "You kept the given node as the upper part"),
        (ForgetsToCut, "still has its whole edge"),
        (CutsTooEarly, "too far by the length of its edge"),
        (made(token_ids=lambda node, length: list(node.token_ids[:length])), "must be a tuple"),
        (made(token_ids=lambda node, length: node.token_ids), "The upper node has the wrong edge"),
        (made(holders=lambda node, length: 0), "has no holders"),
        (made(holders=lambda node, length: node.holders & -node.holders), "The upper node's holders"),
        (made(end=lambda node, length: length), "must count from the root"),
        (made(end=lambda node, length: node.end), "The upper node's end, counted from the root"),
        (made(last_used=lambda node, length: 0), "has no last_used"),
        (
            wrong(answer=lambda self, upper, node: setattr(upper, "last_used", self._clock) or upper),
            "A split is not a use",
        ),
        (wrong(answer=never_stops_climbing), "does not come to an end: look at the loop around line"),
        (made(parent=lambda node, length: None), "`upper.parent` must be"),
        (wrong(answer=ends_move), "it still ends where it ended"),
        (hung(parent=False), "still leads to the lower node"),
        (hung(up=False), "The lower node's `parent` must be the upper node"),
        (hung(down=False), "The upper node's children"),
        (hung(key=0), "under the wrong key"),
        (wrong(hang=children_move_up), "The upper node's children"),
        (wrong(hang=in_a_circle), "`upper.parent` must be"),
        (wrong(book=lambda self, node, upper, length, changes: changes.append(None)), "missing in `self.nodes`"),
        (
            wrong(book=lambda self, node, upper, length, changes: self.nodes.update({upper.node_id: upper})),
            "Nothing was appended to `changes`",
        ),
        (
            wrong(
                book=lambda self, node, upper, length, changes: (
                    Split.book(self, upper, node, length, changes) or self.nodes.update({upper.node_id: upper})
                )
            ),
            "in the wrong order",
        ),
        (made(node_id=lambda node, length: node.node_id), "belongs to another node"),
    ],
)
def test_a_wrong_split_is_told_what_is_wrong(tree_class: type[RadixTree], sentence: str) -> None:
    assert_refused("11.3", tree_class, sentence)


# --- 11.4 -------------------------------------------------------------------------------------------------------------


def by_a_loop(rows: Sequence[Ids], prompt: Ids) -> int:
    best = 0
    for row in rows:
        length = 0
        while length < min(len(row), len(prompt)) and row[length] == prompt[length]:
            length += 1
        best = max(best, length)
    return best


def by_trying_lengths(rows: Sequence[Ids], prompt: Ids) -> int:
    return next(n for n in range(len(prompt), -1, -1) if n == 0 or any(row[:n] == prompt[:n] for row in rows))


def by_zipping(rows: Sequence[Ids], prompt: Ids) -> int:
    def pairs(row: Ids) -> Iterator[tuple[int, int]]:
        return takewhile(lambda pair: pair[0] == pair[1], zip(row, prompt, strict=False))

    return max([0, *(len(list(pairs(row))) for row in rows)])


def by_numpy(rows: Sequence[Ids], prompt: Ids) -> Any:
    return np.max([0, *(common_prefix_len(row, prompt) for row in rows)])


@pytest.mark.parametrize("function", [by_a_loop, by_trying_lengths, by_zipping, by_numpy])
def test_other_oracles_pass(function: Callable[[Sequence[Ids], Ids], int]) -> None:
    assert_passes("11.4", function)


def no_end(rows: Sequence[Ids], prompt: Ids) -> int:
    length = 0
    while rows:
        length = max(length, common_prefix_len(rows[0], prompt))
    return length


def takes_the_rows_away(rows: list[Ids], prompt: Ids) -> int:
    length = 0
    while rows:
        length = max(length, common_prefix_len(rows.pop(), prompt))
    return length


def sorts_the_rows(rows: list[Ids], prompt: Ids) -> int:
    rows.sort()
    return by_a_loop(rows, prompt)


@pytest.mark.parametrize(
    ("function", "sentence"),
    [
        (lambda rows, prompt: common_prefix_len(rows[0], prompt), "Only the first row"),
        (lambda rows, prompt: [common_prefix_len(row, prompt) for row in rows][-1], "Only the last row"),
        (lambda rows, prompt: min(common_prefix_len(row, prompt) for row in rows), "the worst row's prefix"),
        (lambda rows, prompt: sum(common_prefix_len(row, prompt) for row in rows), "added up"),
        (
            lambda rows, prompt: max(sum(a == b for a, b in zip(row, prompt, strict=False)) for row in rows),
            "after the first difference",
        ),
        (lambda rows, prompt: max(len({*row} & {*prompt}) for row in rows), "wherever they stand"),
        (lambda rows, prompt: max(len(r) if prompt[: len(r)] == r else 0 for r in rows), "agrees as a whole"),
        (lambda rows, prompt: max(common_prefix_len(row, prompt) for row in rows), "has no rows: the answer is 0"),
        (lambda rows, prompt: max(rows, key=lambda row: common_prefix_len(row, prompt)), "is of type tuple"),
        (lambda rows, prompt: [common_prefix_len(row, prompt) for row in rows], "is of type list"),
        (no_end, "does not come to an end: look at the loop around line"),
        (takes_the_rows_away, "changes the list of rows. It must only look"),
        (sorts_the_rows, "changes the list of rows. It must only look"),
    ],
)
def test_a_wrong_oracle_is_told_what_is_wrong(function: Callable[[Any, Ids], Any], sentence: str) -> None:
    assert_refused("11.4", function, sentence)


def test_who_empties_the_rows_spoils_no_later_check() -> None:
    assert_refused("11.4", takes_the_rows_away, "must only look")
    assert_passes("11.4", by_a_loop)


# --- 11.7 -------------------------------------------------------------------------------------------------------------


class MatchAtArrival(InferenceScheduler):
    """As it stands in the notebook."""

    def __init__(self, *args: Any, **settings: Any) -> None:
        super().__init__(*args, **settings)
        self.found: dict[int, Match] = {}

    def cleanup(self) -> None:
        super().cleanup()
        for number, request in self.waiting.items():
            if number not in self.found:
                self.found[number] = self.cache.match(request.prompt_ids)

    def refill(self) -> None:
        with self._in_phase("refill"):
            for request in list(self.waiting.values()):
                if self.can_admit():
                    self.place(request)

    def place(self, request: Request) -> Any:
        self._admit(request, self.found[request.request_id])


class HoldingScheduler(MatchAtArrival):
    """As it stands in the notebook."""

    def hold(self, request: Request, leader: Request) -> None:
        if request.leader_id != leader.request_id:
            request.leader_id = leader.request_id
            self.emit(RequestHeld(request.request_id, leader.request_id))


def placing(function: Callable[[Any, Request], Any]) -> type[InferenceScheduler]:
    return type("MyScheduler", (HoldingScheduler,), {"place": function, "__module__": __name__})


def waits_for(
    chosen: Callable[[Any, Request, Request, int], bool], among: str = "running"
) -> Callable[[Any, Request], Any]:
    """A ``place`` that holds a request for the first other one that ``chosen`` names, given what they share."""

    def place(self: Any, request: Request) -> Any:
        match = self.cache.match(request.prompt_ids)
        for other in getattr(self, among).values():
            shared = common_prefix_len(other.prompt_ids, request.prompt_ids[:-1])
            if chosen(other, request, match, shared):
                return self.hold(request, other)
        self._admit(request, match)

    return place


def for_the_one_that_shares_most(self: Any, request: Request) -> None:
    def shared(other: Request) -> int:
        return common_prefix_len(other.prompt_ids, request.prompt_ids[:-1])

    match = self.cache.match(request.prompt_ids)
    leaders = [other for other in self.running.values() if other.is_prefilling and shared(other) > match.length]
    if leaders:
        self.hold(request, max(leaders, key=shared))
    else:
        self._admit(request, match)


def without_asking_who_prefills(self: Any, request: Request) -> None:
    """What a running request has written is in the tree: it never shares more than the match."""
    match, own = self.cache.match(request.prompt_ids), request.prompt_ids[:-1]
    leader = next((o for o in self.running.values() if common_prefix_len(o.prompt_ids, own) > match.length), None)
    self._admit(request, match) if leader is None else self.hold(request, leader)


class WithARefillOfItsOwn(InferenceScheduler):
    """Who throws the given class away and writes the whole refill."""

    def refill(self) -> None:
        with self._in_phase("refill"):
            for request in list(self.waiting.values()):
                match = self.cache.match(request.prompt_ids)
                lead = self._find_lead(request, match.length)
                if self.can_admit() and lead is None:
                    self._admit(request, match)


@pytest.mark.parametrize(
    "scheduler",
    [
        placing(waits_for(lambda other, request, match, shared: other.is_prefilling and shared > match.length)),
        placing(for_the_one_that_shares_most),
        placing(without_asking_who_prefills),
        WithARefillOfItsOwn,
    ],
)
def test_other_ways_to_wait_pass(scheduler: type[InferenceScheduler]) -> None:
    assert_passes("11.7", scheduler)


def with_the_last_token(self: Any, request: Request) -> Any:
    match = self.cache.match(request.prompt_ids)
    for other in self.running.values():
        if other.is_prefilling and common_prefix_len(other.prompt_ids, request.prompt_ids) > match.length:
            return self.hold(request, other)
    self._admit(request, match)


def holds_and_admits(self: Any, request: Request) -> None:
    match = self.cache.match(request.prompt_ids)
    for other in list(self.running.values()):
        if other.is_prefilling and common_prefix_len(other.prompt_ids, request.prompt_ids[:-1]) > match.length:
            self.hold(request, other)
    self._admit(request, match)


def admits_inside_of_the_loop(self: Any, request: Request) -> Any:
    match = self.cache.match(request.prompt_ids)
    for other in self.running.values():
        if other.is_prefilling and common_prefix_len(other.prompt_ids, request.prompt_ids[:-1]) > match.length:
            return self.hold(request, other)
        return self._admit(request, match)


def drops_whom_it_should_hold(self: Any, request: Request) -> Any:
    match = self.cache.match(request.prompt_ids)
    for other in self.running.values():
        if other.is_prefilling and common_prefix_len(other.prompt_ids, request.prompt_ids[:-1]) > match.length:
            del self.waiting[request.request_id]
            return
    self._admit(request, match)


def admits_twice(self: Any, request: Request) -> None:
    self._admit(request, self.cache.match(request.prompt_ids))
    self._admit(request, self.cache.match(request.prompt_ids))


def waits_in_a_loop(self: Any, request: Request) -> None:
    while any(other.is_prefilling for other in self.running.values()):
        pass
    self._admit(request, self.cache.match(request.prompt_ids))


@pytest.mark.parametrize(
    ("function", "sentence"),
    [
        (MatchAtArrival.place, "when they arrived"),
        (lambda self, request: self._admit(request, self.cache.match(request.prompt_ids)), "that is half of it"),
        (holds_and_admits, "that is half of it"),
        (waits_for(lambda other, request, match, shared: other.is_prefilling), "shares nothing with the others"),
        (waits_for(lambda other, request, match, shared: shared >= match.length), "shares nothing with the others"),
        (with_the_last_token, "is always computed"),
        (waits_for(lambda other, request, match, shared: shared > match.length, among="waiting"), "for themselves"),
        (waits_for(lambda other, request, match, shared: shared > match.length + 2), "at row"),
        (waits_for(lambda other, request, match, shared: other.is_prefilling and shared >= 6), "is always computed"),
        (lambda self, request: None, "No request ever gets a row: `_admit` is never reached"),
        (admits_inside_of_the_loop, "No request ever gets a row: `_admit` is never reached"),
        (drops_whom_it_should_hold, "never got a row: they are neither running nor waiting"),
        (admits_twice, "Request 0 got two rows: `_admit` was called twice"),
        (waits_in_a_loop, "does not come to an end: look at the loop around line"),
    ],
)
def test_a_wrong_scheduler_is_told_what_is_wrong(function: Callable[[Any, Request], Any], sentence: str) -> None:
    assert_refused("11.7", placing(function), sentence)


def test_a_scheduler_without_its_place_is_not_passed_on_another_s() -> None:
    misspelled = type("MyScheduler", (HoldingScheduler,), {"plce": with_the_last_token, "__module__": __name__})
    assert_refused("11.7", misspelled, "MyScheduler has no `place` of its own, so MatchAtArrival answers")
    empty = type("MyScheduler", (InferenceScheduler,), {"__module__": __name__})
    assert_refused("11.7", empty, "MyScheduler has no `place` of its own, so InferenceScheduler answers")


# --- the chapter ------------------------------------------------------------------------------------------------------


def test_the_quiz_explains_each_option_at_about_the_same_length() -> None:
    for question in chapter("11").quiz:
        lengths = [len(option.text) for option in question.options]
        assert max(lengths) < 3 * min(lengths), question.text
    right = [question.right for question in chapter("11").quiz]
    assert all(right.count(place) >= 2 for place in range(3))
    longest = sum(max(q.options, key=lambda o: len(o.text)).right for q in chapter("11").quiz)
    assert longest <= len(right) / 2, "who picks the longest answer should not pass"
