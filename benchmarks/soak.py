"""The long forms of the server's hard tests in one command, bounded to 15 minutes: load, faults and generated requests.

The load runs against ``astrai serve`` in a process of its own: crowds of 1,000 streams, 64 at a time, of which 10 %
leave and 5 % read slowly, one crowd after another until the time is up. Every other stream must be what its prompt
gives alone, and the server must hold at the end what it held in the beginning. Faults and generated requests are the
tests of ``tests/server``.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import httpx
import torch

import astrai
from astrai.inference.engine import InferenceEngine
from benchmarks.http_load import Outcome, Solo, crowd, prompts, solos
from benchmarks.measure import Spread
from benchmarks.serve import save_beside
from benchmarks.server_process import READY, Footprint, ServerProcess, server_process
from benchmarks.sse import ask_all

STREAMS, AT_ONCE, DISTINCT = 1_000, 64, 60
MIN_REQUESTS = 2_000
MAX_GROWTH = 0.05  # of the resident memory, after the warm-up
MAX_LOAD_MINUTES = 10.0  # the tests take up to five more
# The trace keeps 65,536 events and the heap finds its size: only then does memory say anything.
WARM_UP_SHARE = 0.2
FAULTS = ["tests/server/test_faults.py", "tests/server/test_processes.py", "tests/server/test_malformed.py"]
FUZZ = ["tests/server/test_schemathesis.py"]
ROOT = Path(__file__).parents[1]


# --- load -------------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Tally:
    """What all crowds together came to."""

    kinds: Counter[str] = field(default_factory=Counter)
    complaints: list[str] = field(default_factory=list)
    crowds: int = 0
    health_statuses: Counter[int] = field(default_factory=Counter)
    health_seconds: list[float] = field(default_factory=list)
    footprints: list[Footprint] = field(default_factory=list)  # once a second


async def put_under_load(server: ServerProcess, solo: Sequence[Solo], seconds: float, streams: int) -> Tally:
    """Crowd after crowd until the time is up; the first one wholly, whatever time it takes."""
    tally, end = Tally(), time.monotonic() + seconds
    watching = asyncio.create_task(_watch(server, tally))
    while not tally.crowds or time.monotonic() < end:
        clients = crowd(solo, streams, seed=tally.crowds)
        asks = (client.ask for client in clients if not tally.crowds or time.monotonic() < end)
        answers = await ask_all(server.url, asks, AT_ONCE)
        # NOTE: those that were not asked any more are the last ones.
        outcome = Outcome.of(clients[: len(answers)], answers)
        tally.kinds += outcome.kinds
        tally.complaints += outcome.complaints
        tally.crowds += 1
    watching.cancel()
    with suppress(asyncio.CancelledError):
        await watching
    return tally


async def _watch(server: ServerProcess, tally: Tally) -> None:
    """Once a second: is it well, how quickly does it say so, and what does it hold?"""
    async with httpx.AsyncClient(base_url=server.url, timeout=60) as client:
        while True:
            started = time.perf_counter()
            tally.health_statuses[(await client.get("/health")).status_code] += 1
            tally.health_seconds.append(time.perf_counter() - started)
            tally.footprints.append(server.footprint())
            await asyncio.sleep(1)


def soak_load(seconds: float, streams: int = STREAMS) -> dict[str, Any]:
    """The load on a fresh server, and what it left behind."""
    with InferenceEngine(*astrai.load("tiny"), num_slots=1) as engine:
        solo = solos(engine, "tiny", prompts(random.Random(1)), DISTINCT)
    with server_process("--grace", "1") as server:
        server.wait_for(READY)
        warm_up = asyncio.run(put_under_load(server, solo, seconds * WARM_UP_SHARE, streams))
        before = _rested(server)
        tally = asyncio.run(put_under_load(server, solo, seconds * (1 - WARM_UP_SHARE), streams))
        after, stats = _rested(server), server.get("/stats")
        server.process.terminate()
        exit_code, is_clean = server.end(), "Traceback" not in server.log
    kinds, complaints = warm_up.kinds + tally.kinds, warm_up.complaints + tally.complaints
    health = sorted(warm_up.health_seconds + tally.health_seconds)
    return {
        "seconds": seconds,
        "streams": kinds.total(),
        "at_once": AT_ONCE,
        "kinds": dict(kinds),
        "wrong": len(complaints),
        "complaints": complaints[:5],
        "memory": {
            "after_warm_up_mib": before.rss / 2**20,
            "at_the_end_mib": after.rss / 2**20,
            "highest_mib": max(each.rss for each in tally.footprints) / 2**20,
            "growth": after.rss / before.rss - 1,
        },
        "threads": [before.threads, after.threads],
        "open_files": [before.files, after.files],
        "rows_free": [stats["free_slots"], stats["num_slots"]],
        "left_in_the_engine": stats["waiting"] + stats["running"],
        "health": {
            "statuses": {
                str(status): count for status, count in (warm_up.health_statuses + tally.health_statuses).items()
            },
            "milliseconds": Spread.of([1e3 * each for each in health])._asdict(),
        },
        "exit_code": exit_code,
        "log_is_clean": is_clean,
    }


def _rested(server: ServerProcess) -> Footprint:
    """What it holds when nothing is asked of it any more."""
    end = time.monotonic() + 30
    while (stats := server.get("/stats"))["running"] + stats["waiting"] and time.monotonic() < end:
        time.sleep(0.1)
    time.sleep(1)  # for the last connections to be closed
    return server.footprint()


# --- tests ------------------------------------------------------------------------------------------------------------


def run_tests(paths: Sequence[str], *options: str) -> dict[str, Any]:
    """The outcome of tests in a process of their own, and the properties that they recorded."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.xml"
        command = [sys.executable, "-m", "pytest", "-q", f"--junitxml={report}", *options, *paths]
        started = time.monotonic()
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
        if not report.is_file():
            raise RuntimeError(f"pytest did not run:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
        suite = next(ElementTree.parse(report).iter("testsuite"))
    if done.returncode:
        print(done.stdout[-5000:])
    counts = {name: int(suite.get(name, 0)) for name in ("tests", "failures", "errors", "skipped")}
    properties = {each.get("name", ""): each.get("value", "") for each in suite.iter("property")}
    # NOTE: hypothesis records reports of its own there.
    recorded = {name: float(value) for name, value in properties.items() if not name.startswith("hypothesis-")}
    return {**counts, "seconds": time.monotonic() - started, "recorded": recorded}


# --- the command ------------------------------------------------------------------------------------------------------


def problems(figures: dict[str, Any]) -> list[str]:
    """What is not as it must be; empty when all is well."""
    load, tests = figures["load"], (figures["faults"], figures["generated_requests"])
    checks = {
        f"{load['wrong']} streams were wrong: {load['complaints']}": load["wrong"] == 0,
        f"memory grew by {load['memory']['growth']:.1%}": load["memory"]["growth"] < MAX_GROWTH,
        f"threads went from {load['threads']}": load["threads"][1] <= load["threads"][0],
        f"open files went from {load['open_files']}": load["open_files"][1] <= load["open_files"][0],
        f"rows free: {load['rows_free']}": load["rows_free"][0] == load["rows_free"][1],
        f"{load['left_in_the_engine']} requests are left": load["left_in_the_engine"] == 0,
        f"health said {load['health']['statuses']}": set(load["health"]["statuses"]) == {"200"},
        f"exit code {load['exit_code']}": load["exit_code"] == 0,
        "the server's log has a traceback": load["log_is_clean"],
        "tests failed": all(each["failures"] + each["errors"] == 0 for each in tests),
        "too few requests were generated": figures["generated_requests"]["recorded"].get("requests", 0) >= MIN_REQUESTS,
        "tests were skipped": all(each["skipped"] == 0 for each in tests),
    }
    return [problem for problem, is_well in checks.items() if not is_well]


def report(figures: dict[str, Any]) -> str:
    """The figures as a few lines."""
    load, faults, fuzz = figures["load"], figures["faults"], figures["generated_requests"]
    memory, kinds = load["memory"], load["kinds"]
    return f"""\
load: {load["streams"]:,} streams, {load["at_once"]} at a time, in {load["seconds"]:.0f} s: {load["wrong"]} wrong
  of these {kinds.get("leaves", 0)} left and {kinds.get("slow", 0)} read slowly
  memory {memory["after_warm_up_mib"]:.0f} MiB after the warm-up, {memory["at_the_end_mib"]:.0f} at the end: \
{memory["growth"]:+.1%}, goal: under {MAX_GROWTH:.0%}
  rows free {load["rows_free"][0]} of {load["rows_free"][1]}, threads {load["threads"]}, open files {load["open_files"]}
  /health {load["health"]["statuses"]}, milliseconds {Spread(**load["health"]["milliseconds"])}
faults: {faults["tests"]} tests, {faults["failures"] + faults["errors"]} failed, {faults["seconds"]:.0f} s
generated requests: {fuzz["recorded"].get("requests", 0):,.0f}, {fuzz["failures"] + fuzz["errors"]} tests failed, \
{fuzz["seconds"]:.0f} s"""


def main() -> None:
    """Run all of it, print, and write the key ``soak`` of ``results/serve.json``; exit code 1 if anything is wrong."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=10.0, help=f"of load, at most {MAX_LOAD_MINUTES:g}")
    options = parser.parse_args()
    if not 0 < options.minutes <= MAX_LOAD_MINUTES:
        parser.error(f"--minutes is {options.minutes:g}, but must be above 0 and at most {MAX_LOAD_MINUTES:g}")
    os.environ["OMP_NUM_THREADS"] = "1"
    torch.set_num_threads(1)
    figures = {
        "faults": run_tests(FAULTS),
        "generated_requests": run_tests(FUZZ, "-m", "nightly", "--timeout=600"),
        "load": soak_load(60 * options.minutes),
    }
    print(report(figures))
    print(f"written to {save_beside('soak', figures).name}")
    if wrong := problems(figures):
        sys.exit("NOT WELL: " + "; ".join(wrong))


if __name__ == "__main__":
    main()
