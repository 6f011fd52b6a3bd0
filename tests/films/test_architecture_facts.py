"""Each word that the film of the architecture says about the package, held against the package."""

import importlib
import inspect
import re
from pathlib import Path

import pytest
import torch

import astrai
from animations.architecture_facts import (
    ANSWER,
    ANSWER_IDS,
    CACHE,
    CACHED_TOKENS,
    CLOSING,
    EARLIER_QUESTION,
    LAYERS,
    NOTE,
    NUM_SLOTS,
    PROMPT_TOKENS,
    QUESTION,
    SCHEDULER,
    SLOT,
    WAY_DOWN,
    WAY_UP,
)
from astrai.config import DTYPE_BYTES, EngineConfig, ModelConfig, SamplingParams
from astrai.trace.events import PHASES

SERVER, ENGINE, _, _, MODEL = range(5)
ROOT = Path(astrai.__file__).parents[1]
BIG = ModelConfig.preset("1b")


def said(layer: int) -> str:
    return "; ".join(LAYERS[layer].details)


def test_every_layer_stands_where_its_path_says():
    assert len(LAYERS) == 5
    for layer in LAYERS:
        path = ROOT / layer.path
        assert path.is_dir() if layer.path.endswith("/") else path.is_file(), layer.path


@pytest.mark.parametrize(
    ("layer", "module", "name"),
    [
        (SERVER, "astrai.inference.server.app", "create_app"),
        (ENGINE, "astrai.inference.engine", "InferenceEngine"),
        (SCHEDULER, "astrai.inference.scheduler", "InferenceScheduler"),
        (CACHE, "astrai.inference.cache.prefix_cache", "PrefixCacheManager"),
        (CACHE, "astrai.inference.cache.kv_cache", "KVCache"),
        (MODEL, "astrai.model.transformer", "Transformer"),
    ],
)
def test_every_class_is_written_in_the_file_of_its_layer(layer, module, name):
    thing = getattr(importlib.import_module(module), name)
    written = Path(inspect.getsourcefile(thing)).relative_to(ROOT).as_posix()
    assert written.startswith(LAYERS[layer].path)
    if inspect.isclass(thing):
        assert name.replace("KVCache", "KV Cache") in LAYERS[layer].name


# --- the server and the engine ----------------------------------------------------------------------------------------


def test_the_endpoints_are_routes_of_the_real_app():
    from fastapi import FastAPI

    from astrai.inference.server.app import create_app

    app = create_app(None)
    endpoints = re.findall(r"/[\w/]+", said(SERVER))
    assert endpoints == ["/v1/chat/completions", "/health", "/stats"]
    routes = {route.path: route for route in app.routes}
    assert "FastAPI" in said(SERVER) and isinstance(app, FastAPI)
    answers = app.openapi()["paths"]["/v1/chat/completions"]["post"]["responses"]["200"]["content"]
    assert "streaming SSE" in said(SERVER) and "text/event-stream" in answers
    for path in endpoints:
        assert inspect.iscoroutinefunction(routes[path].endpoint), f"{path} is not async"


def test_the_engine_has_the_methods_and_modes_that_it_is_said_to_have():
    from astrai.inference.accumulator import Accumulator
    from astrai.inference.engine import InferenceEngine

    methods = re.findall(r"(\w+)\(\)", said(ENGINE))
    assert methods == ["generate", "generate_async", "generate_with_request"]
    assert all(callable(getattr(InferenceEngine, name)) for name in methods)
    assert inspect.isasyncgenfunction(InferenceEngine.generate_async)
    assert "batch mode, streaming generator" in said(ENGINE)
    assert "stream" in inspect.signature(InferenceEngine.generate).parameters
    assert "thread-safe accumulator" in said(ENGINE)
    assert hasattr(Accumulator(None)._changed, "notify_all"), "not guarded by a condition"


# --- the scheduler and the cache --------------------------------------------------------------------------------------


def test_the_four_phases_are_those_of_the_loop_in_their_order():
    from astrai.inference.scheduler import InferenceScheduler

    named = said(SCHEDULER).split(";")[0].split(": ")[1].split(", ")
    assert [name.lower() for name in named] == list(PHASES)
    assert f"a {len(PHASES)}-phase loop" in said(SCHEDULER)
    calls = re.findall(r"self\.(\w+)\(\)", inspect.getsource(InferenceScheduler.step))
    assert [call for call in calls if call in PHASES] == list(PHASES)


def test_the_scheduler_runs_on_a_daemon_thread_and_decodes_by_either_policy():
    from astrai.inference.daemon import SchedulerDaemon

    assert "background daemon" in said(SCHEDULER)
    assert "daemon=True" in inspect.getsource(SchedulerDaemon.start)
    assert "ragged or position-grouped decode" in said(SCHEDULER)
    assert EngineConfig().decode_policy == "ragged"
    assert EngineConfig(decode_policy="grouped").decode_policy == "grouped"


