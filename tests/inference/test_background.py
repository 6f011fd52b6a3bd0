"""How a server starts, is replaced and ends: beside a notebook, and as a process of its own."""

import asyncio
import gc
import os
import signal
import socket
import subprocess
import sys
import threading
import time

import httpx
import pytest

from astrai.inference.server.app import create_app
from astrai.inference.server.background import serve_in_background
from astrai.inference.server.config import ServerConfig
from astrai.inference.server.foreground import serve
from astrai.inference.server.listening import PortInUseError, bind, url_of
from astrai.model.checkpoint import CheckpointError
from tests.inference.serving import PacedSampler, RawClient, health_of, wait_until

STREAM = {"model": "tiny", "prompt": "The fox", "temperature": 0, "stream": True, "logit_bias": {"65": 100}}


def is_up(url):
    return health_of(url) == (200, "ok")


@pytest.fixture
def free_port():
    with bind("127.0.0.1", 0) as sock:
        port = sock.getsockname()[1]
    return port


# --- in the background ------------------------------------------------------------------------------------------------


def test_the_server_runs_within_its_block_and_leaves_the_engine_alone(make_engine):
    engine = make_engine()
    handlers = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
    with serve_in_background(engine) as server:
        assert server.url.startswith("http://127.0.0.1:") and is_up(server.url)
        assert "running" in repr(server)
        assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)) == handlers
    assert not is_up(server.url) and "stopped" in repr(server)
    assert engine.generate("The fox", max_tokens=2, ignore_eos=True) is not None
    server.stop()  # again does nothing


def test_stopping_takes_less_than_a_second_and_tells_the_streams_why(make_engine):
    sampler = PacedSampler()
    server = serve_in_background(make_engine(sampler=sampler))
    with RawClient(server.url) as client:
        sampler.release(3)
        client.post("/v1/completions", STREAM).read_until(b'"text"')
        before = time.monotonic()
        server.stop()  # while the model stands in the middle of a step
        took = time.monotonic() - before
        raw = client.read_all()
        sampler.open()
    assert took < 3, f"{took:.1f} s; a second is promised, on a machine that is not busy"
    assert not server.is_running and b"shutting down" in raw and b"[DONE]" not in raw


def test_stopping_tells_a_client_that_still_sends_its_body_why(make_engine, caplog):
    server = serve_in_background(make_engine())
    with RawClient(server.url) as client:
        client.post("/v1/completions", b"{", content_length="10", expect="100-continue").read_until(b"100 Continue")
        server.stop()
        assert b"503 Service Unavailable" in client.read_all() and b"shutting down" in client.received
    assert not [record for record in caplog.records if record.exc_info], "no traceback in a notebook"


def test_running_the_cell_again_replaces_the_server_of_the_same_engine(make_engine):
    engine = make_engine()
    first = serve_in_background(engine)
    with serve_in_background(engine) as second:
        assert not first.is_running and is_up(second.url) and not is_up(first.url)


def test_the_same_port_is_taken_over_from_another_engine(make_engine, free_port):
    first = serve_in_background(make_engine(), free_port, model_name="first")
    with serve_in_background(make_engine(), free_port, model_name="second") as second:
        assert not first.is_running and second.url == first.url
        assert httpx.get(f"{second.url}/health").json()["model"] == "second"


def test_two_engines_can_be_served_at_once(make_engine):
    with serve_in_background(make_engine()) as one, serve_in_background(make_engine()) as two:
        assert is_up(one.url) and is_up(two.url)


def test_a_port_of_another_program_is_refused_with_a_remedy(make_engine):
    with bind("127.0.0.1", 0) as other, pytest.raises(PortInUseError, match=r"port \d+ .* in use: .*--port"):
        serve_in_background(make_engine(), other.getsockname()[1])


def test_it_works_inside_a_running_event_loop(make_engine):
    engine = make_engine()

    async def cell():
        with serve_in_background(engine) as server:
            async with httpx.AsyncClient() as web:
                return (await web.get(f"{server.url}/health")).json()["status"]

    assert asyncio.run(cell()) == "ok"


def test_a_stopped_server_leaves_no_thread_and_no_socket(make_engine):
    before = set(threading.enumerate())
    engine = make_engine()
    with serve_in_background(engine) as server:
        httpx.get(f"{server.url}/health")
    engine.shutdown()
    wait_until(lambda: not {t for t in threading.enumerate() if t.name.startswith("astrai")} - before)
    gc.collect()  # an open socket would be a ResourceWarning, which is an error here


def test_settings_that_make_no_sense_are_refused(make_engine):
    for wrong in (
        {"max_body_bytes": 0},
        {"request_timeout": -1},
        {"api_key": ""},
        {"api_key": "\u00e9"},
        {"api_key": "a "},
    ):
        with pytest.raises(ValueError, match=next(iter(wrong)).replace("_", ".").replace("api.key", "API key")):
            ServerConfig(**wrong)
    with pytest.raises(TypeError, match="max_bdy_bytes"):
        serve_in_background(make_engine(), max_bdy_bytes=1)


def test_listening_on_all_interfaces_without_a_key_is_said_loudly(make_engine, caplog):
    with serve_in_background(make_engine(), host="0.0.0.0") as server:
        assert "without an API key" in caplog.text and is_up(server.url)
    caplog.clear()
    with serve_in_background(make_engine(), host="0.0.0.0", api_key="sesame"), serve_in_background(make_engine()):
        assert not caplog.text


