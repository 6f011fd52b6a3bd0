"""Clients that leave or do not read, models that fail, queues that are full, and a loop that must never stand still."""

import asyncio
import gc
import json
import logging
import socket
import threading
import time
from contextlib import ExitStack, suppress

import httpx
import openai
import pytest

from astrai.config import SamplingParams
from astrai.inference.engine import GenerationRequest
from astrai.inference.server import listening
from astrai.inference.server.background import serve_in_background
from astrai.inference.server.forms import CompletionForm
from astrai.inference.server.service import SEND_INTERVAL
from tests.inference.serving import PacedSampler, RawClient, wait_until

LONG = {"model": "tiny", "prompt": "The fox", "temperature": 0, "max_tokens": 100}
ENDLESS = {**LONG, "logit_bias": {"65": 100}}  # one letter for ever, so that each token is text
STREAM = {**ENDLESS, "stream": True}


@pytest.fixture
def sampler():
    sampler = PacedSampler()
    yield sampler
    sampler.open()  # whatever the test did, the engine can end


@pytest.fixture
def engine(make_engine, sampler):
    return make_engine(sampler=sampler, num_slots=2)


@pytest.fixture
def serve():
    servers = []

    def start(engine, **settings):
        servers.append(serve_in_background(engine, **settings))
        return servers[-1]

    yield start
    for server in servers:
        server.stop()
        assert not server.is_running


def client_of(server, **options):
    return openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", **{"max_retries": 0, **options})


def idle(engine):
    stats = engine.stats()
    return stats.running == stats.waiting == 0 and stats.free_slots == stats.num_slots


# --- clients that leave -----------------------------------------------------------------------------------------------


def test_leaving_a_stream_frees_the_slot_within_one_step(serve, engine, sampler):
    """Defect 29."""
    server = serve(engine)
    with RawClient(server.url) as client:
        sampler.release(3)
        client.post("/v1/completions", STREAM).read_until(b'"text"')
        wait_until(sampler.waits.is_set)
    steps = engine.stats().steps
    wait_until(lambda: engine.scheduler.inbox, "the cancellation")
    sampler.release()  # the step that was under way, and no more
    wait_until(lambda: idle(engine), "the free slot")
    assert engine.stats().finished == {"cancelled": 1} and engine.stats().steps <= steps + 2


def test_leaving_before_a_whole_answer_is_there_frees_the_slot(serve, engine, sampler):
    server = serve(engine)
    with RawClient(server.url) as client:
        client.post("/v1/completions", ENDLESS)
        wait_until(sampler.waits.is_set)
    wait_until(lambda: engine.scheduler.inbox, "the cancellation")
    sampler.release(2)  # the prefill and the decode of the step that was under way
    wait_until(lambda: idle(engine), "the free slot")
    assert engine.stats().finished == {"cancelled": 1}


@pytest.mark.parametrize("body", [STREAM, ENDLESS])
def test_leaving_the_queue_frees_the_place_in_it(serve, engine, sampler, body):
    server = serve(engine)
    with RawClient(server.url) as first, RawClient(server.url) as second, RawClient(server.url) as third:
        first.post("/v1/completions", STREAM)
        wait_until(sampler.waits.is_set)
        second.post("/v1/completions", STREAM)
        third.post("/v1/completions", body)
        wait_until(lambda: engine.scheduler.inbox._queued == 2, "two in the queue")
        sampler.release(2)  # the prefill and the decode of the step that was under way
        wait_until(lambda: engine.stats().running == 2 and engine.stats().waiting == 1)
        third.close()
        sampler.release(5)
        wait_until(lambda: engine.stats().finished == {"cancelled": 1}, "the one that left")
        assert engine.stats().running == 2, "the others go on"


def test_leaving_one_stream_does_not_touch_another(serve, engine, sampler):
    sampler.open()
    server = serve(engine)
    expected = engine.generate("The fox", max_tokens=100, logit_bias={65: 100})
    with RawClient(server.url) as other:
        other.post("/v1/completions", STREAM).read_until(b'"text"')
        other.close()
    with client_of(server) as client:
        assert "".join(chunk.choices[0].text for chunk in client.completions.create(**STREAM)) == expected


