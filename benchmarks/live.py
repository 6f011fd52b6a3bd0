"""Notebook 00's live part without a notebook, on the GPU if there is one: trace, pictures, and what watching cost.

The cells are those of the notebook's source, up to the one tagged ``live`` and the one after it. Only `astrai.watch` is
another: it draws into files what the dashboard draws on a page. It needs neither Jupyter nor a browser.
"""

from __future__ import annotations

import argparse
import json
import re
import time
from pathlib import Path
from typing import Any

import torch

import astrai
from astrai.widgets.run import Moment, Run, decoder
from astrai.widgets.twins.sheet import svg
from astrai.widgets.watcher import Watcher
from benchmarks.measure import RESULTS, machine

SOURCE = Path(__file__).parents[1] / "notebooks" / "py" / "00_start_here.py"
CELL = re.compile(r"^# %%(.*)$", re.MULTILINE)


class FileDashboard:
    """Looks at an engine ten times a second and keeps what a page would be sent."""

    def __init__(self, engine: Any) -> None:
        self.engine = engine
        self.moments: list[Moment] = []
        self.sent = 0
        self._run = Run(engine.trace, decoder(engine.tokenizer))
        self.watcher = Watcher(engine.trace, self._send, engine=engine)
        self.watcher.start()

    def _send(self) -> int:
        moment = self._run.now()
        text = json.dumps(moment._asdict(), separators=(",", ":"))
        self.moments.append(moment)
        self.sent += len(text)
        return len(text)


def live_cells(source: str) -> list[str]:
    """The code cells up to the one tagged ``live``, and the next."""
    heads = list(CELL.finditer(source))
    ends = [head.start() for head in heads[1:]] + [len(source)]
    cells = [(head[1], source[head.end() : end]) for head, end in zip(heads, ends, strict=True)]
    code = [(head, text) for head, text in cells if "[markdown]" not in head]
    live = next(index for index, (head, _) in enumerate(code) if '"live"' in head)
    return [text for _, text in code[: live + 2]]


def run_live(folder: Path) -> dict[str, Any]:
    """Run the cells, write ``run.jsonl`` and ``frame-NNN.svg`` into ``folder``, and return what it cost."""
    dashboards: list[FileDashboard] = []

    def watch(engine: Any) -> FileDashboard:
        dashboards.append(FileDashboard(engine))
        return dashboards[-1]

    names: dict[str, Any] = {"display": lambda shown: None, "__name__": "notebook"}
    astrai.watch = watch  # in the place of the widget, for the cells
    cpu, wall = time.process_time(), time.perf_counter()
    try:
        for cell in live_cells(SOURCE.read_text()):
            exec(compile(cell, str(SOURCE), "exec"), names)
    finally:
        del astrai.watch
    cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    (dashboard,) = dashboards
    dashboard.engine.shutdown()
    dashboard.watcher.stop()
    folder.mkdir(parents=True, exist_ok=True)
    dashboard.engine.trace.save(folder / "run.jsonl")
    for number, moment in enumerate(dashboard.moments):
        (folder / f"frame-{number:03d}.svg").write_text(svg(moment.state, moment.timeline))
    device = next(dashboard.engine.model.parameters()).device
    return {
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU",
        "frames": len(dashboard.moments),
        "steps": dashboard.moments[-1].state["step"],
        "characters_a_frame": round(dashboard.sent / len(dashboard.moments)),
        "watching_milliseconds_a_look": 1000 * dashboard.watcher.seconds / len(dashboard.moments),
        "watching_share_of_cpu_time": dashboard.watcher.seconds / cpu,
        "wall_seconds": wall,
    }


def main() -> None:
    """Run, print, and write ``results/live-<device>.json``."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.live", description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("live-run"), help="the folder for the trace and the pictures")
    options = parser.parse_args()
    figures = run_live(options.out)
    path = RESULTS / f"live-{'cpu' if figures['device'] == 'CPU' else 'gpu'}.json"
    path.write_text(json.dumps({"machine": machine(), **figures}, indent=2) + "\n")
    print(json.dumps(figures, indent=2))
    print(f"the trace and {figures['frames']} pictures are in {options.out}, the figures in {path.name}")


if __name__ == "__main__":
    main()
