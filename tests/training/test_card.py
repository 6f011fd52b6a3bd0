"""The card of a model: what was measured goes between its marks, and nothing else changes."""

from __future__ import annotations

import pytest

from astrai.training.card import fill

CARD = "# A model\n\n<!-- table -->old\n<!-- end of table -->\n\nWords.\n\n<!-- samples --><!-- end of samples -->\n"


def test_the_parts_are_replaced_and_the_rest_stays() -> None:
    filled = fill(CARD, {"table": "| new |", "samples": "> Once."})
    assert filled == (
        "# A model\n\n<!-- table -->\n\n| new |\n\n<!-- end of table -->\n\nWords.\n\n"
        "<!-- samples -->\n\n> Once.\n\n<!-- end of samples -->\n"
    )
    assert fill(filled, {"table": "| new |", "samples": "> Once."}) == filled


@pytest.mark.parametrize("card", ["", "<!-- table -->", "<!-- end of table --><!-- table -->"])
def test_a_card_without_the_marks_is_refused(card: str) -> None:
    with pytest.raises(ValueError, match="no place for the table"):
        fill(card, {"table": "x"})
