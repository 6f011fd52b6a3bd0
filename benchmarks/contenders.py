"""Who is measured: this engine and whichever of its peers are installed, all with the same weights.

A contender is a function of a workload that returns each request's tokens and the time that generating them took. What
it needs before the first request, weights and caches, is not in that time.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec

from astrai.config import EngineConfig
from astrai.model.transformer import Transformer
from benchmarks.loads import serve
from benchmarks.measure import Seconds, timed
from benchmarks.workloads import Workload

Tokens = tuple[int, ...]
Contender = Callable[[Workload], tuple[list[Tokens], Seconds]]


def contenders(model: Transformer, only: list[str] | None = None) -> dict[str, Contender]:
    """By name; ours first. A peer that is not installed is left out; the report names those that ran."""

    def astrai(workload: Workload) -> tuple[list[Tokens], Seconds]:
        results, seconds = serve(model, workload.requests, EngineConfig(num_slots=workload.batch))
        return [result.token_ids for result in results], seconds

    found: dict[str, Contender] = {"astrai": astrai}
    if find_spec("transformers"):
        from benchmarks import hugging_face

        rival = hugging_face.llama(model)
        found["transformers generate"] = lambda w: timed(lambda: hugging_face.generate(rival, w.requests, w.batch))
        found["transformers continuous batching"] = lambda w: hugging_face.continuous(rival, w.requests, w.batch)
    if find_spec("llama_cpp") and find_spec("gguf"):
        from benchmarks.llama_cpp_peer import LlamaCpp

        found["llama.cpp"] = LlamaCpp(model)
    if only:
        unknown = sorted(set(only) - set(found))
        if unknown:
            raise ValueError(f"no contender {', '.join(unknown)} here: choose from {', '.join(found)}")
        found = {name: contender for name, contender in found.items() if name in only or name == "astrai"}
    return found


def peer_versions() -> dict[str, str]:
    """The versions of the peers that are installed."""
    found = {}
    for package in ("transformers", "llama-cpp-python"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found
