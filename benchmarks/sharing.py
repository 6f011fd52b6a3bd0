"""Does the engine gain what its own arithmetic promises? On the CPU, one thread, float32.

Two questions. Of the time that a shared prefix should save, going by what prefill and decode cost, how much is really
saved? And which decode policy is faster on rows of mixed lengths?
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch

from astrai.config import DecodePolicy, EngineConfig
from astrai.inference.engine import GenerationRequest, GenerationResult, InferenceEngine
from astrai.model.transformer import Transformer
from benchmarks.agreement import disagreements
from benchmarks.loads import MODEL_S, mixed, serve, with_shared_prefix
from benchmarks.measure import Seconds, Spread, in_turn, ratios, save, timed


@dataclass(frozen=True, slots=True)
class Sizes:
    """How large a load is."""

    requests: int = 32
    batch: int = 16
    prompt_len: tuple[int, int] = (64, 256)
    output_len: tuple[int, int] = (64, 128)
    shared_len: int = 384
    own_len: int = 32
    shared_output_len: int = 32

    def shared_load(self, seed: int) -> list[GenerationRequest]:
        """Requests with a common prefix."""
        return with_shared_prefix(self.requests, self.shared_len, self.own_len, self.shared_output_len, seed)


QUICK = Sizes(8, 4, (16, 32), (8, 16), 96, 16, 8)


class Costs(NamedTuple):
    """CPU seconds for one prompt token, and for one output token in a full batch."""

    prefill: float
    decode: float


# --- the decode policies ----------------------------------------------------------------------------------------------


def compare_policies(model: Transformer, sizes: Sizes, repeats: int) -> dict[str, Any]:
    """One forward for all rows against one for each position, in turn; the tokens are compared too."""
    requests = mixed(sizes.requests, sizes.prompt_len, sizes.output_len)
    policies: tuple[DecodePolicy, ...] = ("ragged", "grouped")
    runs = in_turn(
        repeats,
        {
            name: lambda name=name: serve(model, requests, EngineConfig(num_slots=sizes.batch, decode_policy=name))
            for name in policies
        },
    )
    ids = {name: [result.token_ids for result in results[0][0]] for name, results in runs.items()}
    parted = disagreements(model, requests, ids["ragged"], ids["grouped"])
    wrong = [each for each in parted if not each.is_tie]
    assert not wrong, f"the decode policy changed the tokens, although no logits tie: {wrong}"
    seconds = {name: [taken for _, taken in results] for name, results in runs.items()}
    return {
        "requests": sizes.requests,
        "batch": sizes.batch,
        "ragged_times_as_fast_as_grouped": _both_clocks(seconds["grouped"], seconds["ragged"]),
    }


# --- with a shared prefix ---------------------------------------------------------------------------------------------


def measure_shared(model: Transformer, sizes: Sizes, repeats: int) -> dict[str, Any]:
    """A burst of requests with a common prefix, prefix cache on and off in turn, and what should be gained."""
    requests = sizes.shared_load(seed=2)
    unrelated = mixed(sizes.batch, (sizes.shared_len + sizes.own_len,) * 2, (sizes.shared_output_len,) * 2, seed=3)
    runs: dict[str, list[Any]] = in_turn(
        repeats,
        {
            "off": lambda: serve(model, requests, EngineConfig(num_slots=sizes.batch, prefix_cache=False)),
            "on": lambda: serve(model, requests, EngineConfig(num_slots=sizes.batch)),
            "costs": lambda: phase_costs(model, unrelated),
        },
    )
    ids = {name: [result.token_ids for result in runs[name][0][0]] for name in ("off", "on")}
    wrong = [each for each in disagreements(model, requests, ids["on"], ids["off"]) if not each.is_tie]
    assert not wrong, f"the prefix cache changed the tokens, although no logits tie: {wrong}"
    gain = _both_clocks(*([taken for _, taken in runs[name]] for name in ("off", "on")))
    costs = runs["costs"]
    predicted = Spread.of([predicted_gain(each, sizes) for each in costs])
    results: list[GenerationResult] = runs["on"][0][0]
    return {
        "requests": sizes.requests,
        "shared_tokens": sizes.shared_len,
        "own_tokens": sizes.own_len,
        "output_tokens": sizes.shared_output_len,
        "prefilled_tokens_on": sum(result.prompt_tokens - result.cached_tokens for result in results),
        "cpu_ms_per_prompt_token": Spread.of([1e3 * each.prefill for each in costs])._asdict(),
        "cpu_ms_per_output_token": Spread.of([1e3 * each.decode for each in costs])._asdict(),
        "gain": gain,
        "predicted_gain": predicted._asdict(),
        "achieved_share_of_prediction": gain["cpu"]["median"] / predicted.median,
    }


def phase_costs(model: Transformer, requests: Sequence[GenerationRequest]) -> Costs:
    """What the two phases cost for requests that share nothing: all prompts first, then all outputs together."""
    config = EngineConfig(num_slots=len(requests), prefix_cache=False)
    with InferenceEngine(model, config=config, start=False) as engine:
        streams = [engine.submit(request) for request in requests]
        scheduler = engine.scheduler
        scheduler.start_step()
        scheduler.cleanup()
        scheduler.refill()

        def prefill() -> None:
            while any(request.is_prefilling for request in scheduler.running.values()):
                scheduler.prefill()

        def decode() -> None:
            while any(stream.output.ending is None for stream in streams):
                scheduler.decode()

        prefill_seconds, decode_seconds = timed(prefill)[1], timed(decode)[1]
    prompt_tokens = sum(len(request.prompt) for request in requests)
    decoded_tokens = sum(request.sampling.max_tokens - 1 for request in requests)  # the first comes from prefill
    return Costs(prefill_seconds.cpu / prompt_tokens, decode_seconds.cpu / decoded_tokens)


def predicted_gain(costs: Costs, sizes: Sizes) -> float:
    """Time without sharing over time with it, if nothing cost anything but the tokens that must be computed."""
    decode = costs.decode * sizes.requests * (sizes.shared_output_len - 1)
    own = sizes.requests * sizes.own_len
    without = costs.prefill * (sizes.requests * sizes.shared_len + own) + decode
    return without / (costs.prefill * (sizes.shared_len + own) + decode)


def _both_clocks(slow: Sequence[Seconds], fast: Sequence[Seconds]) -> dict[str, Any]:
    return {
        clock: ratios([getattr(s, clock) for s in slow], [getattr(s, clock) for s in fast])._asdict()
        for clock in Seconds._fields
    }


# --- the command ------------------------------------------------------------------------------------------------------


def report(figures: dict[str, Any]) -> str:
    """The figures as a few lines: median (lowest to highest)."""
    policies, shared = figures["policies"], figures["shared"]
    ragged, gain = policies["ragged_times_as_fast_as_grouped"], shared["gain"]
    prefill, decode = shared["cpu_ms_per_prompt_token"]["median"], shared["cpu_ms_per_output_token"]["median"]
    costs = f"{prefill:.2f} ms a prompt token, {decode:.2f} ms an output token"
    return f"""\
{policies["requests"]} mixed requests at batch {policies["batch"]}
  ragged decode  {Spread(**ragged["cpu"])} times as fast as grouped, by CPU time
{shared["requests"]} requests that share {shared["shared_tokens"]} tokens, prefix cache on against off
  gain           {Spread(**gain["cpu"])} by CPU time, {Spread(**gain["wall"])} on the clock
  predicted      {Spread(**shared["predicted_gain"])} from {costs}
  achieved       {shared["achieved_share_of_prediction"]:.0%} of the predicted gain"""


def main() -> None:
    """Measure, print, and write ``results/sharing.json``."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.sharing", description=__doc__)
    parser.add_argument("--repeats", type=int, default=5, help="how often each side runs, in turn")
    parser.add_argument("--quick", action="store_true", help="a small load that shows that all works; saves nothing")
    options = parser.parse_args()
    torch.set_num_threads(1)
    model = Transformer.random(MODEL_S, seed=0)
    sizes = QUICK if options.quick else Sizes()
    compare_policies(model, QUICK, 1)  # warms up both sides
    figures = {
        "model": MODEL_S.to_dict(),
        "policies": compare_policies(model, sizes, options.repeats),
        "shared": measure_shared(model, sizes, options.repeats),
    }
    print(report(figures))
    if not options.quick:
        print(f"written to {save('sharing', figures).name}")


if __name__ == "__main__":
    main()
