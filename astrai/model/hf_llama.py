"""The Hugging Face Llama layout: how its ``config.json`` and its tensor names translate to ours.

Only names and numbers: no file is opened here. What our model does not compute is refused by name, never ignored.
"""

from __future__ import annotations

from typing import Any

from astrai.config import Llama3RopeScaling, ModelConfig

ARCHITECTURE = "LlamaForCausalLM"
TIED_HEAD = "lm_head.weight"  # some checkpoints store it although it equals the embedding
REFUSED_UNLESS = {  # key: the values that mean that the feature is off
    "attention_bias": (False, None),
    "mlp_bias": (False, None),
    "hidden_act": ("silu",),
    "sliding_window": (None,),
    "use_sliding_window": (False, None),
    "quantization_config": (None,),
    "partial_rotary_factor": (1.0, None),
    "layer_types": (None,),
}
PARTS = (  # (our part of a name, theirs)
    ("blocks.", "model.layers."),
    (".attention_norm.", ".input_layernorm."),
    (".mlp_norm.", ".post_attention_layernorm."),
    (".attention.", ".self_attn."),
)
WHOLE = {"embed.weight": "model.embed_tokens.weight", "norm.weight": "model.norm.weight", "head.weight": TIED_HEAD}


def hf_name(name: str) -> str:
    """The Hugging Face name of a tensor of ours.

    Example:
        >>> hf_name("blocks.0.attention.q_proj.weight")
        'model.layers.0.self_attn.q_proj.weight'
    """
    if name in WHOLE:
        return WHOLE[name]
    for ours, theirs in PARTS:
        name = name.replace(ours, theirs)
    return name


def config_from_hf(values: dict[str, Any]) -> ModelConfig:
    """A model config from the contents of ``config.json``.

    Raises:
        ValueError: naming everything that is not supported, or the key that is missing.
    """
    values = {**values, **(values.get("rope_parameters") or {})}  # transformers 5 moved rope_theta in there
    _refuse_unsupported(values)
    try:
        num_heads = values["num_attention_heads"]
        return ModelConfig(
            vocab_size=values["vocab_size"],
            hidden_size=values["hidden_size"],
            num_layers=values["num_hidden_layers"],
            num_heads=num_heads,
            num_kv_heads=values.get("num_key_value_heads") or num_heads,
            head_dim=values.get("head_dim") or values["hidden_size"] // num_heads,
            intermediate_size=values["intermediate_size"],
            max_seq_len=values.get("max_position_embeddings", 2048),
            rope_theta=values.get("rope_theta", 10_000.0),
            rope_scaling=_rope_scaling(values),
            norm_eps=values.get("rms_norm_eps", 1e-6),
            tie_embeddings=values.get("tie_word_embeddings", False),
            dtype=values.get("dtype") or values.get("torch_dtype") or "float32",
            bos_id=values.get("bos_token_id"),
            eos_ids=token_ids(values.get("eos_token_id")),
        )
    except KeyError as error:
        raise ValueError(f"the key {error} is missing") from None


def token_ids(value: int | list[int] | None) -> tuple[int, ...]:
    """An id, a list of ids or nothing, as Hugging Face configs have them, as a tuple."""
    if value is None:
        return ()
    return tuple(value) if isinstance(value, list) else (value,)


def config_to_hf(config: ModelConfig) -> dict[str, Any]:
    """The contents of a ``config.json`` that transformers 4 and 5 both read."""
    scaling = config.rope_scaling
    return {
        "architectures": [ARCHITECTURE],
        "model_type": "llama",
        "hidden_act": "silu",
        "attention_bias": False,
        "mlp_bias": False,
        "vocab_size": config.vocab_size,
        "hidden_size": config.hidden_size,
        "num_hidden_layers": config.num_layers,
        "num_attention_heads": config.num_heads,
        "num_key_value_heads": config.num_kv_heads,
        "head_dim": config.head_dim,
        "intermediate_size": config.intermediate_size,
        "max_position_embeddings": config.max_seq_len,
        "rope_theta": config.rope_theta,
        "rope_scaling": scaling
        and {
            "rope_type": "llama3",
            "factor": scaling.factor,
            "low_freq_factor": scaling.low_freq_factor,
            "high_freq_factor": scaling.high_freq_factor,
            "original_max_position_embeddings": scaling.original_max_position_embeddings,
        },
        "rms_norm_eps": config.norm_eps,
        "tie_word_embeddings": config.tie_embeddings,
        "torch_dtype": config.dtype,
        "bos_token_id": config.bos_id,
        "eos_token_id": list(config.eos_ids) or None,
    }


def _rope_values(values: dict[str, Any]) -> dict[str, Any]:
    return values.get("rope_parameters") or values.get("rope_scaling") or {}


def _rope_type(values: dict[str, Any]) -> str:
    rope = _rope_values(values)
    return rope.get("rope_type") or rope.get("type") or "default"


def _rope_scaling(values: dict[str, Any]) -> Llama3RopeScaling | None:
    if _rope_type(values) == "default":
        return None
    rope = _rope_values(values)
    return Llama3RopeScaling(
        factor=rope["factor"],
        low_freq_factor=rope["low_freq_factor"],
        high_freq_factor=rope["high_freq_factor"],
        original_max_position_embeddings=rope["original_max_position_embeddings"],
    )


def _refuse_unsupported(values: dict[str, Any]) -> None:
    problems = [
        f"{key} = {values[key]!r}" for key, off in REFUSED_UNLESS.items() if key in values and values[key] not in off
    ]
    if values.get("architectures") != [ARCHITECTURE]:
        problems.insert(0, f"architectures = {values.get('architectures')!r} (only [{ARCHITECTURE!r}] is known)")
    if _rope_type(values) not in ("default", "llama3"):
        problems.append(f"rope_type = {_rope_type(values)!r} (only 'default' and 'llama3' are known)")
    if problems:
        raise ValueError(f"not supported: {'; '.join(problems)}")
