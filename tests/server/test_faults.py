"""Something fails in the middle of many streams: who is not concerned notices nothing, and who is, is told."""

import logging
import random
import threading
import time
from collections.abc import Callable, Iterator, Sequence

import httpx
import pytest

from astrai.config import SamplingParams
from astrai.inference.engine import GenerationRequest, InferenceEngine
from astrai.inference.server.background import BackgroundServer
from astrai.inference.server.forms import Form
from astrai.model.transformer import Transformer
from astrai.tokenizer import Tokenizer
from benchmarks.http_load import Client, Solo, prompts, solos
from benchmarks.sse import Answer, Ask, ask_all_now
from tests.server.health import checkups
from tests.server.logs import listening
from tests.server.waiting import until

LONG = 48  # tokens


@pytest.fixture(scope="module")
def solo(model: Transformer, tokenizer: Tokenizer) -> list[Solo]:
    """What eight requests give alone."""
    with InferenceEngine(model, tokenizer, num_slots=1) as engine:
        return solos(engine, "tiny", ((prompt, LONG) for prompt, _ in prompts(random.Random(3))), count=8)


def ask(url: str, solo: Sequence[Solo]) -> list[Answer]:
    return ask_all_now(url, [Ask(each.path, each.body) for each in solo])


def is_right(solo: Solo, answer: Answer) -> bool:
    """Whether the stream is complete and what it is alone."""
    return Client(solo, Ask(solo.path, solo.body)).complaint(answer) is None


def failed_plainly(solo: Solo, answer: Answer) -> bool:
    """Whether the stream began as it is alone, and ended with an error instead of an end that looks like one."""
    error = answer.error
    assert error is not None and set(error) == {"message", "type", "param", "code"}
    assert answer.is_whole and not answer.has_done and (answer.status != 200 or answer.finish_reason is None)
    assert "planted" not in answer.body.decode(), "what went wrong inside is for the log"
    return answer.status in (500, 503) or solo.text.startswith(answer.text)


