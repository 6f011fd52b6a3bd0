"""The engine as its users see it, on a small random model."""

import asyncio
import contextlib
import gc
import logging
import subprocess
import sys
import threading

import pytest
import torch

import astrai
from astrai.config import EngineConfig, SamplingParams
from astrai.inference.accumulator import Accumulator
from astrai.inference.cache.kv_cache import KVCacheTooLarge
from astrai.inference.cache.prefix_cache import PrefixCacheManager
from astrai.inference.cache.radix_tree import RadixTree
from astrai.inference.cache.slots import SlotAllocator
from astrai.inference.engine import GenerationError, GenerationRequest
from astrai.inference.inbox import EngineDeadError, QueueFullError
from astrai.inference.sampler import Sampler
from astrai.inference.scheduler import InferenceScheduler
from astrai.inference.witness import take_snapshot
from astrai.trace.replay import replay


def greedy(model, prompt_ids, max_tokens: int) -> list[int]:
    """The plain loop: everything again for each token, no cache."""
    ids = list(prompt_ids)
    with torch.inference_mode():
        for _ in range(max_tokens):
            ids.append(int(model(torch.tensor([ids]))[0, -1].argmax()))
    return ids[len(prompt_ids) :]


def ids_request(prompt_ids, **sampling) -> GenerationRequest:
    return GenerationRequest(list(prompt_ids), sampling=SamplingParams(ignore_eos=True, **sampling))


# --- generate ---------------------------------------------------------------------------------------------------------


def test_generate_returns_the_text_that_a_plain_loop_gives(make_engine, model, tokenizer):
    engine = make_engine()
    prompt = [tokenizer.bos_id, *tokenizer.encode("The fox")]
    expected = tokenizer.decode(greedy(model, prompt, 12))
    assert engine.generate("The fox", max_tokens=12, ignore_eos=True) == expected
    assert engine.generate(prompt, max_tokens=12, ignore_eos=True) == expected


def test_a_batch_returns_every_text_in_full_and_in_order(make_engine, model, tokenizer):
    """Defect 2: a batch of four once returned 1, 0, 0 and 0 tokens."""
    engine = make_engine(num_slots=2)
    prompts = ["a", "The fox", "", "ran to the"]
    texts = engine.generate(prompts, max_tokens=9, ignore_eos=True)
    for prompt, text in zip(prompts, texts, strict=True):
        assert text == tokenizer.decode(greedy(model, [tokenizer.bos_id, *tokenizer.encode(prompt)], 9))


def test_the_pieces_of_a_stream_join_to_the_text(make_engine):
    engine = make_engine()
    whole = engine.generate("The fox", max_tokens=30, ignore_eos=True)
    pieces = list(engine.generate("The fox", max_tokens=30, ignore_eos=True, stream=True))
    assert "".join(pieces) == whole and len(pieces) > 1 and all(pieces)


def test_a_batch_stream_yields_the_pieces_of_each_index(make_engine):
    engine = make_engine(num_slots=2)
    prompts = ["a", "The fox", "ran"]
    texts = ["", "", ""]
    order = []
    for index, piece in engine.generate(prompts, max_tokens=10, ignore_eos=True, stream=True):
        texts[index] += piece
        order.append(index)
    assert texts == engine.generate(prompts, max_tokens=10, ignore_eos=True)
    assert order != sorted(order), "the first two run at once, so their pieces alternate"


def test_leaving_a_stream_early_frees_its_slot(make_engine):
    """Defect 29."""
    engine = make_engine()
    for _ in engine.generate("The fox", max_tokens=100, ignore_eos=True, stream=True):
        break
    deadline = threading.Event()
    for _ in range(500):
        if engine.stats().free_slots == engine.stats().num_slots:
            break
        deadline.wait(0.01)
    assert engine.stats().finished == {"cancelled": 1}


def test_async_generation_gives_the_same_text_for_many_at_once(make_engine):
    engine = make_engine(num_slots=3)
    prompts = [f"fox {n}" for n in range(7)]
    expected = engine.generate(prompts, max_tokens=8, ignore_eos=True)

    async def collect(prompt: str) -> str:
        return "".join([piece async for piece in engine.generate_async(prompt, max_tokens=8, ignore_eos=True)])

    async def main() -> list[str]:
        return await asyncio.gather(*map(collect, prompts))

    assert asyncio.run(main()) == expected


