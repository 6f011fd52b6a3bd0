"""The check of 11.2: ``match_prefix`` finds what brute force finds, and changes nothing."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

from astrai.course.chapters.ch11_runs import Ids, example, grown, holders, longest, play, random_ids
from astrai.course.handed_in import own_class
from astrai.course.mistakes import Mistake
from astrai.course.parting import same_trace
from astrai.inference.cache.radix_tree import Match, RadixNode, RadixTree, common_prefix_len

ROWS: tuple[Ids, ...] = ((1, 2, 3, 4, 5), (1, 2, 6), (1, 2, 3, 4, 7, 8), (9,), (3, 4, 3, 5), (3, 4, 8))
PROMPTS: tuple[Ids, ...] = (
    (9,),
    (5, 6),
    (),
    (1, 2, 3, 4, 7),
    (1, 2, 6, 6, 6),
    (1,),
    (1, 2, 3, 9, 9),
    (1, 6),
    (1, 2, 3, 4, 5),
    (3, 4, 3, 5),
)


def match_prefix(tree_class: type[RadixTree]) -> None:
    """A tree class finds what brute force finds, changes nothing, and an engine runs on it as on the package's."""
    own_class(tree_class, "match_prefix")
    tree = grown(tree_class, ROWS)
    before = _fields(tree)
    found = [_match(tree, prompt) for prompt in PROMPTS]
    for walk, sentence in WRONG_WALKS.items():
        _not_like([match.length for match in found], [walk(tree, prompt) for prompt in PROMPTS], sentence)
    _untouched(before, _fields(tree))
    for prompt, match in zip(PROMPTS, found, strict=True):
        _right_match(ROWS, prompt, match)
    draw = random.Random(2)
    for _ in range(60):
        rows, prompt = [random_ids(draw) for _ in range(4)], random_ids(draw)
        _right_match(rows, prompt, _match(grown(tree_class, rows), prompt))
    prompts = [random_ids(draw, longest=9) for _ in range(12)]
    yours = play(prompts, tree_class, together=False)
    same_trace(yours, play(prompts, together=False), "the engine on your tree")


def _fields(tree: RadixTree) -> dict[int, dict[str, object]]:
    """What each node says, by its number."""
    return {
        number: {
            "token_ids": node.token_ids,
            "parent": node.parent and node.parent.node_id,
            "holders": node.holders,
            "last_used": node.last_used,
            "end": node.end,
            "children": {token: child.node_id for token, child in node.children.items()},
        }
        for number, node in tree.nodes.items()
    }


def _untouched(before: dict[int, dict[str, object]], after: dict[int, dict[str, object]]) -> None:
    sentence = "match_prefix is a question, so it must leave the tree as it is."
    if set(before) != set(after):
        raise Mistake(f"{sentence} Yours has other nodes now.")
    for number, fields in before.items():
        for name, value in fields.items():
            if after[number][name] != value:
                changed = f"`{name}` of node {number} has changed."
                raise Mistake(f"{sentence} {changed}", expected=value, actual=after[number][name])


def _match(tree: RadixTree, prompt: Ids) -> Match:
    match = tree.match_prefix(prompt)
    if match is None:
        raise Mistake("match_prefix returns nothing. End it with `return Match(length, node)`.")
    if not isinstance(match, Match):
        kind = f"yours is of type {type(match).__name__}"
        raise Mistake(f"match_prefix must return a `Match(length, node)`, and {kind}.")
    if not isinstance(match.node, RadixNode):
        sentence = "The second part of a Match is the node itself, a RadixNode"
        raise Mistake(f"{sentence}, and yours is of type {type(match.node).__name__}.")
    return match


def _not_like(yours: list[int], wrong: list[int], sentence: str) -> None:
    """Name a mistake that explains all answers, where there is one."""
    right = [longest(ROWS, prompt) for prompt in PROMPTS]
    if yours == wrong != right:
        first = next(i for i, length in enumerate(yours) if length != right[i])
        raise Mistake(f"{sentence} {example(ROWS, PROMPTS[first])}", expected=right[first], actual=yours[first])


def _right_match(rows: Sequence[Ids], prompt: Ids, match: Match) -> None:
    length = longest(rows, prompt)
    if match.length != length:
        raise Mistake(f"The length is wrong. {example(rows, prompt)}", expected=length, actual=match.length)
    node = match.node
    is_on_edge = node.start < length <= node.end if length else node.parent is None
    if not is_on_edge or match.holders != holders(rows, prompt, length):
        raise Mistake(
            f"The length is right, the node is not. It is the one on whose edge the match ends (the root when nothing "
            f"matches), because its holders are the rows that have all of it. {example(rows, prompt)}",
            expected=f"holders {holders(rows, prompt, length):#b}",
            actual=f"holders {match.holders:#b}, of an edge from token {node.start} to {node.end}",
        )


def _walk(tree: RadixTree, prompt: Ids, on_partial: Callable[[int, int], int | None]) -> int:
    """A walk down the tree; ``on_partial`` gives the tokens that a partly matched edge adds, ``None`` to go on."""
    node, length = tree.root, 0
    while length < len(prompt) and (child := node.children.get(prompt[length])):
        shared = common_prefix_len(child.token_ids, prompt[length:])
        added = shared if shared == len(child.token_ids) else on_partial(shared, len(child.token_ids))
        node, length = child, length + (shared if added is None else added)
        if shared < len(child.token_ids) and added is not None:
            break
    return length


def _from_the_start_again(tree: RadixTree, prompt: Ids) -> int:
    node, length = tree.root, 0
    while length < len(prompt) and (child := node.children.get(prompt[length])):
        shared = common_prefix_len(child.token_ids, prompt)
        node, length = child, length + shared
        if shared < len(child.token_ids):
            break
    return length


def _first_edge(tree: RadixTree, prompt: Ids) -> int:
    child = tree.root.children.get(prompt[0]) if prompt else None
    return common_prefix_len(child.token_ids, prompt) if child else 0


WRONG_WALKS: dict[Callable[[RadixTree, Ids], int], str] = {
    lambda tree, prompt: 0: "Your match_prefix finds nothing, whatever the prompt.",
    _from_the_start_again: (
        "Below the first edge you compare with the prompt from its start again. Compare each edge with what is left of "
        "the prompt, `token_ids[length:]`."
    ),
    _first_edge: "Your match_prefix stops after the first edge. A match can go on below it.",
    lambda tree, prompt: _walk(tree, prompt, lambda shared, length: length): (
        "An edge of which only the beginning agrees is counted as a whole. Count the tokens that agree."
    ),
    lambda tree, prompt: _walk(tree, prompt, lambda shared, length: 0): (
        "An edge of which only the beginning agrees is not counted at all. Its first tokens match too."
    ),
    lambda tree, prompt: _walk(tree, prompt, lambda shared, length: None): (
        "Your match_prefix goes on below an edge that did not match to its end. What hangs there follows the whole "
        "edge, so no row has it after a part of the edge."
    ),
}
