"""What no program can beat on this machine: the time to read what must be read and to multiply what must be multiplied.

Bandwidth and arithmetic are measured in the same run as the contenders, because a shared machine has more of both at
some hours than at others.
"""

from __future__ import annotations

from typing import NamedTuple

import torch

from astrai.config import ModelConfig
from astrai.model.transformer import Transformer
from benchmarks.measure import timed
from benchmarks.workloads import Workload

READ_BYTES = 512 * 2**20  # well beyond any cache
ROWS = 512  # of the square product that arithmetic is measured with


class Machine(NamedTuple):
    """Bytes that the threads in use read per second, and floating point operations that they do."""

    bytes_per_second: float
    flops_per_second: float


def measure_machine(dtype: torch.dtype, device: torch.device, repeats: int = 5) -> Machine:
    """The best of several tries, by CPU time on a CPU and by the clock elsewhere."""
    memory = torch.ones(READ_BYTES // dtype.itemsize, dtype=dtype, device=device)
    width = 4 * ROWS
    a = torch.randn(ROWS, width, device=device).to(dtype)
    b = torch.randn(width, width, device=device).to(dtype)

    def seconds(work) -> float:
        def done() -> None:
            work()
            if device.type == "cuda":
                torch.cuda.synchronize(device)

        done()
        return min(getattr(timed(done)[1], clock) for _ in range(repeats))

    clock = "cpu" if device.type == "cpu" else "wall"
    return Machine(READ_BYTES / seconds(lambda: _read(memory)), 2 * ROWS * width**2 / seconds(lambda: a @ b))


def _read(memory: torch.Tensor) -> None:
    memory.view(torch.int32).max()


class Ceiling(NamedTuple):
    """The least seconds of a workload, and what sets them."""

    prefill: float
    decode: float

    def tokens_per_second(self, workload: Workload) -> float:
        """Output tokens per second if nothing else cost anything."""
        return workload.output_tokens / (self.prefill + self.decode)


def ceiling(model: Transformer, workload: Workload, machine: Machine) -> Ceiling:
    """Each step reads all matrices once and each row's keys and values, or multiplies, whichever takes longer."""
    weights = multiplied(model.config)
    itemsize = next(model.parameters()).element_size()
    decoded = workload.output_tokens - len(workload.requests)
    read = workload.least_steps * weights * itemsize + workload.positions_read * model.config.kv_bytes_per_token
    return Ceiling(
        prefill=2 * weights * workload.distinct_prompt_tokens / machine.flops_per_second,
        decode=max(read / machine.bytes_per_second, 2 * weights * decoded / machine.flops_per_second),
    )


def multiplied(config: ModelConfig) -> int:
    """Weights that each token is multiplied with: all but the embedding, of which a token reads one row."""
    embedding = 0 if config.tie_embeddings else config.vocab_size * config.hidden_size
    return config.num_parameters - embedding
