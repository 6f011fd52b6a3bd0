"""What HTTP costs: 16 streams through the server against the same 16 from the engine, and the time to a first token.

The client is a process of its own, so that its Python takes no turns from the server's. Both sides run the same greedy
requests on the same engine, in turn, and the texts are compared. The prefix cache is off, so that no repetition is
easier than the first.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch

import astrai
from astrai.config import SamplingParams
from astrai.inference.engine import GenerationRequest, GenerationResult, InferenceEngine
from astrai.inference.server.background import serve_in_background
from benchmarks.measure import RESULTS, Seconds, Spread, in_turn, ratios, save, timed
from benchmarks.sse import Answer, Ask

STREAMS = 16
GOAL_RATIO, GOAL_TTFT = 0.85, 0.010
PATH = "/v1/completions"
OPENINGS = ["Once upon a time, a fox", "One morning, a hen", "There was an old bear who", "In the snow, a little owl"]


@dataclass(frozen=True, slots=True)
class Sizes:
    """How large the load is. Every stream gets exactly ``tokens`` tokens."""

    tokens: int = 192
    first_tokens: int = 20  # requests, one after another, whose first token is timed


QUICK = Sizes(tokens=16, first_tokens=3)


class Run(NamedTuple):
    """One measurement of either side. CPU seconds are of this process: engine, and server if there is one."""

    texts: list[str]
    tokens: int
    seconds: Seconds
    client_cpu: float


class ClientProcess:
    """``benchmarks.sse`` as a program."""

    def __init__(self, process: subprocess.Popen[str], url: str) -> None:
        self._process = process
        self._url = url

    def ask(self, requests: Sequence[Ask], at_once: int) -> tuple[list[Answer], float]:
        """The answers, and the CPU seconds that they cost the client."""
        assert self._process.stdin is not None and self._process.stdout is not None
        print(
            json.dumps([self._url, at_once, [asdict(each) for each in requests]]), file=self._process.stdin, flush=True
        )
        told = json.loads(self._process.stdout.readline())
        answers = [Answer(**answer | {"body": answer["body"].encode()}) for answer in told["answers"]]
        wrong = [answer for answer in answers if not (answer.is_whole and answer.has_done)]
        assert not wrong, f"{len(wrong)} streams did not end as they should: {wrong[0]}"
        return answers, told["cpu"]


@contextmanager
def client_process(url: str) -> Iterator[ClientProcess]:
    """A client for the server there, until the block ends."""
    command = [sys.executable, "-m", "benchmarks.sse"]
    root = Path(__file__).parents[1]
    with subprocess.Popen(command, cwd=root, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        yield ClientProcess(process, url)


# --- throughput -------------------------------------------------------------------------------------------------------


def load(engine: InferenceEngine, count: int, tokens: int) -> list[dict[str, Any]]:
    """Bodies whose answers never end early, since the tokens that would end them are forbidden."""
    bias = {str(eos_id): -100 for eos_id in engine.eos_ids}
    common = {"model": "tiny", "max_tokens": tokens, "temperature": 0, "logit_bias": bias, "stream": True}
    return [common | {"prompt": f"{OPENINGS[index % len(OPENINGS)]} number {index}"} for index in range(count)]


def _as_the_engine_takes_it(body: dict[str, Any]) -> GenerationRequest:
    bias = tuple((int(key), value) for key, value in body["logit_bias"].items())
    return GenerationRequest(body["prompt"], sampling=SamplingParams(max_tokens=body["max_tokens"], logit_bias=bias))


def run_engine(engine: InferenceEngine, bodies: Sequence[dict[str, Any]]) -> Run:
    """All at once, straight from the engine."""

    def generate() -> list[GenerationResult]:
        streams = [engine.submit(_as_the_engine_takes_it(body)) for body in bodies]
        return [stream.result() for stream in streams]

    results, seconds = timed(generate)
    return Run([result.text for result in results], sum(r.completion_tokens for r in results), seconds, 0.0)


def run_http(engine: InferenceEngine, client: ClientProcess, bodies: Sequence[dict[str, Any]]) -> Run:
    """All at once, through the server."""
    asks = [Ask(PATH, body) for body in bodies]
    (answers, client_cpu), seconds = timed(lambda: client.ask(asks, len(asks)))
    return Run([answer.text for answer in answers], sum(b["max_tokens"] for b in bodies), seconds, client_cpu)


def compare_throughput(engine: InferenceEngine, client: ClientProcess, sizes: Sizes, repeats: int) -> dict[str, Any]:
    """Both sides in turn. ``share_kept`` is HTTP's throughput over the engine's own; texts must be the same."""
    bodies = load(engine, STREAMS, sizes.tokens)
    runs = in_turn(
        repeats, {"engine": lambda: run_engine(engine, bodies), "http": lambda: run_http(engine, client, bodies)}
    )
    assert runs["http"][0].texts == runs["engine"][0].texts, "HTTP changed a text"
    assert {run.tokens for run in (*runs["engine"], *runs["http"])} == {STREAMS * sizes.tokens}
    rates = {name: Spread.of([run.tokens / run.seconds.wall for run in side])._asdict() for name, side in runs.items()}
    return {
        "streams": STREAMS,
        "tokens_a_stream": sizes.tokens,
        "tokens_per_second": rates,
        "share_kept": {
            clock: ratios(
                [getattr(run.seconds, clock) for run in runs["engine"]],
                [getattr(run.seconds, clock) for run in runs["http"]],
            )._asdict()
            for clock in Seconds._fields
        },
        "cpu_microseconds_a_token": {
            "engine": Spread.of([1e6 * run.seconds.cpu / run.tokens for run in runs["engine"]])._asdict(),
            "engine_and_server": Spread.of([1e6 * run.seconds.cpu / run.tokens for run in runs["http"]])._asdict(),
            "client": Spread.of([1e6 * run.client_cpu / run.tokens for run in runs["http"]])._asdict(),
        },
    }


# --- the first token --------------------------------------------------------------------------------------------------


def compare_ttft(engine: InferenceEngine, client: ClientProcess, sizes: Sizes, repeats: int) -> dict[str, Any]:
    """One request at a time: from before the connection to the first text, less the engine's own from the submit."""
    bodies = load(engine, sizes.first_tokens, tokens=4)

    def from_engine() -> float:
        results = [engine.generate_with_request(_as_the_engine_takes_it(body)) for body in bodies]
        return statistics.median(result.ttft for result in results if result.ttft is not None)

    def through_http() -> float:
        answers, _ = client.ask([Ask(PATH, body) for body in bodies], at_once=1)
        return statistics.median(answer.ttft for answer in answers if answer.ttft is not None)

    medians = in_turn(repeats, {"engine": from_engine, "http": through_http})
    pairs = list(zip(medians["engine"], medians["http"], strict=True))
    return {
        "requests": sizes.first_tokens,
        "engine_milliseconds": Spread.of([1e3 * engine_s for engine_s, _ in pairs])._asdict(),
        "http_milliseconds": Spread.of([1e3 * http_s for _, http_s in pairs])._asdict(),
        "added_milliseconds": Spread.of([1e3 * (http_s - engine_s) for engine_s, http_s in pairs])._asdict(),
    }


