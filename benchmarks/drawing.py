"""How long a picture takes to draw in a real browser: the median over the frames of a busy run.

Rows as many and as long as they get: 64 and 256 slots of 2,048 positions, three quarters of them in use by requests
that share long beginnings, the others remembered. Each frame is another state of a real scheduler, handed to the
drawing as it is live: the browser shows one before it gets the next. A draw is the time of the drawing's own script;
the styles and the layout that the page then works out are told beside it. What it paints after that is not in it.
"""

from __future__ import annotations

import argparse
import json
import logging
from collections.abc import Iterator
from itertools import groupby
from typing import Any

from astrai.trace.log import EventLog
from astrai.widgets.assemble import css, esm
from astrai.widgets.data.view import RunView
from astrai.widgets.twins.sheet import SCRIPTS
from benchmarks.measure import save
from tests.browser import chromium
from tests.widgets.runs import VOCABULARY, ScriptedRun, words

DRAWINGS = {
    "slots": "makeSlotMap",
    "timeline": "makePhaseTimeline",
    "tree": "makeRadixTree",
    "counters": "makeCounters",
    "all": "makeDashboard",
}
GOALS = {64: 4.0, 256: 10.0}  # milliseconds, of each drawing alone
FRAMES = {64: 200, 256: 100}
ROW_LEN = 2048
WARM_UP = 120  # steps until all rows have been used
MEASURE = """async (make) => {
    const host = document.createElement('div');
    document.body.append(host);
    const drawing = window[make](host, {onFocus() {}, onStep() {}});
    drawing.draw({...window.views[0], animate: false});
    const [draws, layouts] = [[], []];
    for (const view of window.views) {
        await new Promise((shown) => requestAnimationFrame(() => setTimeout(shown, 0)));
        const began = performance.now();
        drawing.draw({...view, animate: true});
        const ended = performance.now();
        document.body.offsetHeight; // asks for the layout, which would come a little later by itself
        layouts.push(performance.now() - ended);
        draws.push(ended - began);
    }
    drawing.destroy();
    host.remove();
    const at = (times, share) => times.sort((a, b) => a - b)[Math.floor(times.length * share)];
    return {median: at(draws, 0.5), p90: at(draws, 0.9), layout: at(layouts, 0.5)};
}"""


def full_log(num_slots: int, steps: int) -> EventLog:
    """A run that keeps three quarters of the rows in use, with prompts of up to 2,000 tokens. ``words`` decodes it."""
    settings = {"capacity_tokens": None, "load": 0, "prefill_budget": 4096, "max_waiting": num_slots, "eos_ids": ()}
    run = ScriptedRun(num_slots=num_slots, row_len=ROW_LEN, **settings)
    stems = [_ids(run, 200, 900) for _ in range(12)]
    for _ in range(steps):
        missing = 3 * num_slots // 4 - len(run.scheduler.running) - len(run.scheduler.waiting)
        for _ in range(min(missing, 1 + num_slots // 16)):
            _ask(run, stems)
        run.step()
    return run.log


def _ask(run: ScriptedRun, stems: list[tuple[int, ...]]) -> None:
    """One more request: the next turn of a chat, or a beginning that others share too."""
    chance = run.random
    ended = [request for request in run.requests[-run.log.num_slots :] if request.is_finished]
    stem = chance.choice(stems)
    if ended and chance.random() < 0.4:
        before = chance.choice(ended)
        stem = (*before.prompt_ids, *before.output_ids)
    run.submit((*stem[: chance.choice((1700, chance.randint(100, 900)))], *_ids(run, 20, 300)), chance.randint(30, 120))


def _ids(run: ScriptedRun, fewest: int, most: int) -> tuple[int, ...]:
    return tuple(run.random.randrange(VOCABULARY) for _ in range(run.random.randint(fewest, most)))


def views_of(log: EventLog, frames: int) -> Iterator[dict[str, Any]]:
    """The last states of a run, in order."""
    seen = log.view()
    view = RunView.of(log, words, seen)
    for step, records in groupby(seen.records, key=lambda record: record.step):
        for record in records:
            view.apply(record)
        if step > seen.records[-1].step - frames:
            yield {"state": view.state(), "timeline": view.timeline(), "vocab": {}}


def measure(views: list[dict[str, Any]]) -> dict[str, dict[str, float]]:
    """Milliseconds of each drawing: of a draw, and of the layout after it."""
    with chromium() as browser:
        page = browser.new_page(viewport={"width": 1100, "height": 900})
        page.set_content(f"<!doctype html><style>{css()}</style><body></body>")
        exposed = ", ".join(DRAWINGS.values())
        page.evaluate(f"() => {{ {esm(*SCRIPTS)}\nObject.assign(window, {{ {exposed} }}); }}")
        # As one text: thousands of small objects take a minute to pass into the page.
        page.evaluate("(views) => { window.views = JSON.parse(views); }", json.dumps(views))
        return {name: page.evaluate(MEASURE, make) for name, make in DRAWINGS.items()}


def main() -> None:
    """Measure, print, and write ``results/drawing.json``."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.drawing", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a few frames that show that all works; saves nothing")
    options = parser.parse_args()
    logging.disable()  # the scripted run plants failures of its model, which the scheduler reports
    figures: dict[str, Any] = {"milliseconds": {}}
    for num_slots, goal in GOALS.items():
        frames = 10 if options.quick else FRAMES[num_slots]
        times = measure(list(views_of(full_log(num_slots, WARM_UP + frames), frames)))
        figures["milliseconds"][str(num_slots)] = {"frames": frames, "goal": goal, **times}
        print(f"{num_slots} slots x 2,048 positions, {frames} frames, median milliseconds, goal {goal:g}:")
        for name, time in times.items():
            print(f"  {name:9} {time['median']:5.2f} (p90 {time['p90']:.2f}), then {time['layout']:.2f} of layout")
    if not options.quick:
        print(f"written to {save('drawing', figures).name}")


if __name__ == "__main__":
    main()
