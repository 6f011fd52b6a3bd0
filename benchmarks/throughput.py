"""Output tokens per second: the engine, its peers and the machine's own ceiling, in one run on the same weights.

Written to ``results/throughput-SIZE-DEVICE.json``; ``docs/performance.md`` is drawn from these files.
"""

from __future__ import annotations

import argparse
from typing import Any

import torch

from astrai.config import ModelConfig
from astrai.model.transformer import Transformer
from benchmarks.agreement import TIE, disagreements
from benchmarks.ceiling import Machine, ceiling, measure_machine
from benchmarks.contenders import Contender, contenders, peer_versions
from benchmarks.measure import Seconds, Spread, in_turn, ratios, save
from benchmarks.workloads import Workload, first_of, sizes, workloads

OURS = "astrai"


def compare(model: Transformer, workload: Workload, rivals: dict[str, Contender], repeats: int) -> dict[str, Any]:
    """All contenders in turn on one workload, and the ceiling before and after them."""
    for contender in rivals.values():
        contender(first_of(workload, 2))
    machines = [measure_machine(_dtype(model), model.device)]
    runs = in_turn(repeats, {name: lambda run=run: run(workload) for name, run in rivals.items()})
    machines.append(measure_machine(_dtype(model), model.device))
    machine = Machine(*(max(values) for values in zip(*machines, strict=True)))
    least = ceiling(model, workload, machine)
    clock = "cpu" if model.device.type == "cpu" else "wall"
    seconds = {name: [taken for _, taken in results] for name, results in runs.items()}
    top = least.tokens_per_second(workload)
    return {
        "workload": workload.name,
        "requests": len(workload.requests),
        "batch": workload.batch,
        "shared_tokens": workload.shared_len,
        "prompt_tokens": sum(len(request.prompt) for request in workload.requests),
        "output_tokens": workload.output_tokens,
        "clock": clock,
        "tokens_per_second": {
            name: Spread.of([workload.output_tokens / getattr(each, clock) for each in taken])._asdict()
            for name, taken in seconds.items()
        },
        "times_as_fast_as": {
            name: _speed(taken, seconds[OURS], clock) for name, taken in seconds.items() if name != OURS
        },
        "ceiling": {**machine._asdict(), **least._asdict(), "tokens_per_second": top},
        "same_tokens": {
            name: agreement(model, workload, runs[OURS][0][0], results[0][0])
            for name, results in runs.items()
            if name != OURS
        },
    }


def agreement(model: Transformer, workload: Workload, ours: list, theirs: list) -> dict[str, Any]:
    """How many requests got the same tokens. In float32 only a tie of logits may part two contenders."""
    if _dtype(model) != torch.float32:
        return {"same": sum(a == b for a, b in zip(ours, theirs, strict=True)), "of": len(ours), "checked": False}
    parted = disagreements(model, workload.requests, ours, theirs)
    wrong = [each for each in parted if not each.is_tie]
    assert not wrong, f"different tokens, although no logits tie: {wrong}"
    return {"same": len(ours) - len(parted), "of": len(ours), "checked": True}


def _speed(theirs: list[Seconds], ours: list[Seconds], clock: str) -> dict[str, float]:
    return ratios([getattr(each, clock) for each in theirs], [getattr(each, clock) for each in ours])._asdict()


def _dtype(model: Transformer) -> torch.dtype:
    return next(model.parameters()).dtype


def report(figures: dict[str, Any]) -> str:
    """One workload as a few lines: median (lowest to highest)."""
    speeds, top = figures["tokens_per_second"], figures["ceiling"]["tokens_per_second"]
    unit = "output tokens per CPU second" if figures["clock"] == "cpu" else "output tokens per second"
    lines = [f"{figures['workload']}: {figures['requests']} requests, {figures['batch']} at once, {unit}"]
    for name, spread in speeds.items():
        against = "" if name == OURS else f"  ours is {Spread(**figures['times_as_fast_as'][name])} times as fast"
        lines.append(f"  {name:34} {Spread(**spread)!s:26}{against}")
    share = speeds[OURS]["median"] / top
    lines.append(f"  {'ceiling of this machine':34} {top:#.3g}, of which ours reaches {share:.0%}")
    ties = {name: each["of"] - each["same"] for name, each in figures["same_tokens"].items()}
    checked = all(each["checked"] for each in figures["same_tokens"].values())
    kind = f"ties of logits within {TIE}" if checked else "requests of other tokens (bfloat16: not an error)"
    lines.append(f"  same greedy tokens, but for {kind}: {', '.join(f'{n} {c}' for n, c in ties.items())}")
    return "\n".join(lines)


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(prog="astrai bench", description=__doc__)
    parser.add_argument("--size", choices=sorted(sizes()), default="s", help="s: 11 M parameters in float32; 1b")
    parser.add_argument("--workload", action="append", help="only this one; may be given again")
    parser.add_argument("--against", action="append", help="only this peer; may be given again")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=1, help="one is what two machines can be compared by")
    parser.add_argument("--repeats", type=int, default=5, help="how often each side runs, in turn")
    parser.add_argument("--quick", action="store_true", help="small loads that show that all works; saves nothing")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    config: ModelConfig = sizes()[options.size]
    loads = workloads(options.size, config, options.quick)
    names = [load.name for load in loads]
    if unknown := sorted(set(options.workload or []) - set(names)):
        parser.error(f"no workload {', '.join(unknown)}: choose from {', '.join(names)}")
    model = Transformer.random(config, seed=0, device=options.device)
    rivals = contenders(model, options.against)
    figures = []
    for load in loads:
        if not options.workload or load.name in options.workload:
            figures.append(compare(model, load, rivals, options.repeats))
            print(report(figures[-1]), flush=True)
    if not options.quick and not options.workload and not options.against:
        device = torch.device(options.device).type
        path = save(
            f"throughput-{options.size}-{device}",
            {"peers": peer_versions(), "model": config.to_dict(), "workloads": figures},
        )
        print(f"written to {path.name}")


if __name__ == "__main__":
    main()