def test_generation_does_not_block_the_event_loop(make_engine):
    """Defect 20."""
    engine = make_engine()

    async def main() -> int:
        ticks = 0

        async def tick() -> None:
            nonlocal ticks
            while True:
                ticks += 1
                await asyncio.sleep(0)

        ticker = asyncio.create_task(tick())
        pieces = [piece async for piece in engine.generate_async("The fox", max_tokens=30, ignore_eos=True)]
        ticker.cancel()
        assert pieces
        return ticks

    assert asyncio.run(main()) > 30


def test_leaving_an_async_loop_cancels_its_request(make_engine):
    engine = make_engine()

    async def main() -> None:
        pieces = engine.generate_async("The fox", max_tokens=100, ignore_eos=True)
        async for _ in pieces:
            break
        await pieces.aclose()

    asyncio.run(main())
    engine.generate("next", max_tokens=1)
    assert engine.stats().finished["cancelled"] == 1


# --- results ----------------------------------------------------------------------------------------------------------


def test_a_result_tells_ids_reason_usage_and_times(make_engine, model):
    engine = make_engine()
    prompt = list(range(10, 40))
    first = engine.generate_with_request(ids_request(prompt, max_tokens=6))
    again = engine.generate_with_request(ids_request(prompt, max_tokens=6))
    assert list(first.token_ids) == list(again.token_ids) == greedy(model, prompt, 6)
    assert (first.finish_reason, first.prompt_tokens, first.completion_tokens) == ("length", 30, 6)
    assert (first.cached_tokens, again.cached_tokens) == (0, 29)
    assert len(first.token_times) == 6 and list(first.token_times) == sorted(first.token_times)
    assert 0 < first.ttft == first.token_times[0]
    assert first.logprobs == () and first.error == ""


def test_messages_go_through_the_chat_template_and_the_next_turn_is_found(make_engine, tokenizer):
    engine = make_engine()
    messages = [{"role": "user", "content": "The fox"}]
    sampling = SamplingParams(max_tokens=8)
    first = engine.generate_with_request(GenerationRequest(messages=messages, sampling=sampling))
    assert first.prompt_tokens == len(tokenizer.apply_chat_template(messages))
    messages += [{"role": "assistant", "content": "ran"}, {"role": "user", "content": "to"}]
    second = engine.generate_with_request(GenerationRequest(messages=messages, sampling=sampling))
    assert second.cached_tokens >= first.prompt_tokens


def test_logprobs_are_those_of_the_model(make_engine, model):
    engine, prompt = make_engine(), [5, 6, 7]
    result = engine.generate_with_request(ids_request(prompt, max_tokens=5, logprobs=3))
    ids = [*prompt, *result.token_ids]
    with torch.inference_mode():
        expected = model(torch.tensor([ids]))[0].log_softmax(-1)
    for index, (logprob, top) in enumerate(zip(result.logprobs, result.top_logprobs, strict=True)):
        row = expected[len(prompt) - 1 + index]
        assert logprob == pytest.approx(float(row[result.token_ids[index]]), abs=1e-4)
        assert [token_id for token_id, _ in top] == row.topk(3).indices.tolist()


def test_a_stop_string_ends_the_text_before_it(make_engine):
    engine = make_engine()
    whole = engine.generate("The fox", max_tokens=40, ignore_eos=True)
    stop = whole[8:11]
    request = GenerationRequest("The fox", sampling=SamplingParams(max_tokens=40, ignore_eos=True, stop=(stop,)))
    result = engine.generate_with_request(request)
    assert result.text == whole[: whole.index(stop)] and result.finish_reason == "stop"
    pieces = list(engine.generate("The fox", max_tokens=40, ignore_eos=True, stop=(stop,), stream=True))
    assert "".join(pieces) == result.text


def test_an_eos_token_is_counted_but_not_shown(make_engine, model, tokenizer):
    engine, prompt = make_engine(), [5, 6, 7]
    third = greedy(model, prompt, 3)[2]
    request = GenerationRequest(prompt, sampling=SamplingParams(max_tokens=9, stop_ids=(third,)))
    result = engine.generate_with_request(request)
    assert result.token_ids[-1] == third and result.finish_reason == "stop"
    shown = result.token_ids[: result.token_ids.index(third)]
    assert result.text == tokenizer.decode(shown)


def test_temperature_zero_is_greedy_beside_requests_that_sample(make_engine, model):
    """Defects 3 and 12."""
    engine, prompt = make_engine(num_slots=8), [9, 8, 7]
    streams = [
        engine.submit(ids_request(prompt, max_tokens=20, temperature=t, top_k=50 if t else 0)) for t in (0, 1.5, 0, 3)
    ]
    results = [stream.result(30) for stream in streams]
    assert list(results[0].token_ids) == list(results[2].token_ids) == greedy(model, prompt, 20)
    assert results[1].token_ids != results[0].token_ids