# --- readers that do not read -----------------------------------------------------------------------------------------


def test_a_reader_that_takes_nothing_is_dropped_and_holds_nobody_up(serve, make_engine, caplog, monkeypatch):
    def bind_with_small_buffers(host, port):
        sock = listening.bind(host, port)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        return sock

    monkeypatch.setattr("astrai.inference.server.background.bind", bind_with_small_buffers)
    engine = make_engine()
    server = serve(engine, write_timeout=0.5)
    greedy = {**STREAM, "n": 4, "logprobs": 20}  # some 300 kB: far more than the buffers take
    with RawClient(server.url, receive_buffer=4096) as slow:
        slow.post("/v1/completions", greedy).read_until(b"HTTP/1.1 200")
        with client_of(server) as client:
            assert len(client.completions.create(**ENDLESS).choices[0].text) > 90
        wait_until(lambda: "dropped a reader" in caplog.text, "the drop")
        with suppress(ConnectionError):
            slow.read_all()
        assert b"[DONE]" not in slow.received
    wait_until(lambda: idle(engine))


# --- models that fail, loops that die, deadlines ----------------------------------------------------------------------


def test_a_failing_model_is_a_500_without_its_message_and_the_server_goes_on(serve, engine, sampler, caplog):
    server = serve(engine)
    sampler.open()
    sampler.fail = RuntimeError("secret weights")
    with client_of(server) as client:
        with pytest.raises(openai.InternalServerError) as caught:
            client.completions.create(**ENDLESS)
        assert caught.value.code == "internal_error" and "secret" not in str(caught.value.body)
        assert "secret weights" in caplog.text and caught.value.request_id in caplog.text
        assert client.completions.create(**ENDLESS).choices[0].text
    assert httpx.get(f"{server.url}/health").status_code == 200


def test_a_stream_that_fails_before_its_first_token_has_an_error_status(serve, engine, sampler):
    server = serve(engine)
    sampler.open()
    sampler.fail = RuntimeError("planted")
    with client_of(server) as client, pytest.raises(openai.InternalServerError):
        client.completions.create(**STREAM)


def test_a_stream_that_fails_later_says_so_to_the_stock_client_and_has_no_done(serve, engine, sampler):
    server = serve(engine)

    def fail_after_three():
        sampler.release(3)
        wait_until(lambda: engine.stats().decoded_tokens >= 2 and sampler.waits.is_set())
        sampler.fail = RuntimeError("planted")
        sampler.open()

    threading.Thread(target=fail_after_three).start()
    text = ""
    with client_of(server) as client, pytest.raises(openai.APIError) as caught:
        for chunk in client.completions.create(**STREAM):
            text += chunk.choices[0].text
    assert text == "\x41" * len(text) or text, "what came before stays with the client"
    assert caught.value.code == "internal_error" and "planted" not in str(caught.value)


def test_the_failing_stream_ends_without_done_on_the_wire(serve, engine, sampler):
    server = serve(engine)
    with RawClient(server.url) as client:
        sampler.release(2)
        client.post("/v1/completions", STREAM, connection="close").read_until(b'"text"')
        sampler.fail = RuntimeError("planted")
        sampler.open()
        raw = client.read_all()
    assert b"[DONE]" not in raw and b'data: {"error"' in raw and raw.endswith(b"0\r\n\r\n")


def test_one_failing_choice_fails_the_request_and_ends_the_others(serve, engine, sampler):
    server = serve(engine)
    sampler.open()
    sampler.fail = RuntimeError("planted")
    with client_of(server) as client, pytest.raises(openai.InternalServerError):
        client.completions.create(**{**ENDLESS, "prompt": ["a", "b", "c", "d"]})
    wait_until(lambda: idle(engine))


