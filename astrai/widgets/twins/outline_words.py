"""What is said of the rows of a radix tree's outline: the same words in the SVG, the text and the browser."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from astrai.widgets.twins.outline import Hit, Row, State
from astrai.widgets.twins.svg import plural, visible

LISTED = 6  # groups of numbers in one sentence


class Neighbours(NamedTuple):
    """Numbers that follow each other without a gap and are of one kind."""

    first: int
    last: int
    kind: bool


def neighbours(numbers: Iterable[int], kind: Callable[[int], bool] = lambda _: False) -> list[Neighbours]:
    """Ascending numbers in as few groups as there can be."""
    groups: list[Neighbours] = []
    for number in numbers:
        if groups and groups[-1].last == number - 1 and groups[-1].kind == kind(number):
            groups[-1] = groups[-1]._replace(last=number)
        else:
            groups.append(Neighbours(number, number, kind(number)))
    return groups


def listed(numbers: Sequence[int]) -> str:
    """``0 to 3, 7``; of many groups the first few, and how many numbers there are beside them."""
    groups = neighbours(numbers)
    shown = groups if len(groups) <= LISTED + 1 else groups[:LISTED]
    words = ", ".join(f"{a}" if a == b else f"{a}, {b}" if a + 1 == b else f"{a} to {b}" for a, b, _ in shown)
    others = len(numbers) - sum(b - a + 1 for a, b, _ in shown)
    return f"{words} and {others:,} more" if others else words


def summary(state: State) -> str:
    """How large the tree is, and how many slots hold something of it."""
    nodes, slots = state["nodes"].values(), state["slots"]
    size = f"{plural(len(nodes), 'node')}, {plural(sum(node['len'] for node in nodes), 'token')}"
    return f"{size}, held by {sum(bool(slot['node']) for slot in slots)} of {plural(len(slots), 'slot')}"


def held_by(row: Row) -> str:
    """The slots that hold a node, and which of them lock it."""
    held = f"held by {'slot' if len(row.holders) == 1 else 'slots'} {listed(row.holders)}"
    if not row.locked:
        return held
    return f"{held}, locked" if row.locked == row.holders else f"{held}, locked by {listed(row.locked)}"


def used_at(row: Row) -> str:
    """When its path was used last, by the clock of the tree."""
    return f"used at tick {row.used:,}" if row.used else "not used yet"


def found_here(hit: Hit) -> str:
    """Who made a hit, and how far it went."""
    return f"request {hit.request} found its first {plural(hit.len, 'token')}, up to here"


def sentence(row: Row, state: State) -> str:
    """All of a row."""
    if row.folds is not None:
        branches, size = fold_words(row)
        return f"{branches} not in use, {size}"
    if row.node_id == 0:
        return f"root of {summary(state)}"
    parts = [f"“{visible(row.text)}”", plural(row.len, "token"), held_by(row), used_at(row)]
    if row.hit:
        parts.append(f"last hit: {found_here(row.hit)}")
    if row.is_oldest:
        parts.append("the leaf to go first")
    return ", ".join(parts)


def fold_words(row: Row) -> tuple[str, str]:
    """How many branches a fold stands for, and how large they are."""
    assert row.folds is not None
    branches, nodes, tokens = row.folds
    return many(branches, "branch", "branches"), f"{plural(nodes, 'node')}, {plural(tokens, 'token')}"


def many(count: int, one: str, several: str) -> str:
    """``1 branch``, ``1,024 branches``."""
    return f"1 {one}" if count == 1 else f"{count:,} {several}"


def last_news(state: State) -> str:
    """What happened to the tree in the last step that the news tell of."""
    kinds = ("matched", "miss", "split", "inserted", "merged", "evicted")
    news = [item for item in state["news"] if item["kind"] in kinds]
    if not news:
        return ""
    step = news[-1]["step"]
    is_cut = state["news"][0]["step"] == step  # only the latest happenings are kept
    news = [item for item in news if item["step"] == step]
    counts = Counter(item["kind"] for item in news)
    words = []
    for item in news:
        if item["kind"] == "matched":
            words.append(f"request {item['request']} found {plural(item['len'], 'token')}")
        if item["kind"] == "miss":
            words.append(f"request {item['request']} found nothing")
    for kind, one, several, what in (
        ("split", "edge was", "edges were", "split"),
        ("inserted", "piece of text was", "pieces of text were", "added"),
        ("merged", "node was", "nodes were", "joined with the one above"),
        ("evicted", "leaf was", "leaves were", "evicted"),
    ):
        if counts[kind]:
            words.append(f"{many(counts[kind], one, several)} {what}")
    return f"Step {step:,}{', at its end' if is_cut else ''}: {'; '.join(words)}."
