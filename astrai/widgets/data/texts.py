"""Text for token ids: of an edge of the tree, of the end of an answer, of a single token.

It keeps what it has decoded, since a live picture asks ten times a second for texts of which few have changed.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from astrai.trace.snapshot import NodeState, RequestState

Decode = Callable[[Sequence[int]], str]
LONGEST_EDGE = 100  # characters
LONGEST_TAIL = 40
CUT = " … "
SPECIAL = re.compile(r"<\|\w+\|>")


class Texts:
    """``decode`` turns token ids into text. Without it, or where it fails, ids are shown as ``[12 7 9]``."""

    def __init__(self, decode: Decode | None = None) -> None:
        self.decode = decode
        self._edges: dict[int, tuple[tuple[int, ...], str]] = {}  # by node: the ids that were decoded, their text
        self._tails: dict[int, tuple[int, str]] = {}  # by request: how many tokens it had given, the end of their text
        self._tokens: dict[int, str] = {}

    def edges(self, nodes: Sequence[NodeState]) -> list[str]:
        """The text of each edge, at most 100 characters; what other nodes had is forgotten."""
        known, self._edges = self._edges, {}
        for node in nodes:
            seen = known.get(node.node_id)
            if seen is None or seen[0] is not node.token_ids:
                seen = (node.token_ids, self.edge(node.token_ids))
            self._edges[node.node_id] = seen
        return [text for _, text in self._edges.values()]

    def edge(self, ids: Sequence[int]) -> str:
        """Text of at most 100 characters, cut in the middle."""
        if len(ids) <= 2 * LONGEST_EDGE:
            return _clipped(self.of(ids))
        # A token is hardly ever less than a character: nobody would see the middle of so long an edge.
        return _clipped(self.of(ids[:LONGEST_EDGE]) + self.of(ids[-LONGEST_EDGE:]))

    def tails(self, requests: Sequence[RequestState]) -> list[str]:
        """The last 40 characters or so of what each request has given; what others gave is forgotten."""
        known, self._tails = self._tails, {}
        for request in requests:
            count = len(request.output_ids)
            seen = known.get(request.request_id)
            if seen is None or seen[0] != count:
                seen = (count, self._tail(request.output_ids))
            self._tails[request.request_id] = seen
        return [text for _, text in self._tails.values()]

    def _tail(self, ids: Sequence[int]) -> str:
        text = ""
        for count in (12, LONGEST_TAIL):  # a dozen tokens are usually enough, and quicker to decode
            if ids and len(text) < LONGEST_TAIL:
                # Half a character at an end shows as U+FFFD: the rest of it is cut off, or still to come.
                text = self.of(ids[-count:]).strip("\ufffd")
        return text[-LONGEST_TAIL:]

    def token(self, token_id: int) -> str:
        """The text of a single token."""
        text = self._tokens.get(token_id)
        if text is None:
            text = self._tokens[token_id] = self.of((token_id,))
        return text

    def of(self, ids: Sequence[int]) -> str:
        """The whole text."""
        if self.decode is not None:
            try:
                # A lone surrogate is no text: it could be neither sent nor written.
                return self.decode(ids).encode("utf-8", "replace").decode("utf-8")
            except Exception:  # somebody else's function, on a piece that may end within a character
                return shown_ids(ids)
        return shown_ids(ids)


def shown_ids(ids: Sequence[int]) -> str:
    """Ids as text.

    Example:
        >>> shown_ids((12, 7, 9))
        '[12 7 9]'
    """
    return f"[{' '.join(map(str, ids))}]"


def _clipped(text: str) -> str:
    if len(text) <= LONGEST_EDGE:
        return text
    end = (LONGEST_EDGE - len(CUT) + 1) // 2
    start = len(text) - (LONGEST_EDGE - len(CUT) - end)
    for special in SPECIAL.finditer(text):  # no piece of a special token is left over
        if special.start() < end < special.end():
            end = special.start()
        if special.start() < start < special.end():
            start = special.end()
    return f"{text[:end]}{CUT}{text[start:]}"
