"""What a live dashboard costs, in a real Jupyter kernel: CPU time with and without one, in turn, and when idle.

16 streams of the bundled model, greedy, 256 tokens each. What watching takes is the CPU time of all threads of the
kernel but the engine's, with a dashboard less without one: the thread that looks at the log, the messages to the page
and their signing are all in it. Nobody draws: that is the browser's time, which `python -m benchmarks.drawing` takes.
"""

from __future__ import annotations

import argparse
import json
import statistics
import threading
import time
from typing import Any

STREAMS = 16
TOKENS = 256
GOAL_RUNNING = 0.03
GOAL_IDLE = 0.02
IDLE_SECONDS = 5.0


def one_run(model: Any, tokenizer: Any, watched: bool, tokens: int = TOKENS) -> dict[str, float]:
    """CPU seconds for one load: of the engine's thread, of all others, and of the one that watches."""
    import astrai

    engine = astrai.InferenceEngine(model, tokenizer, num_slots=STREAMS, start=False)
    dashboard = astrai.watch(engine) if watched else None
    sampling = astrai.SamplingParams(max_tokens=tokens, ignore_eos=True)
    prompts = [f"Tell me a story about a fox and {number} kites." for number in range(STREAMS)]
    streams = [engine.submit(astrai.GenerationRequest(prompt, sampling=sampling)) for prompt in prompts]
    cpu, wall = time.process_time(), time.perf_counter()
    engine.daemon.start()
    made = sum(stream.result().completion_tokens for stream in streams)
    taken = {"cpu": time.process_time() - cpu, "wall": time.perf_counter() - wall, "tokens": made}
    loop = next(thread for thread in threading.enumerate() if thread.name == "astrai-scheduler")
    taken["engine"] = time.clock_gettime(time.pthread_getcpuclockid(loop.ident))
    taken["others"] = taken["cpu"] - taken["engine"]
    engine.shutdown()
    if dashboard is not None:
        taken["watching"] = dashboard.watcher.seconds
        dashboard.close()
    return taken


def idle_share(model: Any, tokenizer: Any, watched: bool, seconds: float = IDLE_SECONDS) -> float:
    """The share of one core that this process takes while an engine has nothing to do."""
    import astrai

    engine = astrai.InferenceEngine(model, tokenizer, num_slots=STREAMS)
    dashboard = astrai.watch(engine) if watched else None
    time.sleep(1)
    cpu, wall = time.process_time(), time.perf_counter()
    time.sleep(seconds)
    share = (time.process_time() - cpu) / (time.perf_counter() - wall)
    engine.shutdown()
    if dashboard is not None:
        dashboard.close()
    return share


def in_this_process(repeats: int, tokens: int, idle_seconds: float) -> dict[str, Any]:
    """The figures, taken here: run it in a kernel."""
    import torch

    import astrai
    from benchmarks.measure import Spread, in_turn, ratios

    torch.set_num_threads(1)
    model, tokenizer = astrai.load("tiny", device="cpu")
    one_run(model, tokenizer, True, tokens=8)  # warms up
    sides = in_turn(
        repeats, {name: lambda w=w: one_run(model, tokenizer, w, tokens) for name, w in (("plain", 0), ("watched", 1))}
    )
    plain, watched = sides["plain"], sides["watched"]
    idle = in_turn(
        3, {n: lambda w=w: idle_share(model, tokenizer, w, idle_seconds) for n, w in (("no", 0), ("yes", 1))}
    )
    return {
        "streams": STREAMS,
        "tokens": int(plain[0]["tokens"]),
        "watching_share": Spread.of(
            [(w["others"] - p["others"]) / p["engine"] for w, p in zip(watched, plain, strict=True)]
        )._asdict(),
        "engine_cpu_with_over_without": ratios([w["engine"] for w in watched], [p["engine"] for p in plain])._asdict(),
        "throughput_with_over_without": ratios([p["wall"] for p in plain], [w["wall"] for w in watched])._asdict(),
        "watching_thread_share": Spread.of(
            [w["watching"] / p["engine"] for w, p in zip(watched, plain, strict=True)]
        )._asdict(),
        "idle_share_of_a_core": {
            "with": statistics.median(idle["yes"]),
            "without": statistics.median(idle["no"]),
        },
    }


def in_a_kernel(repeats: int, tokens: int = TOKENS, idle_seconds: float = IDLE_SECONDS) -> dict[str, Any]:
    """Start a kernel, measure in it, and bring the figures back."""
    from jupyter_client.manager import start_new_kernel

    manager, client = start_new_kernel(kernel_name="python3")
    code = (
        "import json\nfrom benchmarks.dashboard import in_this_process\n"
        f"print('FIGURES' + json.dumps(in_this_process({repeats}, {tokens}, {idle_seconds})))"
    )
    printed: list[str] = []

    def listen(message: dict[str, Any]) -> None:
        content = message["content"]
        if message["msg_type"] == "stream":
            printed.append(content["text"])
        elif message["msg_type"] == "error":
            raise RuntimeError("\n".join(content["traceback"]))

    try:
        client.execute_interactive(code, output_hook=listen, timeout=1800)
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)
    return json.loads("".join(printed).split("FIGURES", 1)[1])


def report(figures: dict[str, Any]) -> str:
    """The figures as a few lines: median (lowest to highest)."""
    from benchmarks.measure import Spread

    share, thread = Spread(**figures["watching_share"]), Spread(**figures["watching_thread_share"])
    idle, engine = figures["idle_share_of_a_core"], Spread(**figures["engine_cpu_with_over_without"])
    return f"""\
{figures["streams"]} streams, {figures["tokens"]:,} tokens, in a Jupyter kernel with a dashboard at 10 looks a second
  what watching takes    {_percent(share)} of the engine's CPU time, goal: under {GOAL_RUNNING:.0%}
  of that, the thread    {_percent(thread)} that looks and folds
  the engine's own time  {engine} times that without
  tokens a second        {Spread(**figures["throughput_with_over_without"])} times as many as without
  while nothing happens  {idle["with"]:.2%} of one core ({idle["without"]:.2%} without), goal: under {GOAL_IDLE:.0%}"""


def _percent(share: Any) -> str:
    return f"{share.median:.2%} ({share.low:.2%} to {share.high:.2%})"


def main() -> None:
    """Measure, print, and write ``results/dashboard.json``."""
    from benchmarks.measure import save

    parser = argparse.ArgumentParser(prog="python -m benchmarks.dashboard", description=__doc__)
    parser.add_argument("--repeats", type=int, default=5, help="how often each side runs, in turn")
    parser.add_argument("--quick", action="store_true", help="a small load that shows that all works; saves nothing")
    options = parser.parse_args()
    size = {"tokens": 16, "idle_seconds": 0.5} if options.quick else {}
    figures = in_a_kernel(1 if options.quick else options.repeats, **size)
    print(report(figures))
    if not options.quick:
        print(f"written to {save('dashboard', figures).name}")


if __name__ == "__main__":
    main()