def test_a_slot_is_allocated_from_a_bitmask_without_a_loop():
    from astrai.inference.cache.slots import SlotAllocator

    assert "bitmask O(1) slot allocation" in said(SCHEDULER)
    assert isinstance(SlotAllocator(4).free_mask, int)
    source = inspect.getsource(SlotAllocator.allocate)
    assert "candidates & -candidates" in source and not re.search(r"\b(for|while)\b", source)


def test_the_cache_does_what_it_is_said_to_do():
    from astrai.inference.cache.kv_cache import KVCache
    from astrai.inference.cache.radix_tree import RadixTree
    from astrai.inference.cache.slots import Handle
    from astrai.trace.events import SlotReused

    words = (
        "radix tree prefix matching, LRU eviction, slot versioning; zero-copy reuse, else copy_() on the GPU; k_cache"
    )
    assert said(CACHE) == f"{words} / v_cache tensors"
    assert RadixTree.match_prefix and RadixTree.lru_leaf
    assert "version" in Handle._fields
    assert "Zero-copy" in SlotReused.__doc__
    assert "copy_(" in inspect.getsource(KVCache.copy_prefix)
    tiny = KVCache(ModelConfig.preset("tiny"), 1, 2)
    assert isinstance(tiny.k_cache, torch.Tensor) and isinstance(tiny.v_cache, torch.Tensor)


# --- the transformer --------------------------------------------------------------------------------------------------


def test_the_figures_of_the_transformer_are_those_of_the_1b_preset():
    dtype = next(name for name in DTYPE_BYTES if name in said(MODEL))
    numbers = re.fullmatch(
        rf"(\d+) DecoderBlocks, GQA (\d+):1, RoPE, SwiGLU MLP; dim (\d+), max length (\d+), {dtype}, (\d+)K vocabulary",
        said(MODEL),
    )
    blocks, queries_per_kv, dim, longest, thousands = map(int, numbers.groups())
    assert (blocks, queries_per_kv, dim) == (BIG.num_layers, BIG.queries_per_kv, BIG.hidden_size)
    assert (longest, dtype, thousands * 1000) == (BIG.max_seq_len, BIG.dtype, BIG.vocab_size)


def test_the_1b_preset_builds_that_transformer():
    from astrai.model.layers import SwiGLU
    from astrai.model.rope import RotaryEmbedding
    from astrai.model.transformer import DecoderBlock, Transformer

    with torch.device("meta"):
        model = Transformer(BIG)
    parameters = sum(parameter.numel() for parameter in model.parameters())
    assert round(parameters / 1e9) == 1 and LAYERS[MODEL].name == "Transformer, 1B parameters"
    assert parameters == BIG.num_parameters and "1B params" in CLOSING[1]
    assert len(model.blocks) == 24 and all(type(block) is DecoderBlock for block in model.blocks)
    assert type(model.blocks[0].mlp) is SwiGLU and type(model.rope) is RotaryEmbedding


def test_open_source_is_what_the_licence_says():
    assert "Open Source" in CLOSING[1] and "Apache License" in (ROOT / "LICENSE").read_text()


# --- the journey ------------------------------------------------------------------------------------------------------


def test_the_chat_on_its_way_through_the_layers_is_a_real_one():
    from astrai.trace.events import PrefixCopied

    model, tokenizer = astrai.load("tiny", device="cpu")
    engine = astrai.InferenceEngine(model, tokenizer, num_slots=NUM_SLOTS, start=False)
    for question, longest in ((EARLIER_QUESTION, 2), (QUESTION, len(ANSWER))):
        messages = [{"role": "user", "content": question}]
        request = astrai.GenerationRequest(messages=messages, sampling=SamplingParams(max_tokens=longest))
        stream = engine.submit(request)
        while stream.output.ending is None:
            engine.scheduler.step()
    result = stream.result()
    copied = [record.event for record in engine.trace.records if isinstance(record.event, PrefixCopied)]
    engine.shutdown()
    assert (result.prompt_tokens, result.cached_tokens) == (PROMPT_TOKENS, CACHED_TOKENS)
    assert result.token_ids == ANSWER_IDS and result.text == "".join(ANSWER)
    assert [tokenizer.decode([token_id]) for token_id in ANSWER_IDS] == list(ANSWER)
    assert [(event.dst, event.length) for event in copied] == [(SLOT, CACHED_TOKENS)]


def test_the_card_goes_down_layer_by_layer_and_the_token_goes_up():
    assert [stop.layer for stop in WAY_DOWN] == [0, 1, 2, 3, 4]
    assert [stop.layer for stop in WAY_UP] == [4, 2, 1, 0]
    assert NOTE == "Key Innovations: Continuous Batching + Prefix Cache"
