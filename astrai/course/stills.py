"""Pictures and tables of a run for the notebooks: plain functions of a log, which know no engine.

Every picture has its own background, so that it is as readable in a dark notebook as in a light one, and says with
letters and hatches what it says with colours.
"""

from __future__ import annotations

import html
import io
from collections.abc import Iterable, Sequence
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from astrai.course.slot_history import PARTS, Period, slot_history
from astrai.trace.events import Event, PhaseEnded, PhaseStarted, StepStarted
from astrai.trace.jsonl import Record
from astrai.trace.log import EventLog
from astrai.trace.words import FINE_PRINT, Decode, describe, tokens
from astrai.widgets.palette import roles, theme
from astrai.widgets.run import Run, decoder

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

LANE = 0.72  # of the distance between two slots; the names of requests stand above
FADED = 0.35  # opacity of what a free slot remembers
HATCH = (0, 0, 0, 0.35)
SMALLEST_LABELLED = 0.12  # a lower part has no room for its letter
LETTERS = 9.5  # points
HALF = 0.5
NAME_WIDTH = 0.08  # of the picture, for "request 12"


class FiveLayers:
    """The map of the five layers and the witness, as a picture."""

    def _repr_svg_(self) -> str:
        return files("astrai").joinpath("assets/five_layers.svg").read_text()

    def __repr__(self) -> str:
        return "server -> engine -> scheduler -> cache -> transformer, and the trace that witnesses them"


class Frozen:
    """A run of an engine, stopped at the end of a step (``None``: now): its slots, its tree, or both, as they were.

    Raises:
        ValueError: the engine's log does not hold this step.

    Example:
        >>> Frozen(engine, step=1)  # doctest: +SKIP
    """

    def __init__(self, engine: Any, step: int | None = None, parts: Sequence[str] = ("slots", "tree")) -> None:
        run = Run(engine.trace, decoder(engine.tokenizer))
        self._svg, self._text = run.svg(step, parts), run.text(step, parts)

    def _repr_svg_(self) -> str:
        return self._svg

    def __repr__(self) -> str:
        return self._text


class TraceTable:
    """Events as rows of step, phase and words. ``decode`` turns token ids into text.

    With ``only``, the rows are the events of these kinds; without, all but the fine print, which is the bookkeeping of
    the radix tree.
    """

    def __init__(
        self, records: Iterable[Record], decode: Decode | None = None, only: tuple[type[Event], ...] = ()
    ) -> None:
        show = None if decode is None else lambda token_ids: _quoted(decode(token_ids))
        self.rows: list[tuple[int, str, str]] = []
        phase = ""
        for record in records:
            match record.event:
                case PhaseStarted(name):
                    phase = name
                case PhaseEnded():
                    phase = ""
                case event if isinstance(event, only) if only else not isinstance(event, (StepStarted, *FINE_PRINT)):
                    self.rows.append((record.step, phase, describe(event, show)))

    def __repr__(self) -> str:
        return "\n".join(f"{step:>4}  {phase:<8}  {words}" for step, phase, words in self.rows)

    def _repr_html_(self) -> str:
        cell = '<td style="text-align:left;vertical-align:top">'
        lines = "".join(
            f"<tr><td>{step}</td>{cell}{phase}</td>{cell}{html.escape(words)}</td></tr>"
            for step, phase, words in self.rows
        )
        head = (
            '<tr><th>step</th><th style="text-align:left">phase</th><th style="text-align:left">what happened</th></tr>'
        )
        return f"<table><thead>{head}</thead><tbody>{lines}</tbody></table>"


def _quoted(text: str, longest: int = 60) -> str:
    text = text if len(text) <= longest else f"{text[: longest // 2]} ... {text[-longest // 2 :]}"
    return f"“{text}”".replace("\n", "⏎")


