"""A slot over time: one place a step, with the number of the request that owned it."""

from __future__ import annotations

from itertools import pairwise

from manim import Animation, FadeIn

from ..style import BODY, INK, Label, put_center, put_left
from .bar import Bar

HEAD = 1.0  # from the lane's left edge to the first step
FEWEST_STEPS, GAP = 8, 0.05


class Lane(Bar):
    """Room for ``steps`` steps. A request's number stands above its first place."""

    def __init__(self, slot: int, left: float, y: float, width: float, steps: int) -> None:
        super().__init__(left + HEAD, y, width - HEAD, steps, tall=0.3)
        self.slot, self.steps = slot, 0
        self.work: list[tuple[str, int, int, int]] = []  # role, start, end, request
        self.numbers: list[Label] = []
        self.add(put_left(Label(f"slot {slot}", BODY, bold=True), left, y))

    def step(self, work: tuple[str, int] | None) -> list[Animation]:
        """One more step, in which the slot did ``work`` (role, request), or had no owner."""
        start, self.steps = self.steps, self.steps + 1
        if work is None:
            return []
        role, request_id = work
        last = self.work[-1] if self.work else None
        moves: list[Animation] = []
        if last and last[0] == role and last[2:] == (start, request_id):
            self.work[-1] = (role, last[1], self.steps, request_id)
        else:
            self.work.append((role, start, self.steps, request_id))
            if not last or last[3] != request_id:
                number = put_center(Label(f"{request_id}", BODY, INK, bold=True), self.x_of(start + 0.5), self.y + 0.3)
                self.numbers.append(number)
                self.add(number)
                moves.append(FadeIn(number))
        return self.fill([span[:3] for span in self.work]) + moves

    def shown(self, step: int) -> int | None:
        """Who had the slot in a step, counted from 0, as can be seen; ``None`` where the lane is empty there."""
        if not any(span.start <= step < round(span.end) for span in self.spans):
            return None
        return max((n.get_x(), int(n.text)) for n in self.numbers if n.get_x() < self.x_of(step + 1))[1]


def steps_that_fit(owners: list[list[int | None]], width: float, most: int) -> int:
    """How many steps, at most ``most``, lanes of this width can show with room for all numbers.

    ``owners`` says for each lane who had the slot, step by step.
    """
    starts = []
    for lane in owners:
        new = [(step, now) for step, (before, now) in enumerate(pairwise([None, *lane])) if now not in (before, None)]
        starts.append([(step, Label(f"{owner}", BODY, bold=True).width) for step, owner in new])
    for steps in range(most, FEWEST_STEPS, -1):
        unit = (width - HEAD) / steps
        pairs = [pair for lane in starts for pair in pairwise(lane) if pair[1][0] < steps]
        if all((b - a) * unit > (wide + wider) / 2 + GAP for (a, wide), (b, wider) in pairs):
            return steps
    return min(most, FEWEST_STEPS)
