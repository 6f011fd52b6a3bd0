"""What is served: for each size of model, one stream, requests of mixed lengths, and requests that share a prefix."""

from __future__ import annotations

from dataclasses import dataclass, replace

from astrai.config import ModelConfig
from astrai.inference.engine import GenerationRequest
from benchmarks.loads import MODEL_S, mixed, with_shared_prefix


@dataclass(frozen=True, slots=True)
class Workload:
    """Requests that arrive together, and how many of them run at once."""

    name: str
    requests: list[GenerationRequest]
    batch: int
    shared_len: int = 0  # prompt tokens that all requests begin with

    @property
    def output_tokens(self) -> int:
        """Tokens that every contender generates."""
        return sum(request.sampling.max_tokens for request in self.requests)

    @property
    def distinct_prompt_tokens(self) -> int:
        """Prompt tokens that must be computed at least once."""
        own = sum(len(request.prompt) - self.shared_len for request in self.requests)
        return self.shared_len + own

    @property
    def least_steps(self) -> int:
        """Decode steps that no scheduler can do without: prefill gives each request's first token."""
        outputs = [request.sampling.max_tokens - 1 for request in self.requests]
        return max(max(outputs), -(-sum(outputs) // self.batch))

    @property
    def positions_read(self) -> int:
        """Cached positions that the decode steps of all requests read, summed up."""
        lengths = ((len(request.prompt), request.sampling.max_tokens) for request in self.requests)
        return sum(sum(range(prompt + 1, prompt + output)) for prompt, output in lengths)


def sizes() -> dict[str, ModelConfig]:
    """The models that are measured: S in float32, and the preset of 1 B parameters in bfloat16."""
    return {"s": MODEL_S, "1b": ModelConfig.preset("1b")}


def workloads(size: str, config: ModelConfig, quick: bool = False) -> list[Workload]:
    """The loads of a size; the quick ones only show that everything works."""
    vocab = config.vocab_size
    if quick:
        return [
            Workload("one stream", mixed(1, (16, 16), (8, 8), vocab=vocab), batch=1),
            Workload("mixed", mixed(6, (16, 32), (8, 16), vocab=vocab), batch=4),
            Workload("shared prefix", with_shared_prefix(6, 48, 8, 8, vocab=vocab), batch=4, shared_len=48),
        ]
    if size == "1b":
        return [
            Workload("one stream", mixed(1, (64, 64), (32, 32), vocab=vocab), batch=1),
            Workload("mixed", mixed(8, (64, 256), (24, 48), vocab=vocab), batch=8),
        ]
    return [
        Workload("one stream", mixed(1, (64, 64), (128, 128), vocab=vocab), batch=1),
        Workload("mixed", mixed(32, (64, 256), (64, 128), vocab=vocab), batch=16),
        Workload("shared prefix", with_shared_prefix(32, 384, 32, 32, vocab=vocab), batch=16, shared_len=384),
    ]


def first_of(workload: Workload, tokens: int) -> Workload:
    """The same requests cut to a few output tokens: warms up whoever serves them."""
    requests = [
        replace(r, sampling=replace(r.sampling, max_tokens=tokens)) for r in workload.requests[: workload.batch]
    ]
    return replace(workload, requests=requests)