# --- the command ------------------------------------------------------------------------------------------------------


def measure(engine: InferenceEngine, sizes: Sizes, repeats: int) -> dict[str, Any]:
    """Both comparisons on a server of this engine."""
    with serve_in_background(engine) as server, client_process(server.url) as client:
        run_engine(engine, load(engine, 2, 4))  # warms up
        client.ask([Ask(PATH, body) for body in load(engine, 2, 4)], 2)
        return {
            "throughput": compare_throughput(engine, client, sizes, repeats),
            "first_token": compare_ttft(engine, client, sizes, repeats),
        }


def report(figures: dict[str, Any]) -> str:
    """The figures as a few lines: median (lowest to highest)."""
    through, first = figures["throughput"], figures["first_token"]
    rates, kept, cpu = through["tokens_per_second"], through["share_kept"], through["cpu_microseconds_a_token"]
    return f"""\
{through["streams"]} streams of {through["tokens_a_stream"]} tokens, tokens per second on the clock
  engine      {Spread(**rates["engine"])}
  HTTP        {Spread(**rates["http"])}
  share kept  {Spread(**kept["wall"])} on the clock, {Spread(**kept["cpu"])} by CPU time; goal: {GOAL_RATIO}
  CPU microseconds a token: engine {Spread(**cpu["engine"])}, with server {Spread(**cpu["engine_and_server"])}, \
client {Spread(**cpu["client"])}
time to the first token in milliseconds, one request at a time
  engine {Spread(**first["engine_milliseconds"])}, HTTP {Spread(**first["http_milliseconds"])}
  added  {Spread(**first["added_milliseconds"])}; goal: {GOAL_TTFT * 1e3:.0f}"""


def save_beside(key: str, figures: dict[str, Any]) -> Path:
    """Write figures under ``key`` of ``results/serve.json`` and leave its other figures as they are."""
    path = RESULTS / "serve.json"
    before = json.loads(path.read_text()) if path.is_file() else {}
    before.pop("machine", None)
    return save("serve", {**before, key: figures})


def main() -> None:
    """Measure, print, and write the key ``overhead`` of ``results/serve.json``."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.serve", description=__doc__)
    parser.add_argument("--repeats", type=int, default=5, help="how often each side runs, in turn")
    parser.add_argument("--quick", action="store_true", help="a small load that shows that all works; saves nothing")
    options = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"
    torch.set_num_threads(1)
    with InferenceEngine(*astrai.load("tiny"), num_slots=STREAMS, prefix_cache=False) as engine:
        figures = measure(engine, QUICK if options.quick else Sizes(), options.repeats)
    print(report(figures))
    if not options.quick:
        print(f"written to {save_beside('overhead', figures).name}")


if __name__ == "__main__":
    main()
