"""Draws the tables and plots of ``docs/performance.md`` from ``results/``: no figure there is typed by hand.

python -m benchmarks.page
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from astrai.training.card import fill
from benchmarks.growth import ROW_MICROSECONDS, STEP_MICROSECONDS
from benchmarks.measure import RESULTS, Spread
from benchmarks.throughput import OURS

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PAGE = Path(__file__).parents[1] / "docs" / "performance.md"
PLOT = PAGE.parent / "performance.svg"
BLUE, GREY = "#0072B2", "#555555"
Figures = dict[str, Any]


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Markdown, with all columns but the first set to the right."""
    rule = "|---|" + "---:|" * (len(head) - 1)
    return "\n".join(["| " + " | ".join(head) + " |", rule, *("| " + " | ".join(row) + " |" for row in rows)])


def machine(figures: Figures) -> str:
    """One line about where figures come from."""
    its = figures["machine"]
    threads = "one thread" if its["threads"] == 1 else f"{its['threads']} threads"
    return f"{its['cpu']}, {threads}, torch {its['torch']}, Python {its['python']}"


def rate(value: float) -> str:
    """Three digits, and no fewer than all before the point."""
    return f"{value:,.0f}" if value >= 100 else f"{value:#.3g}"


def throughput(figures: Figures) -> str:
    """Output tokens per second of everyone, and the share of the ceiling that is reached."""
    names = list(figures["workloads"][0]["tokens_per_second"])
    head = ["workload", *("**ours**" if name == OURS else name for name in names), "ceiling", "reached"]
    rows = []
    for load in figures["workloads"]:
        speeds, top = load["tokens_per_second"], load["ceiling"]["tokens_per_second"]
        cells = [rate(speeds[name]["median"]) for name in names]
        cells[names.index(OURS)] = f"**{cells[names.index(OURS)]}**"
        rows.append([_described(load), *cells, rate(top), f"{speeds[OURS]['median'] / top:.0%}"])
    ratios = [
        [load["workload"], *(str(Spread(**load["times_as_fast_as"][name])) for name in names if name != OURS)]
        for load in figures["workloads"]
    ]
    rivals = [f"as fast as {name}" for name in names if name != OURS]
    return (
        f"{table(head, rows)}\n\nTimes as fast, median (lowest to highest):\n\n{table(['workload', *rivals], ratios)}"
    )


def _described(load: Figures) -> str:
    shared = f", {load['shared_tokens']} shared" if load["shared_tokens"] else ""
    if load["requests"] == 1:
        return f"{load['workload']}, {load['output_tokens']} tokens"
    return f"{load['workload']}: {load['requests']} requests, {load['batch']} at once{shared}"


def latency(figures: Figures) -> str:
    """What streams feel while long prompts arrive, and how soon a cached prefix answers."""
    rows = [
        [
            f"{each['prefill_budget']}",
            f"{each['median_ms']:.1f}",
            f"{each['p99_ms']:.1f}",
            f"{each['p99_over_median']:.1f}",
            f"{each['first_token_of_2000_ms']['median']:,.0f}",
        ]
        for each in figures["beside_prompts"]
    ]
    head = ["`prefill_budget`", "median, ms", "99th percentile, ms", "ratio", "first token of 2,000, ms"]
    cached = figures["cached_prefix"]
    steps = Spread(**cached["first_token_in_steps"])
    return (
        f"{table(head, rows)}\n\nA prompt of {cached['cached_tokens']:,} cached and {cached['own_tokens']} own tokens, "
        f"beside {figures['streams']} running streams, has its first token after {steps} decode steps."
    )


def growth(figures: Figures) -> str:
    """Shared prefixes, the queue and the tree as tables; rows and context are in the plot."""
    books = figures["bookkeeping"]
    prefix = table(
        ["shared of 2,000 tokens", "CPU seconds for 8 prompts", "tokens computed"],
        [[f"{r['shared']:,}", f"{r['cpu_seconds']:.2f}", f"{r['tokens_computed']:,}"] for r in figures["prefix"]],
    )
    queue = table(
        ["requests waiting", "µs a step of 16 rows", "µs for a request to arrive"],
        [[f"{r['waiting']:,}", f"{r['step_us']['median']:.0f}", f"{r['arrival_us']:.0f}"] for r in figures["queue"]],
    )
    tree = table(
        ["tokens on the path", "match, µs", "insert, µs", "cut, µs"],
        [
            [f"{r['length']:,}", *(f"{r[f'{name}_us']['median']:.0f}" for name in ("match", "insert", "cut"))]
            for r in figures["tree"]
        ],
    )
    return (
        f"Bookkeeping and trace without a model: {books['microseconds_per_row']:.2f} µs for each running row and "
        f"{books['microseconds_per_step']:.0f} µs for each step.\n\n{prefix}\n\n{queue}\n\n{tree}"
    )


def plot(figures: Figures) -> Figure:
    """Decode throughput over rows and over context, and what bookkeeping takes of a step."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3), layout="constrained", facecolor="white")
    by_rows, by_context, by_books = figure.subplots(1, 3)
    rows, contexts, books = figures["rows"], figures["context"], figures["bookkeeping"]["table"]
    by_rows.plot([row["rows"] for row in rows], [row["tokens_per_cpu_second"] for row in rows], "o-", color=BLUE)
    by_rows.set(xscale="log", ylim=(0, None), title="tokens per CPU second", xlabel="rows, at a context of 128")
    by_context.plot(
        [row["context"] for row in contexts], [row["step_ms"]["median"] for row in contexts], "o-", color=BLUE
    )
    by_context.set(ylim=(0, None), title="ms a step of 16 rows", xlabel="context in tokens")
    counts = [row["rows"] for row in books]
    by_books.plot(counts, [row["step_us"]["median"] for row in books], "o-", color=BLUE, label="measured")
    by_books.plot(
        counts, [STEP_MICROSECONDS + ROW_MICROSECONDS * count for count in counts], "--", color=GREY, label="goal"
    )
    by_books.set(ylim=(0, None), title="µs of bookkeeping a step", xlabel="running rows")
    by_books.legend(frameon=False)
    for axes in figure.axes:
        axes.spines[["top", "right"]].set_visible(False)
    return figure


def parts(results: Path = RESULTS) -> Mapping[str, str]:
    """The page's tables by the name of their place."""
    read = {path.stem: json.loads(path.read_text()) for path in results.glob("*.json")}
    sections = {
        "throughput of s on the cpu": ("throughput-s-cpu", throughput),
        "latency": ("latency", latency),
        "growth": ("growth", growth),
    }
    return {place: f"{machine(read[name])}.\n\n{draw(read[name])}" for place, (name, draw) in sections.items()}


def main() -> None:
    """Write the page and its plot."""
    import matplotlib

    matplotlib.rcParams["svg.hashsalt"] = "performance"
    PAGE.write_text(fill(PAGE.read_text(encoding="utf-8"), parts()), encoding="utf-8")
    figures = json.loads((RESULTS / "growth.json").read_text())
    plot(figures).savefig(PLOT, metadata={"Date": None})


if __name__ == "__main__":
    main()
