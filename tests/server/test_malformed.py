"""What no schema would make: broken JSON, wrong bytes, sizes that do not fit, and clients that stop in the middle."""

import json
import socket
from collections.abc import Callable, Iterator
from urllib.parse import urlsplit

import httpx
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from astrai.inference.engine import InferenceEngine
from astrai.inference.server.background import BackgroundServer, serve_in_background
from astrai.model.transformer import Transformer
from astrai.tokenizer import Tokenizer
from benchmarks.http_fuzz import check_error

GOOD = {"model": "tiny", "prompt": "The fox", "max_tokens": 2, "temperature": 0}
GOOD_CHAT = {"model": "tiny", "messages": [{"role": "user", "content": "The fox"}], "max_tokens": 2}
PATHS = ("/v1/completions", "/v1/chat/completions")
JSON = {"content-type": "application/json"}


@pytest.fixture(scope="module")
def client(shared_url: str) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=shared_url, timeout=20) as client:
        yield client


def send_raw(url: str, data: bytes, end: bool = False) -> bytes:
    """All that comes back for these bytes; ``end`` says that no more will follow."""
    parts = urlsplit(url)
    with socket.create_connection((parts.hostname, parts.port), timeout=20) as sock:
        sock.sendall(data)
        if end:
            sock.shutdown(socket.SHUT_WR)
        blocks = []
        while block := sock.recv(65_536):
            blocks.append(block)
        return b"".join(blocks)


def is_well(url: str) -> bool:
    """Whether it serves a request and says so."""
    with httpx.Client(base_url=url, timeout=20) as client:
        return client.post("/v1/completions", json=GOOD).status_code == client.get("/health").status_code == 200


def with_field(name: str, value: str) -> bytes:
    """A good body with one field written by hand."""
    fields = {key: json.dumps(given) for key, given in GOOD.items()} | {name: value}
    return ("{" + ", ".join(f'"{key}": {text}' for key, text in fields.items()) + "}").encode()


BROKEN = {
    "nothing": b"",
    "a list": b"[1, 2]",
    "null": b"null",
    "a string": b'"prompt"',
    "cut short": json.dumps(GOOD).encode()[:-5],
    "more behind it": json.dumps(GOOD).encode() + b" {}",
    "a byte order mark": b"\xef\xbb\xbf" + json.dumps(GOOD).encode(),
    "invalid UTF-8": b'{"model": "tiny", "prompt": "\xff\xfe"}',
    "UTF-16": json.dumps(GOOD).encode("utf-16"),
    "a nul byte": b'{"model": "tiny", "prompt": "a\x00b"}',
    "NaN": with_field("temperature", "NaN"),
    "minus infinity": with_field("temperature", "-Infinity"),
    "a float beyond all floats": with_field("temperature", "1e999"),
    "an int of 5,000 digits": with_field("seed", "9" * 5_000),
    "an int of 30 digits": with_field("max_tokens", "9" * 30),
    "a count as text": with_field("max_tokens", '"3"'),
    "a count as a boolean": with_field("max_tokens", "true"),
    "a field twice": b'{"model": "tiny", "model": "tiny", "prompt": "The fox"}',
    "100,000 brackets": b'{"model": "tiny", "prompt": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    "100,000 objects": b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
    "a lone surrogate": with_field("prompt", r'"\ud800"'),
    "a lone surrogate as a field": b'{"model": "tiny", "prompt": "a", "\\ud800": 1}',
    "token ids beyond all ints": with_field("prompt", "[" + "9" * 39 + "]"),
    "a token id below zero": with_field("prompt", "[-1]"),
    "an empty list": with_field("prompt", "[]"),
    "lists in lists in lists": with_field("prompt", "[[[1]]]"),
    "a thousand prompts": with_field("prompt", json.dumps(["a"] * 1_000)),
    "a name of 100,000 characters": with_field("x" * 100_000, "1"),
}


@pytest.mark.parametrize("path", PATHS)
def test_every_broken_body_is_refused_in_openais_shape(path: str, client: httpx.Client) -> None:
    for name, body in BROKEN.items():
        answer = client.post(path, content=body, headers=JSON)
        assert answer.status_code == 400, f"{name}: {answer.status_code} {answer.text[:300]}"
        check_error(answer.content, name)
        assert len(answer.content) < 2_000, f"{name} is quoted at length"
    assert is_well(str(client.base_url))


@settings(max_examples=60, deadline=None, database=None, derandomize=True)
@given(damage=st.binary(max_size=64), at=st.integers(0, 80), path=st.sampled_from(PATHS))
@example(damage=b"", at=0, path=PATHS[0])
def test_any_damage_to_a_good_body_is_refused_or_harmless(
    client: httpx.Client, damage: bytes, at: int, path: str
) -> None:
    body = json.dumps(GOOD if path == PATHS[0] else GOOD_CHAT).encode()
    answer = client.post(path, content=body[:at] + damage + body[at + len(damage) :], headers=JSON)
    assert answer.status_code in (200, 400, 404)
    if answer.status_code != 200:
        check_error(answer.content, "")


