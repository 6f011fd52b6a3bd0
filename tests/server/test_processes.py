"""``astrai serve`` as a process: signals in mid-stream, a port that is taken, a model that cannot be read."""

import json
import shutil
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from typer.testing import CliRunner

import astrai
from astrai.cli import app
from astrai.inference.engine import InferenceEngine
from astrai.inference.server.listening import bind
from benchmarks.http_load import Client, Solo, solos
from benchmarks.server_process import READY, ServerProcess, server_process
from benchmarks.sse import Answer, Ask, ask_all_now
from tests.server.waiting import until

TINY = Path(astrai.__file__).parent / "assets" / "tiny"
EOS = "4"  # the bundled model's end of text: what forbids it makes a story without an end


@contextmanager
def asked(server: ServerProcess, asks: list[Ask]) -> Iterator[list[Answer]]:
    """Ask, and go on as soon as the first tokens have come; the answers are there when the block has ended."""
    answers: list[Answer] = []
    asking = threading.Thread(target=lambda: answers.extend(ask_all_now(server.url, asks)))
    asking.start()
    until(lambda: server.get("/stats")["decoded_tokens"] > 0)
    yield answers
    asking.join(60)
    assert len(answers) == len(asks)


def endless(count: int) -> list[Ask]:
    body = {"model": "tiny", "prompt": "Once upon a time", "temperature": 0, "stream": True}
    return [Ask("/v1/completions", body | {"max_tokens": 1_000, "logit_bias": {EOS: -100}}) for _ in range(count)]


@pytest.fixture(scope="module")
def stories() -> list[Solo]:
    """What the bundled model tells alone."""
    with InferenceEngine(*astrai.load("tiny"), num_slots=1) as engine:
        found = solos(engine, "tiny", ((f"Tell me a story about a {who}.", 96) for who in ("fox", "hen", "owl")), 2)
    assert min(len(solo.text) for solo in found) > 80, "too short to be told something in the middle"
    return found


def test_sigterm_lets_streams_finish_and_takes_no_more(stories: list[Solo]) -> None:
    with server_process("--max-batch-size", "4", "--grace", "60") as server:
        server.wait_for(READY)
        url = server.url
        with asked(server, [Ask(solo.path, solo.body) for solo in stories * 4]) as answers:  # half of them wait
            server.process.send_signal(signal.SIGTERM)
            until(lambda: is_closed(url))
        complaints = [Client(s, Ask("", {})).complaint(a) for s, a in zip(stories * 4, answers, strict=True)]
        assert complaints == [None] * 8
        assert server.end() == 0
        assert "Traceback" not in server.log


def is_closed(url: str) -> bool:
    """Whether a new client is turned away."""
    try:
        return httpx.get(f"{url}/v1/models").status_code == 503
    except httpx.TransportError:
        return True


def test_after_the_grace_time_streams_are_ended_with_the_reason() -> None:
    with server_process("--grace", "0.3", "--max-batch-size", "2") as server:
        server.wait_for(READY)
        with asked(server, endless(4)) as answers:
            server.process.send_signal(signal.SIGTERM)
        for answer in answers:
            assert answer.is_whole and not answer.has_done and answer.finish_reason is None
            assert answer.error and answer.error["code"] == "closing" and "shutting down" in answer.error["message"]
        assert {answer.status for answer in answers} == {200, 503}, "two had begun, two had waited"
        assert server.end() == 0
        assert "Traceback" not in server.log


def test_after_sigkill_no_stream_looks_complete_and_the_next_server_takes_the_port() -> None:
    with server_process() as server:
        server.wait_for(READY)
        port = int(server.url.rpartition(":")[2])
        with asked(server, endless(4)) as answers:
            server.process.kill()
        for answer in answers:
            assert not answer.is_whole and not answer.has_done and answer.finish_reason is None
        assert server.end() == -signal.SIGKILL
    with server_process(port=port) as server:
        health = httpx.get(f"{server.url}/health")
        assert server.url.endswith(f":{port}")
        assert health.status_code == 200 or health.json()["status"] == "loading"


# --- what cannot be started -------------------------------------------------------------------------------------------


def fails_to_start(*options: str) -> str:
    """The one thing that ``astrai serve`` says before it ends with exit code 1."""
    result = CliRunner().invoke(app, ["serve", "--port", "0", *options])
    assert result.exit_code == 1, result.output
    assert result.stdout == "" and result.stderr.count("\n") == 1, result.output
    return result.stderr


def test_a_port_in_use_is_said_with_a_remedy_before_the_model_is_looked_at() -> None:
    with bind("127.0.0.1", 0) as taken:
        port = taken.getsockname()[1]
        said = fails_to_start("--port", str(port), "--model", "/no/such/model")
    assert f"port {port}" in said and "in use" in said and "--port" in said


def test_a_missing_model_is_named() -> None:
    assert "/no/such/model" in fails_to_start("--model", "/no/such/model")


def cut_in_half(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def garble_weights(folder: Path) -> None:
    (folder / "model.safetensors").write_bytes(b"\xff" * 1_000)


def take_a_weight_away(folder: Path) -> None:
    from safetensors.torch import load_file, save_file

    weights = load_file(folder / "model.safetensors")
    del weights[sorted(weights)[0]]
    save_file(weights, folder / "model.safetensors")


def change_a_shape(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    name = next(name for name in ("num_layers", "num_hidden_layers") if name in config)
    (folder / "config.json").write_text(json.dumps(config | {name: config[name] + 1}))


DAMAGES: dict[str, tuple[str, Callable[[Path], None]]] = {
    "weights cut short": ("model.safetensors", lambda folder: cut_in_half(folder / "model.safetensors")),
    "weights of garbage": ("model.safetensors", garble_weights),
    "no weights": ("", lambda folder: (folder / "model.safetensors").unlink()),
    "a weight is missing": ("", take_a_weight_away),
    "a shape that does not fit": ("", change_a_shape),
    "no config": ("config.json", lambda folder: (folder / "config.json").unlink()),
    "a config cut short": ("config.json", lambda folder: cut_in_half(folder / "config.json")),
    "a tokenizer cut short": ("tokenizer.json", lambda folder: cut_in_half(folder / "tokenizer.json")),
    "nothing at all": ("", lambda folder: shutil.rmtree(folder) or folder.mkdir()),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_a_damaged_model_is_said_in_one_line(name: str, tmp_path: Path) -> None:
    folder = shutil.copytree(TINY, tmp_path / "model")
    file, damage = DAMAGES[name]
    damage(folder)
    said = fails_to_start("--model", str(folder))
    assert file in said and str(folder) in said
