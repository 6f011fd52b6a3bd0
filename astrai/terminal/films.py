"""Films on the command line: a bar for each while it is rendered, and a line when it is done."""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from astrai.films import FilmError, FilmProcess, Rendered
from astrai.films.catalogue import FilmInfo


def list_films(chosen: Sequence[FilmInfo]) -> None:
    """Print what there is to see."""
    console = Console(highlight=False)
    for info in chosen:
        plays = "plays a recorded run: --trace takes another one" if info.trace else "plays no recorded run"
        console.print(f"[bold]{info.name}[/bold]\n    {info.about}\n    {plays}", soft_wrap=True)


def render_films(
    chosen: Sequence[FilmInfo],
    quality: str = "l",
    out: Path = Path("films"),
    trace: Path | None = None,
    gif: bool = False,
    jobs: int | None = None,
) -> int:
    """Render films, some at once; the exit code is 1 where one failed. Ctrl-C stops them all."""
    jobs = min(jobs or _cores(), len(chosen))
    console, errors = Console(highlight=False, soft_wrap=True), Console(stderr=True, highlight=False, soft_wrap=True)
    columns = TextColumn("{task.description:<14}"), BarColumn(), TextColumn("{task.fields[state]}"), TimeElapsedColumn()
    started: list[FilmProcess] = []
    over, failed = threading.Event(), False
    with (
        Progress(*columns, console=errors, transient=True, disable=not errors.is_terminal) as bars,
        ThreadPoolExecutor(jobs) as pool,
    ):

        def render(info: FilmInfo, bar: TaskID) -> Rendered:
            process = FilmProcess(info, quality, out, trace, gif)
            started.append(process)
            if over.is_set():
                process.stop()
            bars.start_task(bar)
            return process.follow(
                lambda at: bars.update(
                    bar, completed=at.done, total=at.total, state=f"{at.done:.0f} of {at.total:.0f} s"
                )
            )

        waiting: dict[Future[Rendered], TaskID] = {}
        for info in chosen:
            bar = bars.add_task(info.name, start=False, total=None, state="waits")
            waiting[pool.submit(render, info, bar)] = bar
        try:
            for future in as_completed(waiting):
                bars.remove_task(waiting[future])
                try:
                    console.print(_line(future.result()))
                except FilmError as error:
                    errors.print(str(error), markup=False)
                    failed = True
                    if error.everywhere:
                        break
        finally:
            over.set()
            pool.shutdown(wait=False, cancel_futures=True)
            for process in started:
                process.stop()
    return int(failed)


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _line(film: Rendered) -> str:
    line = f"{_near(film.path)}  {film.seconds:.1f} s, rendered in {film.wall:.1f} s"
    if film.gif:
        size, rate, colors = film.gif["bytes"], film.gif["rate"], film.gif["colors"]
        line += f"; {Path(film.gif['path']).name}: {size / 1000:,.0f} kB at {rate} frames a second, {colors} colours"
    return line


def _near(path: Path) -> Path:
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path