def test_a_deadline_is_a_504_that_clients_do_not_repeat(serve, engine, sampler):
    server = serve(engine, request_timeout=0.1)
    threading.Timer(0.3, sampler.open).start()
    with client_of(server, max_retries=2) as client, pytest.raises(openai.InternalServerError) as caught:
        client.completions.create(**ENDLESS)
    assert caught.value.status_code == 504 and caught.value.code == "timeout"
    assert engine.stats().arrived == 1


def test_a_dead_engine_is_a_503_everywhere_but_the_models(serve, engine, sampler):
    server = serve(engine)
    with RawClient(server.url) as client:
        sampler.release(2)
        client.post("/v1/completions", STREAM, connection="close").read_until(b'"text"')
        sampler.fail = SystemExit("planted")  # no Exception: the loop itself dies
        sampler.open()
        assert b'data: {"error"' in client.read_all()
    wait_until(lambda: not engine.daemon.is_alive)
    health = httpx.get(f"{server.url}/health")
    assert health.status_code == 503 and health.json()["status"] == "dead" and "planted" in health.json()["reason"]
    with client_of(server) as client, pytest.raises(openai.InternalServerError) as caught:
        client.completions.create(**ENDLESS)
    assert caught.value.status_code == 503
    assert httpx.get(f"{server.url}/stats").json()["alive"] is False


def test_an_engine_that_is_shut_down_ends_its_streams_with_the_reason(serve, engine, sampler):
    server = serve(engine)
    with RawClient(server.url) as client:
        sampler.release(2)
        client.post("/v1/completions", STREAM, connection="close").read_until(b'"text"')
        threading.Thread(target=engine.shutdown).start()
        wait_until(lambda: engine.scheduler.inbox.why_closed)
        sampler.open()
        assert b"the engine was shut down" in client.read_all()
    assert httpx.get(f"{server.url}/health").status_code == 503


# --- the queue --------------------------------------------------------------------------------------------------------


def test_a_full_queue_is_a_429_with_retry_after_and_nothing_of_the_request_runs(serve, make_engine, sampler):
    engine = make_engine(sampler=sampler, num_slots=1, max_waiting=2)
    server = serve(engine)
    with RawClient(server.url) as first:
        first.post("/v1/completions", STREAM)
        wait_until(sampler.waits.is_set)
        with client_of(server) as client, pytest.raises(openai.RateLimitError) as caught:
            client.completions.create(**{**ENDLESS, "prompt": ["a", "b", "c"]})
        assert caught.value.response.headers["retry-after"] == "1" and caught.value.code == "queue_full"
        sampler.release(2)
        wait_until(lambda: engine.stats().finished.get("cancelled") == 2, "the two that were queued")
        assert engine.stats().running == 1


def test_a_stream_in_the_queue_says_that_it_lives(serve, engine, sampler):
    server = serve(engine, keepalive=0.05)
    with RawClient(server.url) as client:
        received = client.post("/v1/completions", STREAM).read_until(b": nothing yet\n\n")
        assert b"200 OK" in received and b"data:" not in received
        sampler.open()
        assert b'"text"' in client.read_until(b"[DONE]")


# --- limits of a body -------------------------------------------------------------------------------------------------


def test_a_body_beyond_the_limit_is_refused_while_it_comes(serve, engine):
    server = serve(engine, max_body_bytes=1000)
    head = b"POST /v1/completions HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
    with RawClient(server.url) as told, RawClient(server.url) as chunked:
        told.socket.sendall(head + b"content-length: 100000000\r\n\r\n")
        assert b" 413 " in told.read_until(b"body_too_large")
        chunked.socket.sendall(head + b"transfer-encoding: chunked\r\n\r\n" + (b"190\r\n" + b"x" * 400 + b"\r\n") * 3)
        assert b" 413 " in chunked.read_until(b"body_too_large")


def test_a_body_that_does_not_come_is_refused_after_a_while(serve, engine):
    server = serve(engine, body_timeout=0.05)
    with RawClient(server.url) as client:
        client.post("/v1/completions", b"", content_length="10")
        assert b" 408 " in client.read_until(b"body_timeout")