def test_a_seeded_request_gives_the_same_tokens_whatever_runs_beside_it(make_engine):
    engine = make_engine(num_slots=6)
    seeded = ids_request([1, 2, 3], max_tokens=16, temperature=1.0, top_p=0.9, seed=7)
    alone = engine.generate_with_request(seeded).token_ids
    beside = [engine.submit(ids_request([n, 2, 3], max_tokens=16, temperature=2.0)) for n in range(20, 25)]
    assert engine.submit(seeded).result(30).token_ids == alone
    assert all(stream.result(30).finish_reason == "length" for stream in beside)


def test_two_unseeded_requests_draw_different_seeds(make_engine):
    engine = make_engine()
    request = ids_request([1, 2, 3], max_tokens=24, temperature=1.5)
    assert engine.generate_with_request(request).token_ids != engine.generate_with_request(request).token_ids


def test_timeouts_end_a_request_with_what_it_has(make_engine):
    engine = make_engine()
    gate = threading.Event()
    slow = GenerationRequest(
        [1, 2],
        sampling=SamplingParams(max_tokens=100, ignore_eos=True),
        timeout=0.05,
        on_token=lambda _: gate.wait(0.03),
    )
    result = engine.generate_with_request(slow)
    assert result.finish_reason == "timeout" and 0 < result.completion_tokens < 100


# --- refusals ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("request_or_settings", "message"),
    [
        (dict(prompt=[]), "the prompt has no tokens"),
        (dict(prompt=[1] * 128), "prompt has 128 tokens, but a row holds 128"),
        (dict(prompt=[1.5]), "a prompt is text or a list of token ids"),
        (dict(prompt=["12"]), "a prompt is text or a list of token ids"),
        (dict(prompt=[-1]), "the prompt has token id -1, but the vocabulary is 0 to "),
        (dict(prompt=[300]), "the prompt has token id 300"),
        (dict(prompt=[1], sampling=SamplingParams(logit_bias={999: 1.0})), "logit_bias has token id 999"),
        (dict(prompt=[1], sampling=SamplingParams(stop_ids=(999,))), "stop_ids has token id 999"),
        (dict(messages=[{"role": "wizard", "content": "x"}]), "unknown role wizard"),
    ],
)
def test_what_can_never_run_is_refused_and_disturbs_nobody(make_engine, model, request_or_settings, message):
    engine = make_engine()
    running = engine.submit(ids_request([1, 2, 3], max_tokens=20))
    with pytest.raises(ValueError, match=message):
        engine.submit(GenerationRequest(**request_or_settings))
    assert list(running.result(30).token_ids) == greedy(model, [1, 2, 3], 20)


def test_a_request_needs_exactly_one_of_prompt_and_messages():
    with pytest.raises(ValueError, match="either prompt= or messages="):
        GenerationRequest()
    with pytest.raises(ValueError, match="either prompt= or messages="):
        GenerationRequest("a", messages=[])
    with pytest.raises(ValueError, match="timeout is 0"):
        GenerationRequest("a", timeout=0)


def test_without_a_tokenizer_ids_work_and_text_is_refused(make_engine, model):
    engine = make_engine(tokenizer=None)
    result = engine.generate_with_request(ids_request([1, 2], max_tokens=3))
    assert list(result.token_ids) == greedy(model, [1, 2], 3) and result.text == ""
    with pytest.raises(ValueError, match="a text prompt needs a tokenizer"):
        engine.generate("text")


def test_one_bad_prompt_of_a_batch_cancels_the_others(make_engine):
    engine = make_engine()
    with pytest.raises(ValueError, match="no tokens"):
        engine.generate([[1, 2], []], max_tokens=100, ignore_eos=True)
    engine.generate([1], max_tokens=1)
    assert engine.stats().finished.get("cancelled") == 1


def test_a_full_queue_is_told_at_once(make_engine):
    engine = make_engine(num_slots=1, max_waiting=2, start=False)
    for _ in range(2):
        engine.submit(ids_request([1, 2], max_tokens=2))
    with pytest.raises(QueueFullError, match="2 requests wait already"):
        engine.submit(ids_request([1, 2], max_tokens=2))


def test_a_cache_that_does_not_fit_is_refused_with_the_numbers(model, tokenizer):
    with pytest.raises(KVCacheTooLarge, match="64"):
        astrai.InferenceEngine(model, tokenizer, num_slots=64, kv_memory_bytes=1000)