@pytest.mark.parametrize(("phase", "call"), [("prefill", 1), ("decode", 1), ("decode", 9), ("decode", 30)])
def test_a_model_that_fails_once_fails_the_requests_of_that_batch_and_no_other(
    phase: str,
    call: int,
    solo: list[Solo],
    engine: InferenceEngine,
    url: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    runner, calls = engine.scheduler.runner, 0
    work = getattr(runner, phase)

    def fail_at_call(batch: Sequence[object]) -> object:
        nonlocal calls
        calls += 1
        if calls == call:
            raise RuntimeError("planted: the model has failed")
        return work(batch)

    monkeypatch.setattr(runner, phase, fail_at_call)
    with checkups(url) as health:
        answers = ask(url, solo * 2)
    wrong = [(each, answer) for each, answer in zip(solo * 2, answers, strict=True) if not is_right(each, answer)]
    assert 1 <= len(wrong) <= 8, "one batch"
    assert all(failed_plainly(each, answer) for each, answer in wrong)
    assert "planted" in caplog.text
    assert set(health.statuses) == {200}
    assert all(map(is_right, solo, ask(url, solo))), "and afterwards all is as before"


def test_a_callback_that_raises_ends_its_own_request_alone(solo: list[Solo], engine: InferenceEngine, url: str) -> None:
    def raise_at_once(token_id: int) -> None:
        raise RuntimeError("planted: the callback has failed")

    prompt = GenerationRequest("The fox", sampling=SamplingParams(max_tokens=50), on_token=raise_at_once)
    with checkups(url) as health:
        broken = [engine.submit(prompt) for _ in range(3)]
        answers = ask(url, solo)
        broken.append(engine.submit(prompt))
    assert {stream.result(20).finish_reason for stream in broken} == {"error"}
    assert all(map(is_right, solo, answers))
    assert set(health.statuses) == {200}


def test_an_answer_that_fails_on_its_way_out_takes_no_other_with_it(
    solo: list[Solo], url: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    ends, end, lock = 0, Form.end, threading.Lock()

    def fail_first(form: Form, usage: object) -> bytes:
        nonlocal ends
        with lock:
            ends += 1
            if ends == 1:
                raise RuntimeError("planted: the form has failed")
        return end(form, usage)  # type: ignore[arg-type]

    monkeypatch.setattr(Form, "end", fail_first)
    with checkups(url) as health:
        answers = ask(url, solo)
    wrong = [(each, answer) for each, answer in zip(solo, answers, strict=True) if not is_right(each, answer)]
    assert len(wrong) == 1 and failed_plainly(*wrong[0])
    assert "planted" in caplog.text
    assert set(health.statuses) == {200}


class RaisingHandler(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        raise RuntimeError("planted: the disk is full")


@pytest.fixture
def raising_log() -> Iterator[None]:
    with listening(RaisingHandler()):
        yield


@pytest.mark.usefixtures("raising_log")
def test_a_log_that_cannot_be_written_costs_no_answer(solo: list[Solo], url: str) -> None:
    assert all(map(is_right, solo, ask(url, solo)))


def test_while_a_hook_sleeps_on_the_engines_thread_the_server_is_awake(
    solo: list[Solo], engine: InferenceEngine, url: str
) -> None:
    asleep, awake = threading.Event(), threading.Event()

    def sleep_once(token_id: int) -> None:
        if not asleep.is_set():
            asleep.set()
            awake.wait(20)

    prompt = GenerationRequest("The fox", sampling=SamplingParams(max_tokens=5), on_token=sleep_once)
    sleeper = engine.submit(prompt)
    assert asleep.wait(20)
    answers: list[Answer] = []
    asking = threading.Thread(target=lambda: answers.extend(ask(url, solo)))
    asking.start()
    with checkups(url) as health:
        until(lambda: len(health.statuses) >= 10)
    assert asking.is_alive() and not answers, "the engine should be asleep"
    awake.set()
    asking.join(20)
    assert set(health.statuses) == {200}
    assert all(map(is_right, solo, answers))
    assert sleeper.result(20).finish_reason == "length"


def test_health_answers_while_streams_run_and_long_prompts_are_cut(
    solo: list[Solo], url: str, record_testsuite_property: Callable[[str, object], None]
) -> None:
    story = "The fox ran to the café. " * 7_500  # nearly as long as is allowed, and far longer than a row
    with checkups(url) as health, httpx.Client(base_url=url, timeout=30) as client:
        asking = threading.Thread(target=ask, args=(url, solo * 3))
        asking.start()
        for _ in range(2):
            answer = client.post("/v1/completions", json={"model": "tiny", "prompt": story})
            assert answer.json()["error"]["code"] == "context_length_exceeded"
        asking.join()
    assert set(health.statuses) == {200}
    record_testsuite_property("slowest /health in ms", round(1e3 * max(health.seconds)))
    assert max(health.seconds) < 3, "a generous bound for a busy machine: what blocks the loop takes longer"


def test_an_engine_that_dies_says_so_to_everybody(
    solo: list[Solo], engine: InferenceEngine, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps, cleanup = 0, engine.scheduler.cleanup

    def die_at_step_20() -> None:
        nonlocal steps
        steps += 1
        if steps == 20:
            raise RuntimeError("planted: the loop has failed")
        cleanup()

    monkeypatch.setattr(engine.scheduler, "cleanup", die_at_step_20)
    started = time.monotonic()
    answers = ask(url, solo * 2)  # some run, some wait
    assert all(failed_plainly(each, answer) for each, answer in zip(solo * 2, answers, strict=True))
    health = httpx.get(f"{url}/health")
    assert health.status_code == 503 and health.json()["status"] == "dead"
    later = ask(url, solo[:1])[0]
    assert later.status == 503 and later.error and later.error["code"] == "dead"
    assert time.monotonic() - started < 20, "nobody waited for a time to be up"


def test_a_server_that_stops_ends_its_streams_with_the_reason(
    solo: list[Solo], engine: InferenceEngine, serve: Callable[..., BackgroundServer]
) -> None:
    server = serve()
    endless = [Ask(each.path, each.body | {"max_tokens": 400, "stop": None}) for each in solo]
    answers: list[Answer] = []
    asking = threading.Thread(target=lambda: answers.extend(ask_all_now(server.url, endless)))
    asking.start()
    until(lambda: engine.stats().decoded_tokens > 0 and engine.stats().running == 8)
    started = time.monotonic()
    server.stop()
    assert time.monotonic() - started < 3
    asking.join(20)
    for each, answer in zip(solo, answers, strict=True):
        if answer.finish_reason is None:
            assert failed_plainly(each, answer) or answer.text.startswith(each.text)
            assert answer.error and answer.error["code"] == "closing"
    assert any(answer.error for answer in answers)
    until(lambda: engine.stats().free_slots == 8)
