"""The steps of the loop as stacked bars of time and, on the same axis, the requests: as SVG, and as text.

Pure functions of a view's ``state`` and ``timeline`` (see ``astrai.widgets.data.view``);
``static/phase_timeline.js`` draws the live picture. What lies after ``state`` is not shown.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from astrai.widgets.palette import phase_roles, roles
from astrai.widgets.twins import svg
from astrai.widgets.twins.figures import figure_words
from astrai.widgets.twins.known import (
    Known,
    Span,
    amount,
    end_words,
    found_words,
    known,
    milliseconds,
    request_words,
    step_words,
)
from astrai.widgets.twins.svg import fit, number, plural, text_width

NAME = "phase-timeline"
GUTTER, RIGHT = 92, 14
HEAD, BARS, AXIS, ROW, LINE = 28, 96, 26, 20, 18  # heights; HEAD is what is above the bars
BASE = HEAD + BARS
GANTT = BASE + AXIS
ROWS = 14  # requests that are drawn; the others are counted
STEPS = 240
NARROWEST = 3


def phase_timeline_svg(state: dict[str, Any], timeline: dict[str, Any], *, width: int = 960) -> str:
    """The last steps with the time of each phase, the requests that lived in them, and the figures of the run.

    Example:
        >>> from astrai.trace.events import StepStarted
        >>> from astrai.trace.jsonl import Record
        >>> from astrai.widgets.data.view import RunView
        >>> view = RunView(num_slots=2)
        >>> view.apply(Record(0, 1, 0.0, StepStarted(1)))
        >>> phase_timeline_svg(view.state(), view.timeline())[:4]
        '<svg'
    """
    most = min(STEPS, (width - GUTTER - RIGHT) // NARROWEST)
    now = known(state, timeline, most)
    listed = len(timeline["steps"])
    columns = next((n for n in (40, 80, 160) if listed <= n <= most), most)
    spans = most_wanted(now.spans)
    plot = _Plot(now, width, columns, _scale([step.total for step in now.steps]))
    parts = [*_axes(plot), *_bars(plot)]
    if now.steps:
        x = plot.left(now.last + 1)
        parts += [svg.line(x, y, x, end, stroke="soft") for y, end in ((HEAD, BASE), (GANTT, plot.bottom(spans)))]
    parts += [_request(plot, span, GANTT + index * ROW) for index, span in enumerate(spans)]
    below = plot.bottom(spans)
    if hidden := len(now.spans) - len(spans):
        parts.append(svg.text(GUTTER - 8, below + 14, f"… {hidden:,} more", fill="soft", text_anchor="end"))
        below += ROW
    legend, rows = _legend(now, below + 20, width)
    figures = _wrapped(figure_words(state, timeline), " · ", width - 24)
    head = [svg.text(12, 20 + LINE * index, line, fill="soft") for index, line in enumerate(figures)]
    drop = LINE * len(figures)  # the figures stand above all the rest
    title, description = "Steps of the loop and requests over time", phase_timeline_text(state, timeline)
    rest = svg.group(*parts, legend, transform=f"translate(0 {drop})")
    return svg.picture(NAME, width, drop + below + 16 + LINE * rows, title, description, *head, rest)


def phase_timeline_text(state: dict[str, Any], timeline: dict[str, Any]) -> str:
    """The figures of the run, the newest step, how the time of the last steps was spent, and each request in a line."""
    now = known(state, timeline, STEPS)
    lines = ["; ".join(figure_words(state, timeline))]
    if now.steps:
        newest = step_words(now.last, now.steps[-1], state["phase"])
        lines.append(newest + ("" if state["phase"] else _phase_words(now.steps[-1].parts, now.scripted)))
        lines.append(_sum_words(now))
    else:
        lines.append("no step yet")
    spans = most_wanted(now.spans)
    lines += [f"request {span.id}: {request_words(span, now.scripted)}" for span in spans]
    if hidden := len(now.spans) - len(spans):
        lines.append(f"and {plural(hidden, 'more request')}")
    return "\n".join(lines)


def most_wanted(spans: Sequence[Span]) -> list[Span]:
    """The oldest of those that have not ended, then those that ended last: as many as have room, by their number."""
    alive = [span for span in spans if span.ended is None]
    ended = sorted((span for span in spans if span.ended is not None), key=lambda span: (-span.until, -span.id))
    return sorted([*alive, *ended][:ROWS], key=lambda span: span.id)


def _phase_words(parts: Sequence[tuple[str, float]], scripted: bool) -> str:
    return "" if scripted else f" ({', '.join(f'{phase} {milliseconds(value)}' for phase, value in parts)})"


def _sum_words(now: Known) -> str:
    sums: dict[str, float] = {}
    for step in now.steps:
        for phase, value in step.parts:
            sums[phase] = sums.get(phase, 0) + value
    total = sum(sums.values())
    shares = ", ".join(f"{phase} {100 * value / total if total else 0:.0f} %" for phase, value in sums.items())
    what = f"{plural(round(total), 'token')} (no timings: tokens are counted)" if now.scripted else milliseconds(total)
    return f"steps {now.first:,} to {now.last:,}: {what}: {shares}"


# --- the parts of the drawing -----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Plot:
    """Where things stand: ``top`` is what the full height of the bars stands for."""

    now: Known
    width: int
    columns: int
    top: float

    @property
    def end(self) -> float:
        return self.width - RIGHT

    def left(self, step: int) -> float:
        """The left border of a step's column; steps before the first one stand there too."""
        return GUTTER + max(0, step - self.now.first) * (self.end - GUTTER) / self.columns

    def bottom(self, spans: Sequence[Span]) -> int:
        return GANTT + ROW * max(3, len(spans))


