"""What each step of a run computes, as a picture: tokens of prompts, and tokens of answers."""

from __future__ import annotations

from itertools import groupby

from astrai.course.charts import Chart
from astrai.course.stills import HATCH
from astrai.trace.events import Prefilled, StepStarted, TokensDecoded
from astrai.trace.log import EventLog
from astrai.widgets.palette import Role, roles


class TokensPerStep:
    """A bar for each step: prompt tokens that it prefills, and on top of them the tokens that it decodes.

    Example:
        >>> TokensPerStep(engine.trace)  # doctest: +SKIP
        steps 1 to 2: 50 of prompts, 2 of answers
    """

    def __init__(self, log: EventLog, title: str = "Tokens that each step computes") -> None:
        self.title = title
        self.counts: dict[int, tuple[int, int]] = {}  # step: of prompts, of answers
        for record in log.records:
            prompts, answers = self.counts.get(record.step, (0, 0))
            match record.event:
                case StepStarted():
                    self.counts[record.step] = (0, 0)
                case Prefilled(start=start, end=end):
                    self.counts[record.step] = (prompts + end - start, answers)
                case TokensDecoded(request_ids=numbers):
                    self.counts[record.step] = (prompts, answers + len(numbers))
        while self.counts and self.counts[max(self.counts)] == (0, 0):  # the last cleanup has nothing to compute
            del self.counts[max(self.counts)]

    def chart(self) -> Chart:
        """The picture, to be changed or saved."""
        chart = Chart(self.title, x="step", y="tokens", words=repr(self))
        for step, (prompts, answers) in self.counts.items():
            _bar(chart, step, 0, prompts, roles()["prefill"])
            _bar(chart, step, prompts, answers, roles()["decode"])
            if answers:
                label = f"{answers} {roles()['decode'].letter}"
                chart.axes.annotate(label, (step, prompts + answers), (0, 2), textcoords="offset points", ha="center")
            if prompts:
                role = roles()["prefill"]
                box = dict(boxstyle="round,pad=0.15", facecolor=role.color, linewidth=0)  # else the hatch crosses it
                centre = dict(ha="center", va="center", rotation=90)
                chart.axes.text(step, prompts / 2, f"{prompts} {role.letter}", color=role.ink, bbox=box, **centre)
        chart.axes.margins(x=0.01, y=0.12)
        chart.axes.locator_params(axis="x", integer=True)
        return chart

    def _repr_png_(self) -> bytes:
        return self.chart()._repr_png_()

    def __repr__(self) -> str:
        lines = []
        for (prompts, answers), group in groupby(self.counts, key=self.counts.__getitem__):
            steps = list(group)
            which = f"step {steps[0]}" if len(steps) == 1 else f"steps {steps[0]} to {steps[-1]}"
            lines.append(f"{which}: {prompts} of prompts, {answers} of answers")
        return "\n".join(lines)


def _bar(chart: Chart, step: int, bottom: int, count: int, role: Role) -> None:
    chart.axes.bar(step, count, 0.8, bottom, color=role.color, hatch=role.hatch, edgecolor=HATCH, linewidth=0)
