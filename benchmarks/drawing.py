"""How long a picture takes to draw in a real browser: the median over the frames of a busy run.

Rows as many and as long as they get: 64 and 256 slots of 2,048 positions. Each frame is another state of a real
scheduler, handed to the drawing as it is live. What the browser paints after the script has ended is not in it.
"""

from __future__ import annotations

import argparse
import logging
from itertools import groupby
from typing import Any

from astrai.widgets.assemble import css, esm
from astrai.widgets.data.view import RunView
from astrai.widgets.twins.sheet import SCRIPTS
from benchmarks.measure import save
from tests.browser import chromium
from tests.widgets.runs import busy_log, words

DRAWINGS = {
    "slots": "makeSlotMap",
    "timeline": "makePhaseTimeline",
    "tree": "makeRadixTree",
    "counters": "makeCounters",
}
GOALS = {64: 4.0, 256: 10.0}  # milliseconds
FRAMES = 200
MEASURE = """([views, make]) => {
    const host = document.createElement('div');
    document.body.append(host);
    const drawing = window[make](host, {onFocus() {}, onStep() {}});
    drawing.draw({...views[0], animate: false});
    const times = [];
    for (const view of views) {
        const began = performance.now();
        drawing.draw({...view, animate: true});
        times.push(performance.now() - began);
    }
    drawing.destroy();
    host.remove();
    times.sort((a, b) => a - b);
    return {median: times[times.length >> 1], p90: times[Math.floor(times.length * 0.9)]};
}"""


def views_of(num_slots: int, frames: int) -> list[dict[str, Any]]:
    """The last states of a busy run, in order."""
    logging.disable()  # the scripted run plants failures of its model, which the scheduler reports
    log = busy_log(num_slots, 2048, steps=frames + 60)
    seen = log.view()
    view, views = RunView.of(log, words, seen), []
    for step, records in groupby(seen.records, key=lambda record: record.step):
        for record in records:
            view.apply(record)
        if step > seen.records[-1].step - frames:
            views.append({"state": view.state(), "timeline": view.timeline(), "vocab": {}})
    return views


def measure(num_slots: int, frames: int) -> dict[str, dict[str, float]]:
    """Milliseconds of each drawing."""
    views = views_of(num_slots, frames)
    with chromium() as browser:
        page = browser.new_page(viewport={"width": 1100, "height": 900})
        page.set_content(f"<!doctype html><style>{css()}</style><body></body>")
        exposed = ", ".join(DRAWINGS.values())
        page.evaluate(f"() => {{ {esm(*SCRIPTS)}\nObject.assign(window, {{ {exposed} }}); }}")
        return {name: page.evaluate(MEASURE, [views, make]) for name, make in DRAWINGS.items()}


def main() -> None:
    """Measure, print, and write ``results/drawing.json``."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.drawing", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a few frames that show that all works; saves nothing")
    options = parser.parse_args()
    figures: dict[str, Any] = {"frames": 10 if options.quick else FRAMES, "milliseconds": {}}
    for num_slots, goal in GOALS.items():
        times = measure(num_slots, figures["frames"])
        figures["milliseconds"][str(num_slots)] = times
        shown = ", ".join(f"{name} {time['median']:.2f} (p90 {time['p90']:.2f})" for name, time in times.items())
        print(f"{num_slots} slots x 2,048 positions, median milliseconds a draw, goal {goal:g}: {shown}")
    if not options.quick:
        print(f"written to {save('drawing', figures).name}")


if __name__ == "__main__":
    main()