def _scale(totals: Sequence[float]) -> float:
    """A round number for the full height. Few steps that tower above all others are cut, not shown in full."""
    ordered = sorted(totals)
    usual = ordered[int(0.95 * (len(ordered) - 1))] if ordered else 0
    highest = ordered[-1] if ordered else 0
    wanted = 1.5 * usual if 0 < 3 * usual < highest else highest
    if wanted <= 0:
        return 1
    power = 10 ** math.floor(math.log10(wanted) + 1e-9)
    return next(n * power for n in (1, 2, 3, 4, 6, 8, 10) if n * power >= wanted * (1 - 1e-9))


def _axes(plot: _Plot) -> list[str]:
    parts = [svg.text(GUTTER - 8, BASE + 17, "step", size=11, fill="soft", text_anchor="end")]
    for share in (0, 0.5, 1):
        y = BASE - share * BARS
        unit = (" tokens" if plot.now.scripted else " ms") if share == 1 else ""
        parts.append(svg.line(GUTTER, y, plot.end, y, stroke="faint" if share else "line"))
        label = f"{share * plot.top:.3g}{unit}"
        parts.append(svg.text(GUTTER - 8, y + 4, label, size=11, fill="soft", text_anchor="end"))
    column = (plot.end - GUTTER) / plot.columns
    every = next((n for n in (1, 2, 5, 10, 20, 50, 100) if n * column >= 52), 200)
    now = plot.now
    numbers = range(math.ceil(max(1, now.first) / every) * every, now.first + plot.columns, every)
    kept = [step for step in numbers if not now.steps or abs(step - now.last) * column >= 40]
    parts += [_step_number(plot, step, bold=False) for step in kept]
    return parts + ([_step_number(plot, now.last, bold=True)] if now.steps else [])


def _step_number(plot: _Plot, step: int, bold: bool) -> str:
    half = text_width(f"{step:,}", 11) / 2
    middle = (plot.left(step) + plot.left(step + 1)) / 2
    x = max(GUTTER + half, min(plot.width - half - 2, middle))
    look = {"fill": "text", "font_weight": "bold"} if bold else {"fill": "soft"}
    return svg.text(x, BASE + 17, f"{step:,}", size=11, text_anchor="middle", **look)


def _bars(plot: _Plot) -> list[str]:
    """One path a phase for all steps, then the marks of those that are higher than the scale."""
    paths: dict[str, str] = {}
    cuts, free = [], float(GUTTER)
    for index, step in enumerate(plot.now.steps):
        x, right = plot.left(plot.now.first + index), plot.left(plot.now.first + index + 1)
        below = 0.0
        for phase, value in step.parts:
            low, high = (BASE - BARS * min(plot.top, level) / plot.top for level in (below, below + value))
            below += value
            if low - high >= 0.05:  # less cannot be seen
                box = f"M{number(x)} {number(low)}H{number(right - 0.15 * (right - x))}V{number(high)}H{number(x)}Z"
                paths[phase] = paths.get(phase, "") + box
        if step.total > plot.top:
            words = amount(step)
            half = text_width(words, 11) / 2
            y = HEAD + 8
            gap = f"M{number(x)} {y + 2}L{number(right)} {y - 2}V{y + 1}L{number(x)} {y + 5}Z"
            cuts.append(svg.path(gap, fill="background"))
            if (x + right) / 2 - half >= free:
                free = (x + right) / 2 + half + 6
                cuts.append(svg.text(free - half - 6, HEAD - 5, words, size=11, fill="soft", text_anchor="middle"))
    return [_hatched(phase_roles()[phase], d) for phase, d in paths.items()] + cuts


def _hatched(role: str, d: str) -> str:
    hatch = svg.path(d, fill=f"url(#{NAME}-{role})") if roles()[role].hatch else ""
    return svg.path(d, fill=role) + hatch


