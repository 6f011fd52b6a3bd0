"""What was measured, written into a model's card: its table and its samples stand there as the evaluation made them."""

from __future__ import annotations

from collections.abc import Mapping

BEGIN, END = "<!-- {} -->", "<!-- end of {} -->"


def fill(card: str, parts: Mapping[str, str]) -> str:
    """The card with what stands between the marks of each part replaced; everything else stays as it was written.

    Raises:
        ValueError: the marks of a part are not in the card, in this order.

    Example:
        >>> fill("Is it good? <!-- answer -->No.<!-- end of answer --> Good bye.", {"answer": "Yes."})
        'Is it good? <!-- answer -->\\n\\nYes.\\n\\n<!-- end of answer --> Good bye.'
    """
    for name, text in parts.items():
        begin, end = BEGIN.format(name), END.format(name)
        before, found, rest = card.partition(begin)
        _, found_end, after = rest.partition(end)
        if not found or not found_end:
            raise ValueError(f"the card has no place for the {name}: write {begin} and {end} where it belongs")
        card = f"{before}{begin}\n\n{text}\n\n{end}{after}"
    return card