def test_a_client_that_leaves_within_its_body_is_no_error(serve, engine, caplog):
    caplog.set_level(logging.INFO, "astrai.server")
    server = serve(engine)
    with RawClient(server.url) as client:
        client.post("/v1/completions", b"{", content_length="10")
    wait_until(lambda: '"status": 499' in caplog.text)
    assert "Traceback" not in caplog.text


# --- keys -------------------------------------------------------------------------------------------------------------


def test_a_key_is_asked_of_all_but_the_page_and_the_health(serve, engine, sampler):
    sampler.open()
    server = serve(engine, api_key="sesame")
    with httpx.Client() as web:
        for key in (None, "Bearer wrong", "Bearer", "Basic sesame", "sesame", "Bearer sesame2", "Bearer \u00e9"):
            headers = {} if key is None else {"authorization": key.encode("latin-1")}
            for path in (
                "/v1/models",
                "/stats",
                "/metrics",
                "/openapi.json",
                "/v1/trace",
                "/none",
                "//health",
                "/health/",
            ):
                response = web.get(server.url + path, headers=headers)
                assert response.status_code == 401 and response.json()["error"]["code"] == "invalid_api_key", path
            assert web.get(f"{server.url}/health", headers=headers).status_code == 200
        assert web.get(f"{server.url}/v1/models", headers={"authorization": "bearer sesame"}).status_code == 200
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key="sesame") as client:
        assert client.completions.create(**ENDLESS).choices[0].text


@pytest.mark.parametrize(
    ("host", "status"),
    [("localhost:8000", 200), ("127.0.0.1", 200), ("[::1]:80", 200), ("evil.example", 403), ("", 403), ("[", 403)],
)
def test_without_a_key_a_foreign_name_that_leads_here_is_not_answered(serve, engine, host, status):
    """DNS rebinding: a page on the internet gives its own name our address."""
    assert httpx.get(f"{serve(engine).url}/v1/models", headers={"host": host}).status_code == status


def test_with_a_key_any_name_will_do(serve, engine):
    headers = {"host": "evil.example", "authorization": "Bearer sesame"}
    assert httpx.get(f"{serve(engine, api_key='sesame').url}/v1/models", headers=headers).status_code == 200


# --- nobody blocks the event loop -------------------------------------------------------------------------------------


def test_health_answers_while_the_model_steps_and_while_a_prompt_is_tokenized(serve, engine, sampler, monkeypatch):
    """Defect 20."""
    server = serve(engine)
    is_cutting, may_go_on = threading.Event(), threading.Event()
    encode = engine.tokenizer.encode

    def slow_encode(*arguments, **keywords):
        is_cutting.set()
        assert may_go_on.wait(30)
        return encode(*arguments, **keywords)

    with RawClient(server.url) as running, RawClient(server.url) as arriving:
        running.post("/v1/completions", STREAM)
        wait_until(sampler.waits.is_set)
        monkeypatch.setattr(engine.tokenizer, "encode", slow_encode)
        arriving.post("/v1/completions", {**STREAM, "prompt": "a long one"})
        assert is_cutting.wait(30)
        assert httpx.get(f"{server.url}/health").json()["status"] == "ok"
        may_go_on.set()
        sampler.open()
        assert b'"text"' in arriving.read_until(b"[DONE]")


def test_the_loop_never_waits_for_one_request(serve, make_engine):
    engine = make_engine(num_slots=8)
    server = serve(engine)
    loop = server._thread.server.servers[0].get_loop()
    lags: list[float] = []
    is_over = threading.Event()

    async def probe():
        while not is_over.is_set():
            cpu = time.thread_time()
            await asyncio.sleep(0)
            lags.append(time.thread_time() - cpu)  # of this thread: what others do on a busy machine is not counted

    async def load():
        async with openai.AsyncOpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0) as client:
            whole = [client.completions.create(**{**ENDLESS, "prompt": f"fox {i}"}) for i in range(12)]
            long = [client.completions.create(**{**ENDLESS, "prompt": "x" * 150_000}) for _ in range(2)]
            results = await asyncio.gather(*whole, *long, return_exceptions=True)
            return [type(result).__name__ for result in results]

    gc.disable()  # a collection of all that other tests left in this process is not the server's doing
    probing = asyncio.run_coroutine_threadsafe(probe(), loop)
    try:
        kinds = asyncio.run(load())
    finally:
        is_over.set()
        probing.result(30)
        gc.enable()
    assert kinds == ["Completion"] * 12 + ["BadRequestError"] * 2
    assert max(lags) < 0.1, f"one turn of the event loop took {max(lags):.3f} s"