class SlotsOverTime:
    """Each slot as a lane that fills with tokens from below, step by step; what a free slot remembers is faded.

    Raises:
        ValueError: the log no longer begins with the run, or no slot was used yet.
    """

    def __init__(self, log: EventLog) -> None:
        self.num_slots = log.num_slots
        self.periods = slot_history(log)
        if not self.periods:
            raise ValueError("no slot was used yet: run a request first")

    def figure(self) -> Figure:
        """The picture, to be changed or saved."""
        from matplotlib.figure import Figure

        tallest = max(sum(lengths) for period in self.periods for lengths in period.lengths)
        end_step = max(period.end_step for period in self.periods)
        height = 1.3 + 0.85 * self.num_slots
        figure = Figure(figsize=(10, height), layout="constrained", facecolor=theme()["background"])
        axes = figure.add_subplot()
        for period in self.periods:
            base = self.num_slots - 1 - period.slot
            _draw_period(axes, period, base, scale=LANE / tallest)
            if period.request_id is not None:
                _name(axes, period, base, has_room=self._steps_to_next(period) > NAME_WIDTH * (end_step - 1))
        _frame(axes, self.num_slots, end_step)
        _legend(figure)
        return figure

    def _steps_to_next(self, period: Period) -> float:
        """From its first step to that of the next request in the same slot."""
        owned = (other for other in self.periods if other.slot == period.slot and other.request_id is not None)
        starts = [other.first_step for other in owned if other.first_step > period.first_step]
        return min(starts) - period.first_step if starts else float("inf")

    def _repr_png_(self) -> bytes:
        picture = io.BytesIO()
        # NOTE: without the name of the software the same run gives the same bytes.
        self.figure().savefig(picture, format="png", dpi=110, metadata={"Software": None})
        return picture.getvalue()

    def __repr__(self) -> str:
        return "\n".join(_in_words(period) for period in self.periods if period.request_id is not None)


def _in_words(period: Period) -> str:
    counts = zip(PARTS, period.lengths[-1], strict=True)
    held = ", ".join(f"{count} {roles()[part].label}" for part, count in counts if count)
    first, last = period.first_step, period.end_step - 1
    steps = f"step {first}" if first == last else f"steps {first} to {last}"
    filled = f"request {period.request_id} filled it to {tokens(sum(period.lengths[-1]))}: {held}"
    return f"slot {period.slot}, {steps}: {filled}"


def _draw_period(axes: Axes, period: Period, base: int, scale: float) -> None:
    from matplotlib.colors import to_rgba

    steps = [number - HALF for number in range(period.first_step, period.end_step + 1)]  # its number is in its middle
    middle, owned = len(period.lengths) // 2, period.request_id is not None
    floor = [float(base)] * len(steps)
    for part, counts in zip(PARTS, zip(*period.lengths, period.lengths[-1], strict=True), strict=True):
        role = roles()[part]
        top = [low + scale * count for low, count in zip(floor, counts, strict=True)]
        if any(counts):
            color = to_rgba(role.color, 1 if owned else FADED)
            axes.fill_between(
                steps, floor, top, step="post", facecolor=color, hatch=role.hatch, edgecolor=HATCH, linewidth=0
            )
        if owned and top[middle] - floor[middle] > SMALLEST_LABELLED:
            box = dict(boxstyle="round,pad=0.15", facecolor=role.color, linewidth=0)
            at = (steps[0] + len(period.lengths) / 2, (top[middle] + floor[middle]) / 2)
            axes.text(*at, role.letter, color=role.ink, fontsize=LETTERS, ha="center", va="center", bbox=box)
        floor = top


def _name(axes: Axes, period: Period, base: int, has_room: bool) -> None:
    name = f" request {period.request_id}" if has_room else f" {period.request_id}"
    axes.text(period.first_step - HALF, base + LANE, name, fontsize=LETTERS, color=theme()["text"], va="bottom")


def _frame(axes: Axes, num_slots: int, end_step: int) -> None:
    text, line = theme()["text"], theme()["line"]
    axes.set(xlim=(1 - HALF, end_step - HALF), ylim=(-0.02, num_slots), facecolor="none")
    axes.locator_params(axis="x", integer=True)
    axes.set_xlabel("step", color=text)
    axes.set_yticks([base + LANE / 2 for base in range(num_slots)], [f"slot {s}" for s in reversed(range(num_slots))])
    axes.tick_params(axis="x", colors=text)
    axes.tick_params(axis="y", colors=text, length=0)
    axes.spines[:].set_visible(False)
    for base in range(num_slots):
        axes.axhline(base, color=line, linewidth=0.6)


def _legend(figure: Figure) -> None:
    from matplotlib.patches import Patch

    shown = [roles()[part] for part in PARTS]
    patches = [
        Patch(facecolor=role.color, hatch=role.hatch, edgecolor=HATCH, label=f"{role.letter}  {role.label}")
        for role in shown
    ]
    patches.append(Patch(facecolor=theme()["line"], alpha=FADED, label="faded: free, but remembered"))
    figure.legend(
        handles=patches,
        loc="outside lower center",
        ncols=5,
        frameon=False,
        fontsize=LETTERS,
        labelcolor=theme()["text"],
    )
