"""The queue: a card for each request that waits, the next one on top."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from manim import UP, Animation, FadeIn, FadeOut, Mobject

from .request_card import RequestCard

PITCH, MOST_CARDS = 0.56, 7


class Queue:
    """Cards of ``width`` units below each other, from ``top`` down; at most seven are shown.

    The cards themselves belong to the scene, which adds them as they come in.
    """

    def __init__(self, left: float, top: float, width: float) -> None:
        self.left, self.top, self.width = left, top, width
        self.cards: dict[int, RequestCard] = {}
        self._texts: dict[int, str] = {}

    def arrive(self, request_id: int, text: str) -> None:
        """Say what a request asks: before :meth:`tell` names it for the first time."""
        self._texts[request_id] = text

    def tell(self, waiting: list[int], rows: dict[int, np.ndarray]) -> list[Animation]:
        """Animations to this order of ids. A card that goes to a row flies to its place in ``rows``, others fade."""
        moves: list[Animation] = []
        for request_id in [known for known in self.cards if known not in waiting[:MOST_CARDS]]:
            card = self.cards.pop(request_id)
            moves.append(FadeOut(card, target_position=rows.get(request_id, card.get_center()), scale=0.5))
        for place, request_id in enumerate(waiting[:MOST_CARDS]):
            where = np.array([self.left + self.width / 2, self.top - place * PITCH, 0])
            if request_id not in self.cards:
                card = RequestCard(request_id, self._texts[request_id], self.left, self.top, self.width)
                self.cards[request_id] = card.move_to(where)
                moves.append(FadeIn(card, shift=0.3 * UP))
            elif abs((card := self.cards[request_id]).get_y() - where[1]) > 0.01:
                moves.append(card.animate.move_to(where))
        return moves

    @staticmethod
    def shown(mobjects: Iterable[Mobject]) -> list[int]:
        """Whose cards stand in a scene, from top to bottom."""
        cards = [mobject for mobject in mobjects if isinstance(mobject, RequestCard)]
        return [card.request_id for card in sorted(cards, key=lambda card: -card.get_y())]