def _request(plot: _Plot, span: Span, top: float) -> str:
    y, height = top + 4, 12
    stop = plot.left(span.until + 1)
    prefill = stop if span.admitted is None else plot.left(span.admitted)
    decode = stop if span.first is None else plot.left(span.first + 1)
    name = f"request {span.id:,}"
    parts = [
        svg.line(GUTTER, top + ROW, plot.end, top + ROW, stroke="faint"),
        svg.text(GUTTER - 8, top + 14, name, text_anchor="end"),
        *_queue(plot, span, prefill, y + 3),
    ]
    if span.admitted is not None:
        found = height * span.cached / span.prompt
        boxes = [("prefill", prefill, y, decode, height), ("hit", prefill, y + height - found, decode, found)]
        for role, x, box_y, right, high in [*boxes, ("decode", decode, y, stop, height)]:
            if right > x and high > 0:
                parts.append(svg.filled(NAME, role, x, box_y, right - x, high))
    if span.ended is not None:
        parts.append(svg.rect(stop - 2, y - 2, 2, height + 4, fill="evicted" if span.is_bad else "text"))
    parts += _words(plot, span, decode, stop, y)
    return svg.titled("".join(parts), f"{name}: {request_words(span, plot.now.scripted)}")


def _queue(plot: _Plot, span: Span, to: float, y: float) -> list[str]:
    """Waiting is a thin band: slanted lines, and dots where the request is held."""
    since = to if span.held is None else min(to, plot.left(span.held))
    held_to = to if span.held_to is None else min(to, plot.left(span.held_to + 1))
    parts = []
    for x, right, dashes in (
        (plot.left(span.arrived), since, "2 2"),
        (since, held_to, "1 4"),
        (held_to, to, "2 2"),
    ):
        if right > x:
            parts.append(svg.rect(x, y, right - x, 6, fill="faint"))
            parts.append(svg.line(x, y + 3, right, y + 3, stroke_width=4, stroke_dasharray=dashes))
    return parts


def _words(plot: _Plot, span: Span, left: float, right: float, y: float) -> list[str]:
    """What was found, within the part of decode if there is room; behind the bar why it ended, and the rest."""
    found, room, parts = found_words(span), right - left, []
    role = "hit" if span.cached else "miss"
    chip = 14 if found and room >= 18 else 0
    inside = _first(found, lambda words: chip > 0 and room >= chip + 16 + text_width(words, 11))
    if chip:
        look = {"size": 11, "fill": roles()[role].ink, "text_anchor": "middle", "font_weight": "bold"}
        parts += [svg.rect(left, y, chip, 12, fill=role), svg.text(left + 7, y + 10, roles()[role].letter, **look)]
    if inside:
        parts.append(svg.text(left + chip + 5, y + 10, inside, size=11, fill=roles()["decode"].ink))
    behind = end_words(span, None if inside or not found else found[-1])
    if words := _first(behind, lambda words: right + 6 + text_width(words, 11) < plot.width):
        parts.append(
            svg.rect(right + 3, y, text_width(words, 11) + 3, 12, fill="background")
        )  # over the newest step's line
        parts.append(svg.text(right + 6, y + 10, words, size=11, fill="soft" if span.ended is None else "text"))
    elif span.ended is not None:
        free = left + chip + (text_width(inside, 11) + 10 if inside else 4)
        if words := _first(end_words(span), lambda words: right - 7 - text_width(words, 11) > free):
            look = {"size": 11, "fill": roles()["decode"].ink, "text_anchor": "end"}
            parts.append(svg.text(right - 7, y + 10, words, **look))
    return parts


def _first(words: Sequence[str], fits: Callable[[str], bool]) -> str | None:
    return next((text for text in words if fits(text)), None)


def _legend(now: Known, y: float, width: int) -> tuple[str, int]:
    """Signs and words, and how many lines they take."""
    words = {phase: phase for phase in phase_roles()} | {"refill": "refill, or found in the cache"}
    if now.scripted:
        words = {"refill": "found in the cache", "prefill": "prefill", "decode": "decode"}
    signs = [(phase_roles()[phase], label) for phase, label in words.items()] + [("miss", "nothing cached")]
    parts, x, rows = [], 12.0, 1
    for role, label in signs:
        needed = 21 + text_width(label)
        if x > 12 and x + needed > width - 12:
            x, y, rows = 12.0, y + LINE, rows + 1
        look = {"size": 11, "fill": roles()[role].ink, "text_anchor": "middle", "font_weight": "bold"}
        parts += [svg.rect(x, y - 11, 16, 14, fill=role, rx=2), svg.text(x + 8, y, roles()[role].letter, **look)]
        parts.append(svg.text(x + 21, y, label))
        x += needed + 16
    return svg.group(*parts), rows


def _wrapped(phrases: Sequence[str], between: str, width: float) -> list[str]:
    lines: list[str] = []
    for phrase in phrases:
        if lines and text_width(lines[-1] + between + phrase) <= width:
            lines[-1] += between + phrase
        else:
            lines.append(fit(phrase, width))
    return lines
