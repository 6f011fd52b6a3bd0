"""Chapter 11, The radix tree: what it asks. Its checks stand beside it, and are imported when they are asked."""

from __future__ import annotations

from typing import Any

from astrai.course.chapters.ch11_quiz import QUIZ
from astrai.course.exercises import Chapter, Exercise


def match_prefix(tree_class: Any) -> None:
    """11.2"""
    from astrai.course.chapters import ch11_lookup

    ch11_lookup.match_prefix(tree_class)


def split(tree_class: Any) -> None:
    """11.3"""
    from astrai.course.chapters import ch11_split

    ch11_split.split(tree_class)


def longest_prefix(function: Any) -> None:
    """11.4"""
    from astrai.course.chapters import ch11_oracle

    ch11_oracle.longest_prefix(function)


def place(scheduler: Any) -> None:
    """11.7"""
    from astrai.course.chapters import ch11_burst

    ch11_burst.place(scheduler)


EXERCISES = (
    Exercise(
        "11.2",
        "Match a prefix",
        match_prefix,
        (
            "You stand at a node, with `length` tokens matched. Which token of the prompt decides where to go, and in "
            "which dictionary do you look it up?",
            "Go to the child, and compare its `token_ids` with `token_ids[length:]`. Add what they share to `length`. "
            "If that is less than the whole edge, you are done.",
            "`while length < len(token_ids) and token_ids[length] in node.children:` go to that child, "
            "`shared = common_prefix_len(node.token_ids, token_ids[length:])`, add it, and "
            "`if shared < len(node.token_ids): break`.",
        ),
    ),
    Exercise(
        "11.3",
        "Split an edge",
        split,
        (
            "Draw three boxes: the old parent, the upper node, the old node. Each link is there twice, down "
            "(`children`) and up (`parent`). Which of them are new?",
            "The upper node takes over `holders` and `last_used`, and ends at `node.start + length` (work that out "
            "before you cut the edge). The old node keeps its rest, `node.token_ids[length:]`.",
            "Five lines are left: `node.parent.children[upper.token_ids[0]] = upper`, then "
            "`upper.children[node.token_ids[0]] = node`, then `node.parent = upper`, then the entry in `self.nodes`, "
            "then `changes.append(NodeSplit(node.node_id, upper.node_id, length))`.",
        ),
    ),
    Exercise(
        "11.4",
        "The slow answer",
        longest_prefix,
        (
            "What does each row share with the prompt? Of these numbers you want one.",
            "`common_prefix_len(row, prompt)` for each row, and the largest of them. And if there is no row?",
            "`max(..., default=0)` of `common_prefix_len(row, prompt) for row in rows`.",
        ),
    ),
    Exercise(
        "11.7",
        "Wait for the leader",
        place,
        (
            "Two things are wrong: when the match is made, and that nobody ever waits. Begin with the first.",
            "After `match = self.cache.match(request.prompt_ids)` go through `self.running.values()`. Who of them is "
            "about to write more of this prompt than the match has?",
            "`if other.is_prefilling and common_prefix_len(other.prompt_ids, request.prompt_ids[:-1]) > match.length:` "
            "hold, and return. After the loop, `self._admit(request, match)`.",
        ),
    ),
)

CHAPTER = Chapter(id="11", title="The radix tree", exercises=EXERCISES, predictions=("11.1", "11.5", "11.6"), quiz=QUIZ)