def test_an_app_without_an_engine_says_that_it_loads(make_engine):
    app = create_app(None)

    async def ask(path):
        transport = httpx.ASGITransport(app=app)
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as web:
            return await web.get(path)

    health = asyncio.run(ask("/health"))
    assert health.status_code == 503 and health.json()["status"] == "loading"
    assert asyncio.run(ask("/stats")).status_code == 503 and asyncio.run(ask("/metrics")).status_code == 200
    app.state.service.engine = make_engine()
    assert asyncio.run(ask("/health")).json() == {"status": "ok", "model": "tiny"}
    app.state.service.close("going home")
    assert asyncio.run(ask("/health")).json() == {"status": "closing", "reason": "going home"}


@pytest.mark.skipif(not socket.has_ipv6, reason="this Python has no IPv6")
def test_an_ipv6_address_has_brackets():
    try:
        sock = bind("::1", 0)
    except OSError:
        pytest.skip("this machine has no IPv6 loopback")
    with sock:
        assert url_of(sock) == f"http://[::1]:{sock.getsockname()[1]}"


# --- as a process -----------------------------------------------------------------------------------------------------


class Visitor(threading.Thread):
    """Meets a server that runs on the main thread, and sends it a signal when it has seen enough."""

    def __init__(self, url, max_tokens):
        super().__init__()
        self.url, self.max_tokens = url, max_tokens
        self.raw, self.after, self.statuses = b"", b"", []

    def run(self):
        wait_until(self.is_ready)
        with RawClient(self.url) as client:
            client.post("/v1/completions", {**STREAM, "max_tokens": self.max_tokens}).read_until(b'"text"')
            assert signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL, "this would end the test run"
            os.kill(os.getpid(), signal.SIGTERM)
            self.raw = client.read_all()

    def is_ready(self):
        health = health_of(self.url)
        self.statuses += [health[1]] if health else []
        return health == (200, "ok")


@pytest.mark.parametrize(("grace", "end"), [(60.0, b"data: [DONE]\n\n"), (0.0, b"the server is shutting down")])
def test_sigterm_lets_running_requests_finish_or_ends_them_with_the_reason(free_port, grace, end):
    visitor = Visitor(f"http://127.0.0.1:{free_port}", max_tokens=300)
    visitor.start()
    before = signal.getsignal(signal.SIGTERM)
    serve("tiny", port=free_port, max_seq_len=512, grace=grace, device="cpu")
    visitor.join(30)
    assert end in visitor.raw and visitor.raw.endswith(b"0\r\n\r\n")
    assert (b"[DONE]" in visitor.raw) == (grace > 0)
    assert visitor.statuses[-1] == "ok" and set(visitor.statuses) <= {"loading", "ok"}
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_port_in_use_is_said_before_the_model_is_loaded(caplog):
    with bind("127.0.0.1", 0) as other, pytest.raises(PortInUseError):
        serve("no such model", port=other.getsockname()[1])


@pytest.mark.parametrize("damage", ["missing", "truncated", "no json"])
def test_a_model_that_cannot_be_loaded_ends_the_server_with_the_reason(tmp_path, free_port, damage, tokenizer, model):
    from astrai.model.checkpoint import save

    save(model, tmp_path)
    tokenizer.save(tmp_path)
    weights = tmp_path / "model.safetensors"
    if damage == "missing":
        weights.unlink()
    elif damage == "truncated":
        weights.write_bytes(weights.read_bytes()[:-100])
    else:
        (tmp_path / "config.json").write_text("{")
    with pytest.raises(CheckpointError, match=tmp_path.name):
        serve(str(tmp_path), port=free_port)


def test_a_folder_s_name_is_the_model_s_and_the_key_may_come_from_the_environment(tmp_path, monkeypatch, free_port):
    seen = {}

    def record(app, **settings):
        seen["config"] = app.state.service.config
        raise KeyboardInterrupt

    monkeypatch.setenv("ASTRAI_API_KEY", "sesame")
    monkeypatch.setattr("astrai.inference.server.foreground.Server", record)
    (tmp_path / "mine").mkdir()
    with pytest.raises(KeyboardInterrupt):
        serve(str(tmp_path / "mine"), port=free_port)
    assert seen["config"].model_name == "mine" and seen["config"].api_key == "sesame"


def test_an_empty_key_is_refused_and_not_taken_for_none(free_port):
    with pytest.raises(ValueError, match="API key is empty"):
        serve("tiny", port=free_port, api_key="")


def test_a_second_signal_quits_at_once(free_port):
    settings = f"port={free_port}, grace=600.0, device='cpu'"
    code = f"from astrai.inference.server.foreground import serve; serve('tiny', {settings})"
    url = f"http://127.0.0.1:{free_port}"
    process = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE, text=True)
    try:
        wait_until(lambda: is_up(url))
        with RawClient(url) as client:
            # Longer than any test: 1,000 tokens for each of 64 choices, on 16 rows.
            client.post("/v1/completions", {**STREAM, "max_tokens": 1000, "n": 64}).read_until(b'"text"')
            process.send_signal(signal.SIGINT)
            wait_until(lambda: not is_up(url), "the closed port")
            assert process.poll() is None, "the request may finish"
            process.send_signal(signal.SIGINT)
            assert process.wait(30) == -signal.SIGINT
    finally:
        process.kill()
        process.communicate()
