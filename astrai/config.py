"""Configurations: what a model is, how an engine is sized, how a request samples.

Frozen dataclasses that validate themselves and import nothing of the package. They know no tensor: a dtype is its
name, so that bookkeeping, traces and pictures can read a configuration without torch.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, fields, replace
from operator import index
from typing import Any, Literal, Self

PENALTIES = ("repetition_penalty", "presence_penalty", "frequency_penalty")
DecodePolicy = Literal["ragged", "grouped"]
DTYPE_BYTES = {"float32": 4, "bfloat16": 2, "float16": 2, "float64": 8}


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise ValueError(message)


@dataclass(frozen=True, slots=True)
class Llama3RopeScaling:
    """Frequency rescaling of Llama 3.1 and later (config key ``rope_scaling`` with ``rope_type: llama3``)."""

    factor: float
    low_freq_factor: float
    high_freq_factor: float
    original_max_position_embeddings: int

    def __post_init__(self) -> None:
        _require(self.factor >= 1, f"rope_scaling.factor is {self.factor}, but must be at least 1")
        _require(
            self.high_freq_factor > self.low_freq_factor,
            f"rope_scaling.high_freq_factor ({self.high_freq_factor}) must be greater than "
            f"low_freq_factor ({self.low_freq_factor})",
        )


@dataclass(frozen=True, slots=True)
class ModelConfig:
    """The shape of a decoder-only transformer, in the words of Hugging Face Llama configs.

    Example:
        >>> ModelConfig.preset("1b").num_parameters
        1050207744
    """

    vocab_size: int
    hidden_size: int
    num_layers: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    intermediate_size: int
    max_seq_len: int = 2048
    rope_theta: float = 10_000.0
    rope_scaling: Llama3RopeScaling | None = None
    norm_eps: float = 1e-5
    tie_embeddings: bool = True
    dtype: str = "float32"
    bos_id: int | None = None
    eos_ids: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        for name in ("vocab_size", "hidden_size", "num_layers", "num_heads", "num_kv_heads", "head_dim"):
            _require(getattr(self, name) >= 1, f"{name} is {getattr(self, name)}, but must be at least 1")
        _require(self.intermediate_size >= 1, f"intermediate_size is {self.intermediate_size}, must be at least 1")
        _require(self.max_seq_len >= 2, f"max_seq_len is {self.max_seq_len}, but must be at least 2")
        _require(
            self.num_heads % self.num_kv_heads == 0,
            f"num_heads ({self.num_heads}) must be a multiple of num_kv_heads ({self.num_kv_heads})",
        )
        _require(self.head_dim % 2 == 0, f"head_dim is {self.head_dim}, but RoPE rotates pairs: make it even")
        _require(self.dtype in DTYPE_BYTES, f"dtype is {self.dtype!r}, but must be one of {sorted(DTYPE_BYTES)}")
        for token_id in self.eos_ids:
            _require(0 <= token_id < self.vocab_size, f"eos id {token_id} is outside of 0..{self.vocab_size - 1}")

    @property
    def queries_per_kv(self) -> int:
        """Query heads that read one kv head (6 in this course)."""
        return self.num_heads // self.num_kv_heads

    @property
    def num_parameters(self) -> int:
        """Weights of the whole model, a tied head counted once."""
        attention = 2 * self.hidden_size * self.head_dim * (self.num_heads + self.num_kv_heads)
        block = attention + 3 * self.hidden_size * self.intermediate_size + 2 * self.hidden_size
        heads = 1 if self.tie_embeddings else 2
        return self.num_layers * block + heads * self.vocab_size * self.hidden_size + self.hidden_size

    @property
    def kv_bytes_per_token(self) -> int:
        """Bytes that one token takes in ``k_cache`` and ``v_cache`` together."""
        return 2 * self.num_layers * self.num_kv_heads * self.head_dim * DTYPE_BYTES[self.dtype]

    @classmethod
    def preset(cls, name: str) -> Self:
        """``"1b"``: the architecture of the course at 1 B parameters. ``"tiny"``: the bundled model."""
        _require(name in PRESETS, f"unknown preset {name!r}: choose one of {sorted(PRESETS)}")
        return cls(**PRESETS[name])

    def to_dict(self) -> dict[str, Any]:
        """Plain values that :meth:`from_dict` reads back."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        """The inverse of :meth:`to_dict`; unknown keys are refused by name."""
        unknown = sorted(set(values) - {f.name for f in fields(cls)})
        _require(not unknown, f"unknown keys in model config: {', '.join(unknown)}")
        values = dict(values)
        if isinstance(values.get("rope_scaling"), dict):
            values["rope_scaling"] = Llama3RopeScaling(**values["rope_scaling"])
        values["eos_ids"] = tuple(values.get("eos_ids", ()))
        return cls(**values)


PRESETS: dict[str, dict[str, Any]] = {
    "tiny": dict(
        vocab_size=4096,
        hidden_size=192,
        num_layers=4,
        num_heads=12,
        num_kv_heads=2,
        head_dim=32,
        intermediate_size=512,
        max_seq_len=1024,
        dtype="float32",
    ),
    "1b": dict(
        vocab_size=100_000,
        hidden_size=1536,
        num_layers=24,
        num_heads=24,
        num_kv_heads=4,
        head_dim=64,
        intermediate_size=6912,
        max_seq_len=2048,
        dtype="bfloat16",
    ),
}


@dataclass(frozen=True, slots=True)
class EngineConfig:
    """How large an engine is and how it schedules.

    A *slot* is one request's whole row of the KV cache (not one token position, as in vLLM and SGLang).
    """

    num_slots: int = 16
    max_running: int | None = None  # requests that own a slot at once; None: as many as there are slots
    max_seq_len: int | None = None  # positions in a row; None: the model's
    max_waiting: int = 4096  # a submit beyond this is refused
    prefill_budget: int | None = None  # prompt tokens per step, so that streams go on; None: 64, on a GPU 512
    decode_policy: DecodePolicy = "ragged"
    prefix_cache: bool = True
    capacity_tokens: int | None = None  # distinct tokens that free rows may remember; None: all that the rows hold
    trace_events: int = 65_536  # events kept one by one; older ones are folded into the log's base
    kv_memory_bytes: int | None = None  # refuse to take more than this for the KV cache; None: what is available
    poison: bool = False  # fill what no request may read with +-1e4, so that a wrong read shows

    def __post_init__(self) -> None:
        for name in ("num_slots", "max_waiting", "prefill_budget", "trace_events"):
            value = getattr(self, name)
            _require(value is None or value >= 1, f"{name} is {value}, but must be at least 1")
        if self.max_running is not None:
            _require(
                1 <= self.max_running <= self.num_slots,
                f"max_running is {self.max_running}, but must be between 1 and num_slots ({self.num_slots})",
            )
        if self.max_seq_len is not None:
            _require(self.max_seq_len >= 2, f"max_seq_len is {self.max_seq_len}, but must be at least 2")
        if self.capacity_tokens is not None:
            _require(self.capacity_tokens >= 0, f"capacity_tokens is {self.capacity_tokens}, but cannot be negative")
        _require(
            self.decode_policy in ("ragged", "grouped"),
            f"decode_policy is {self.decode_policy!r}: choose 'ragged' or 'grouped'",
        )

    def on(self, device_type: str) -> EngineConfig:
        """This config on a kind of device, ``"cpu"`` or ``"cuda"``, with the prefill budget that suits it."""
        if self.prefill_budget is not None:
            return self
        # Measured by `python -m benchmarks.latency`: 64 on a CPU delay a long prompt by a sixth, 32 double it.
        return replace(self, prefill_budget=512 if device_type == "cuda" else 64)

    @property
    def running_limit(self) -> int:
        """Requests that may own a slot at once."""
        return self.num_slots if self.max_running is None else self.max_running

    def to_dict(self) -> dict[str, Any]:
        """Plain values that ``EngineConfig(**values)`` reads back."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class SamplingParams:
    """How the tokens of one request are chosen, and when it ends. Nothing here touches another request.

    ``temperature=0`` is greedy. ``top_k=0``, ``top_p=1`` and ``min_p=0`` are off. ``seed=None`` lets the engine draw
    one. ``logit_bias`` maps token ids to an addend. ``stop`` strings end the request and are not part of its text.
    ``logprobs=n`` returns the log-probability of each token and of the ``n`` most likely ones.
    """

    max_tokens: int = 256
    temperature: float = 0.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    logit_bias: tuple[tuple[int, float], ...] = ()
    seed: int | None = None
    stop: tuple[str, ...] = ()
    stop_ids: tuple[int, ...] = ()  # beside the model's own end-of-sequence ids
    ignore_eos: bool = False
    logprobs: int | None = None

    def __post_init__(self) -> None:
        if isinstance(self.logit_bias, dict):
            object.__setattr__(self, "logit_bias", tuple(sorted(self.logit_bias.items())))
        if isinstance(self.stop, str):
            object.__setattr__(self, "stop", (self.stop,))
        self._normalise()
        _require(self.max_tokens >= 0, f"max_tokens is {self.max_tokens}, but cannot be negative")
        for name, low, high in (
            ("temperature", 0.0, math.inf),
            ("top_k", 0, math.inf),
            ("top_p", 0.0, 1.0),
            ("min_p", 0.0, 1.0),
            ("repetition_penalty", 0.0, math.inf),
            ("presence_penalty", -math.inf, math.inf),
            ("frequency_penalty", -math.inf, math.inf),
        ):
            value = getattr(self, name)
            # NOTE: written so that nan fails too.
            _require(low <= value <= high, f"{name} is {value}, but must lie between {low} and {high}")
            _require(math.isfinite(value), f"{name} is {value}, but must be finite")
        _require(self.top_p > 0, "top_p is 0, which allows no token: use a small positive value, or temperature=0")
        _require(self.repetition_penalty > 0, "repetition_penalty is 0, but must be positive")
        for token_id, bias in self.logit_bias:
            _require(math.isfinite(bias), f"logit_bias of token {token_id} is {bias}, but must be finite")
        _require(all(self.stop), "a stop string is empty, which would end every request at once: remove it")
        _require(
            self.logprobs is None or 0 <= self.logprobs <= 20,
            f"logprobs is {self.logprobs}, but must be None or between 0 and 20",
        )

    def _normalise(self) -> None:
        """Plain ints, floats and tuples, whatever numeric types were given: what is wrong here would hit a batch."""
        try:
            for name in ("max_tokens", "top_k"):
                object.__setattr__(self, name, index(getattr(self, name)))
            for name in ("seed", "logprobs"):
                value = getattr(self, name)
                object.__setattr__(self, name, None if value is None else index(value))
            for name in ("temperature", "top_p", "min_p", *PENALTIES):
                object.__setattr__(self, name, float(getattr(self, name)))
            object.__setattr__(self, "stop", tuple(self.stop))
            name = "stop_ids"
            object.__setattr__(self, name, tuple(map(index, self.stop_ids)))
            name = "logit_bias"
            object.__setattr__(self, name, tuple((index(key), float(bias)) for key, bias in self.logit_bias))
        except (TypeError, ValueError) as error:
            raise ValueError(f"{name} is {getattr(self, name)!r}, which is of the wrong type: {error}") from None
        for string in self.stop:
            _require(isinstance(string, str), f"stop has {string!r}, but takes strings; token ids go to stop_ids")

    @property
    def is_greedy(self) -> bool:
        """Whether the most likely token is always taken."""
        return self.temperature == 0.0

    def with_seed(self, seed: int) -> Self:
        """The same parameters with a seed."""
        return replace(self, seed=seed)