def test_settings_and_config_are_not_mixed(model, tokenizer):
    with pytest.raises(ValueError, match="not both"):
        astrai.InferenceEngine(model, tokenizer, EngineConfig(), num_slots=3)


# --- faults -----------------------------------------------------------------------------------------------------------


def test_an_exception_in_the_model_ends_its_batch_and_the_engine_goes_on(make_engine, model, caplog):
    caplog.set_level(logging.CRITICAL)
    engine = make_engine()
    forward, calls = engine.scheduler.runner.decode, iter(range(100))

    def failing(requests):
        if next(calls) == 2:
            raise RuntimeError("planted")
        return forward(requests)

    engine.scheduler.runner.decode = failing
    result = engine.generate_with_request(ids_request([1, 2], max_tokens=9))
    assert (result.finish_reason, result.completion_tokens) == ("error", 3)
    assert "planted" in result.error
    with pytest.raises(GenerationError, match="planted"):
        calls = iter([2])
        engine.generate([1, 2], max_tokens=9, ignore_eos=True)
    calls = iter(range(50, 100))
    again = engine.generate_with_request(ids_request([1, 2], max_tokens=9))
    assert list(again.token_ids) == greedy(model, [1, 2], 9)
    assert engine.stats().alive


def test_a_raising_callback_ends_its_own_request(make_engine, model, caplog):
    caplog.set_level(logging.CRITICAL)
    engine = make_engine()

    def fail(token_id: int) -> None:
        raise KeyError("planted")

    bad = engine.submit(GenerationRequest([1, 2], sampling=SamplingParams(max_tokens=20), on_token=fail))
    good = engine.submit(ids_request([3, 4], max_tokens=20))
    assert bad.result(30).finish_reason == "error" and "KeyError('planted')" in bad.result().error
    assert list(good.result(30).token_ids) == greedy(model, [3, 4], 20)


def test_a_callback_that_exits_ends_its_own_request(make_engine, model, caplog):
    caplog.set_level(logging.CRITICAL)
    engine = make_engine()
    bad = engine.submit(GenerationRequest([1, 2], sampling=SamplingParams(max_tokens=20), on_token=sys.exit))
    good = engine.submit(ids_request([3, 4], max_tokens=20))
    assert bad.result(30).finish_reason == "error" and "SystemExit" in bad.result().error
    assert list(good.result(30).token_ids) == greedy(model, [3, 4], 20)


def test_a_tokenizer_that_fails_leaves_nobody_waiting(make_engine, caplog):
    caplog.set_level(logging.CRITICAL)
    engine = make_engine()
    stream = engine.submit(ids_request([1, 2], max_tokens=5))
    stream.output._decoder.put = stream.output._decoder.flush = lambda *_: 1 / 0
    assert stream.result(30).finish_reason in ("error", "length")


def test_a_closed_event_loop_does_not_end_a_request(make_engine, model):
    engine = make_engine(start=False)
    stream = engine.submit(ids_request([1, 2], max_tokens=20))

    async def look_once() -> None:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(anext(aiter(stream)), 0.01)

    loop = asyncio.new_event_loop()
    loop.run_until_complete(look_once())
    loop.close()
    engine.daemon.start()
    assert list(stream.result(30).token_ids) == greedy(model, [1, 2], 20)


def test_an_engine_that_nobody_holds_ends_its_loop_but_a_stream_holds_it(make_engine, model):
    engine = astrai.InferenceEngine(model, num_slots=1)
    daemon, stream = engine.daemon, engine.submit(ids_request([1, 2], max_tokens=100))
    del engine
    gc.collect()
    assert stream.result(30).completion_tokens == 100
    del stream
    gc.collect()
    assert not daemon.is_alive


def test_a_scheduler_that_is_stepped_by_hand_outlives_its_engine(make_engine, model):
    engine = astrai.InferenceEngine(model, num_slots=1, start=False)
    scheduler, output = engine.scheduler, engine.submit(ids_request([1, 2], max_tokens=3)).output
    del engine
    gc.collect()
    while scheduler.has_work:
        scheduler.step()
    assert output.ending.reason == "length"