def test_an_answer_with_many_logprobs_is_put_together_beside_the_event_loop(serve, engine, sampler, monkeypatch):
    sampler.open()
    server = serve(engine)
    threads = []
    whole = CompletionForm.whole

    def noted_whole(*arguments):
        threads.append(threading.current_thread().name)
        return whole(*arguments)

    monkeypatch.setattr(CompletionForm, "whole", noted_whole)
    with client_of(server) as client:
        answer = client.completions.create(**{**ENDLESS, "max_tokens": 3}, logprobs=2, n=2)
        assert [len(choice.logprobs.tokens) for choice in answer.choices] == [3, 3]
        client.completions.create(**{**ENDLESS, "max_tokens": 3})
    assert [name == "astrai-server" for name in threads] == [False, True]


def test_those_that_wait_in_the_queue_do_not_make_the_streams_that_run_slower(serve, engine, sampler):
    server = serve(engine)
    with ExitStack() as stack:
        for _ in range(12):
            stack.enter_context(RawClient(server.url)).post("/v1/completions", STREAM)
        service = server._thread.server.service
        wait_until(lambda: len(service._answering) == 12)
        assert service._the_bell.interval == 2 * SEND_INTERVAL, "two rows, so two that can have something to send"
        sampler.open()


# --- prompts in logs --------------------------------------------------------------------------------------------------


def test_prompts_are_logged_only_where_asked_for(serve, engine, sampler, caplog):
    caplog.set_level(logging.INFO, "astrai.server")
    sampler.open()
    server = serve(engine, log_prompts=True)
    httpx.post(f"{server.url}/v1/completions", json={**LONG, "prompt": "swordfish"})
    wait_until(lambda: caplog.messages)  # the line is written when the answer is on its way
    assert json.loads(caplog.messages[-1])["prompt"] == "swordfish"


# --- the trace --------------------------------------------------------------------------------------------------------


def test_the_trace_is_off_unless_asked_for(serve, engine):
    response = httpx.get(f"{serve(engine).url}/v1/trace")
    assert response.status_code == 403 and "trace=True" in response.json()["error"]["message"]


def test_a_trace_reader_that_fell_behind_is_told_and_begins_anew(serve, make_engine):
    from astrai.inference.server.trace_stream import _header, _read

    engine = make_engine(trace_events=64)
    _, next_seq = _header(engine.trace)
    engine.generate("The fox", max_tokens=60, ignore_eos=True)
    blocks, lost = _read(engine.trace, next_seq)
    assert lost is None and b"fell behind" in blocks[0]
    _, next_seq = _header(engine.trace)
    assert _read(engine.trace, next_seq) == ([], next_seq)


def test_a_trace_reader_that_comes_back_goes_on_where_it_was(serve, make_engine):
    engine = make_engine()
    server = serve(engine, trace=True)
    engine.generate("The fox", max_tokens=4)
    with httpx.stream("GET", f"{server.url}/v1/trace", headers={"last-event-id": "3"}, timeout=30) as response:
        assert next(response.iter_lines()) == "id: 4"


# --- the engine's own hooks are untouched -----------------------------------------------------------------------------


def test_the_engine_can_be_used_directly_beside_its_server(serve, engine, sampler):
    sampler.open()
    server = serve(engine)
    with client_of(server) as client:
        over_http = client.completions.create(**LONG).choices[0].text
    request = GenerationRequest("The fox", sampling=SamplingParams(max_tokens=100))
    assert over_http == engine.generate_with_request(request).text
    with socket.create_connection(("127.0.0.1", int(server.url.rpartition(":")[2]))):
        pass  # a connection without a request is no error
