"""Configurations refuse what cannot work, with the name and the limits; nothing odd reaches a batch."""

import math

import numpy as np
import pytest

from astrai.config import EngineConfig, ModelConfig, SamplingParams


def test_the_presets_count_their_parameters_to_the_digit():
    assert ModelConfig.preset("1b").num_parameters == 1_050_207_744
    assert ModelConfig.preset("1b").queries_per_kv == ModelConfig.preset("tiny").queries_per_kv == 6


def test_a_model_config_survives_its_dictionary():
    config = ModelConfig.preset("tiny")
    assert ModelConfig.from_dict(config.to_dict()) == config
    with pytest.raises(ValueError, match="unknown keys in model config: layers"):
        ModelConfig.from_dict({**config.to_dict(), "layers": 3})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (dict(num_heads=10, num_kv_heads=4), r"num_heads \(10\) must be a multiple of num_kv_heads \(4\)"),
        (dict(head_dim=15), "head_dim is 15, but RoPE rotates pairs"),
        (dict(dtype="int8"), "dtype is 'int8'"),
        (dict(vocab_size=0), "vocab_size is 0"),
        (dict(eos_ids=(9999,)), "eos id 9999 is outside"),
    ],
)
def test_a_model_that_cannot_be_built_is_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        ModelConfig(**{**ModelConfig.preset("tiny").to_dict(), **changes})


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (dict(num_slots=0), "num_slots is 0"),
        (dict(num_slots=4, max_running=5), r"max_running is 5, but must be between 1 and num_slots \(4\)"),
        (dict(decode_policy="greedy"), "decode_policy is 'greedy'"),
        (dict(capacity_tokens=-1), "capacity_tokens is -1"),
        (dict(prefill_budget=0), "prefill_budget is 0"),
    ],
)
def test_an_engine_that_cannot_run_is_refused(values, message):
    with pytest.raises(ValueError, match=message):
        EngineConfig(**values)


def test_the_prefill_budget_is_that_of_the_device_unless_given():
    assert [EngineConfig().on(device).prefill_budget for device in ("cpu", "cuda")] == [64, 512]
    assert [EngineConfig(prefill_budget=7).on(device).prefill_budget for device in ("cpu", "cuda")] == [7, 7]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (dict(temperature=-1), "temperature is -1.0, but must lie between"),
        (dict(temperature=math.nan), "temperature is nan"),
        (dict(temperature=math.inf), "temperature is inf"),
        (dict(temperature="hot"), "temperature is 'hot', which is of the wrong type"),
        (dict(max_tokens=1.5), "max_tokens is 1.5, which is of the wrong type"),
        (dict(seed="a"), "seed is 'a', which is of the wrong type"),
        (dict(logprobs=2.5), "logprobs is 2.5, which is of the wrong type"),
        (dict(logit_bias={1.5: 1.0}), "logit_bias is .*, which is of the wrong type"),
        (dict(logit_bias={1: math.nan}), "logit_bias of token 1 is nan"),
        (dict(top_p=0), "top_p is 0, which allows no token"),
        (dict(stop=("",)), "a stop string is empty"),
        (dict(stop=(1,)), "stop has 1, but takes strings; token ids go to stop_ids"),
        (dict(logprobs=21), "logprobs is 21"),
    ],
)
def test_sampling_that_makes_no_sense_is_refused_by_name(values, message):
    with pytest.raises(ValueError, match=message):
        SamplingParams(**values)


def test_numbers_of_other_libraries_become_plain_ones():
    params = SamplingParams(
        max_tokens=np.int64(3),
        temperature=np.float32(0.5),
        seed=np.int64(7),
        stop_ids=[np.int32(1)],
        logit_bias={np.int64(2): np.float32(1)},
    )
    values = (params.max_tokens, params.temperature, params.seed, params.stop_ids[0], *params.logit_bias[0])
    assert [type(value) for value in values] == [int, float, int, int, int, float]