@pytest.mark.parametrize("kind", ["", "text/plain", "application/x-www-form-urlencoded", "multipart/form-data", "json"])
def test_another_content_type_is_refused(kind: str, client: httpx.Client) -> None:
    answer = client.post("/v1/completions", content=json.dumps(GOOD), headers={"content-type": kind})
    assert answer.status_code == 415
    check_error(answer.content, kind)


def test_a_body_that_is_too_large_is_refused_before_it_is_read(serve: Callable[..., BackgroundServer]) -> None:
    url = serve(max_body_bytes=1_000).url
    head = "POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    announced = send_raw(url, f"{head}Content-Length: {10**15}\r\n\r\n{{".encode())
    assert announced.startswith(b"HTTP/1.1 413 ")
    chunk = b"1f4\r\n" + b" " * 500 + b"\r\n"
    unannounced = send_raw(url, f"{head}Transfer-Encoding: chunked\r\n\r\n".encode() + 5 * chunk)
    assert unannounced.startswith(b"HTTP/1.1 413 ")
    for answer in (announced, unannounced):
        check_error(answer.partition(b"\r\n\r\n")[2], "")
    assert is_well(url)


def test_a_body_that_stops_in_the_middle_is_not_waited_for_long(serve: Callable[..., BackgroundServer]) -> None:
    url = serve(body_timeout=0.2).url
    head = "POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    half = f'{head}Content-Length: 100\r\n\r\n{{"model"'.encode()
    assert send_raw(url, half, end=True) == b"", "who has gone is told nothing"
    waited = send_raw(url, half)
    assert waited.startswith(b"HTTP/1.1 408 ")
    check_error(waited.partition(b"\r\n\r\n")[2], "")
    assert is_well(url)


@pytest.mark.parametrize(
    "data",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"GET\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"POST /v1/completions HTTP/1.1\r\nContent-Length: x\r\n\r\n",
        b"POST /v1/completions HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    ],
)
def test_what_is_no_http_is_turned_away(data: bytes, shared_url: str) -> None:
    try:
        answer = send_raw(shared_url, data, end=True)
    except ConnectionError:
        answer = b""  # the rest of what we sent was not read
    assert answer == b"" or answer.startswith(b"HTTP/1.1 4"), answer[:200]
    assert is_well(shared_url)


@pytest.mark.parametrize(
    ("path", "head"),
    [
        (b"/health", b"X: " + b"a" * 200_000),
        (b"/health", b"\r\n".join(b"X-%d: a" % i for i in range(20_000))),
        (b"/health?" + b"a" * 200_000, b"X: a"),
    ],
    ids=["one long header", "many headers", "a long path"],
)
def test_a_request_head_has_a_limit(path: bytes, head: bytes, shared_url: str) -> None:
    try:
        answer = send_raw(shared_url, b"GET " + path + b" HTTP/1.1\r\nConnection: close\r\n" + head + b"\r\n\r\n")
    except ConnectionError:
        answer = b""  # the rest of what we sent was not read
    assert answer == b"" or answer.startswith(b"HTTP/1.1 4"), answer[:200]


@pytest.fixture(scope="module")
def server_with_short_patience(model: Transformer, tokenizer: Tokenizer) -> Iterator[str]:
    settings = {"body_timeout": 0.3}
    with InferenceEngine(model, tokenizer, num_slots=1) as engine, serve_in_background(engine, **settings) as server:
        yield server.url


@pytest.mark.parametrize("sent", [b"", b"GET /health HT", b"GET /health HTTP/1.1\r\nX: "])
def test_a_request_head_has_a_time(sent: bytes, server_with_short_patience: str) -> None:
    parts = urlsplit(server_with_short_patience)
    with socket.create_connection((parts.hostname, parts.port), timeout=20) as sock:
        sock.sendall(sent)
        answer = b"".join(iter(lambda: sock.recv(65_536), b""))
    assert answer.startswith(b"HTTP/1.1 408 Request Timeout")
    assert json.loads(answer.partition(b"\r\n\r\n")[2])["error"]["message"].startswith("the head of the request")


def test_a_refusal_quotes_no_prompt(client: httpx.Client) -> None:
    secret = "the secret name is Rumpelstiltskin"
    for fields in ({"prompt": secret * 10_000}, {"prompt": secret, "temperature": secret}, {"prompt": [secret, 3]}):
        answer = client.post("/v1/completions", json=GOOD | fields)
        assert answer.status_code == 400
        assert "Rumpelstiltskin" not in answer.text