def test_a_script_that_ends_in_mid_request_ends_cleanly():
    script = """
import astrai, torch
from astrai.config import ModelConfig
from astrai.model.transformer import Transformer
engine = astrai.InferenceEngine(Transformer.random(ModelConfig.preset("tiny"), 0), num_slots=2)
request = astrai.GenerationRequest([1, 2], sampling=astrai.SamplingParams(max_tokens=900, ignore_eos=True))
streams = [engine.submit(request) for _ in range(4)]
streams[0].output.wait_for_piece(0) if engine.tokenizer else None
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr


def test_a_dead_engine_says_so_to_those_who_wait_and_those_who_come(make_engine, caplog):
    """Defects 3 and 19."""
    caplog.set_level(logging.CRITICAL)
    engine = make_engine()

    def broken() -> None:
        raise ZeroDivisionError("planted")

    engine.scheduler.refill = broken
    with pytest.raises(GenerationError, match="the engine's loop has died: ZeroDivisionError"):
        list(engine.generate([1, 2], max_tokens=5, stream=True))
    with pytest.raises(EngineDeadError, match="the engine's loop has died"):
        engine.generate([1, 2])
    stats = engine.stats()
    assert not stats.alive and "ZeroDivisionError" in stats.error


def test_a_shutdown_is_not_a_normal_end_of_text(make_engine):
    engine = make_engine()
    stream = engine.generate("The fox", max_tokens=110, ignore_eos=True, stream=True)
    next(stream)
    engine.shutdown()
    with pytest.raises(GenerationError, match="the engine was shut down"):
        list(stream)


def test_an_engine_leaves_no_thread_behind(make_engine):
    before = threading.active_count()
    engine = make_engine()
    engine.generate([1, 2], max_tokens=2)
    assert engine.shutdown(5) and threading.active_count() == before
    assert engine.shutdown(5), "twice is no error"


# --- trace and parts --------------------------------------------------------------------------------------------------


def test_the_trace_replays_to_the_engines_own_state(make_engine, tmp_path):
    engine = make_engine(num_slots=3, trace_events=50)  # a small ring, so that the base is used too
    with engine.trace.record(tmp_path / "run.jsonl"):
        engine.generate([f"fox {n}" for n in range(9)], max_tokens=12, ignore_eos=True)
        engine.generate(["fox 1 ran", "fox 2"], max_tokens=12, ignore_eos=True)
        engine.shutdown()
    assert engine.snapshot() == replay(engine.trace) == take_snapshot(engine.scheduler)
    loaded = type(engine.trace).load(tmp_path / "run.jsonl")
    assert replay(loaded) == take_snapshot(engine.scheduler)


def test_every_part_can_be_the_callers_own(make_engine, model):
    made = []

    class MySlots(SlotAllocator):
        def allocate(self, among=None):
            made.append("slots")
            return super().allocate(among)

    class MyTree(RadixTree):
        def split(self, node, length, changes):
            made.append("tree")
            return super().split(node, length, changes)

    class MyCache(PrefixCacheManager):
        def place(self, request_id, match):
            made.append("prefix_cache")
            return super().place(request_id, match)

    class MyScheduler(InferenceScheduler):
        def refill(self):
            made.append("scheduler")
            super().refill()

    class MySampler(Sampler):
        def __call__(self, logits, requests):
            made.append("sampler")
            return super().__call__(logits, requests)

    engine = make_engine(slots=MySlots, tree=MyTree, prefix_cache=MyCache, scheduler=MyScheduler, sampler=MySampler())
    for prompt in ([1, 2, 3, 4], [1, 2, 9, 9]):
        result = engine.generate_with_request(ids_request(prompt, max_tokens=4))
        assert list(result.token_ids) == greedy(model, prompt, 4)
    assert set(made) == {"slots", "tree", "prefix_cache", "scheduler", "sampler"}


def test_the_prefix_cache_can_be_switched_off(make_engine):
    engine = make_engine(prefix_cache=False)
    for _ in range(2):
        assert engine.generate_with_request(ids_request([1, 2, 3], max_tokens=2)).cached_tokens == 0
    assert not engine.config.prefix_cache and engine.stats().tree_tokens == 0


def test_stats_add_up(make_engine):
    engine = make_engine(num_slots=3)
    engine.generate([[1, 2, 3], [1, 2, 3]], max_tokens=4, ignore_eos=True)
    engine.shutdown()
    stats = engine.stats()
    assert (stats.arrived, stats.finished, stats.free_slots) == (2, {"length": 2}, 3)
    assert stats.prefilled_tokens + stats.cached_tokens == 6 and stats.hit_rate == pytest.approx(2 / 6)
    assert stats.decoded_tokens == 2 * 3 and stats.tree_tokens == 6
    assert stats.kv_cache_bytes == engine.kv_cache.k_cache.nbytes * 2


def test_the_accumulator_holds_no_more_than_the_output(make_engine):
    engine = make_engine()
    stream = engine.submit(ids_request([1, 2], max_tokens=30))
    stream.result(30)
    assert isinstance(stream.output, Accumulator) and len(stream.output.pieces) <= 30
