"""A client for many streams at once that costs little: plain sockets, and bytes that are read when all is there.

It can go away in the middle and read slowly, as real clients do. It knows HTTP and OpenAI's events, and neither torch
nor the engine: run as a program it asks what stands on stdin, so that its CPU time is nobody else's.
"""

from __future__ import annotations

import asyncio
import json
import socket
import struct
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any
from urllib.parse import urlsplit

READ_SIZE = 65_536
SLOW_READ_SIZE = 512
SLOW_BUFFER = 4_096  # bytes that the kernel keeps for a slow reader; it takes this as a wish
RESET_ON_CLOSE = struct.pack("ii", 1, 0)


@dataclass(frozen=True, slots=True)
class Ask:
    """A request with ``stream=True`` in its body, and how its answer is read."""

    path: str
    body: dict[str, Any]
    leaves_after: int | None = None  # bytes of the answer; 0: as soon as it has asked
    is_rude: bool = False  # leaves by a reset instead of a close
    reads_slowly_for: float = 0.0  # seconds, a little at a time; then as fast as it can


@dataclass(slots=True)
class Answer:
    """What came back. Without ``is_whole`` the connection ended before the answer did."""

    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    is_whole: bool = False
    ttft: float | None = None  # seconds from before the connection to the first event with text in it
    seconds: float = 0.0

    @property
    def data(self) -> list[str]:
        """The ``data`` of every event that came whole."""
        blocks = self.body.decode().split("\n\n")[:-1]
        return [block.removeprefix("data: ") for block in blocks if block.startswith("data: ")]

    @property
    def events(self) -> list[dict[str, Any]]:
        """The data as JSON, without the mark of the end."""
        return [json.loads(data) for data in self.data if data != "[DONE]"]

    @property
    def has_done(self) -> bool:
        """Whether the last event is ``[DONE]``."""
        return self.data[-1:] == ["[DONE]"]

    @property
    def text(self) -> str:
        """Of the first choice."""
        return "".join(_text_of(choice) for choice in self._choices())

    @property
    def finish_reason(self) -> str | None:
        """Of the first choice; an answer that gives two of them is an ``AssertionError``."""
        reasons = [choice["finish_reason"] for choice in self._choices() if choice["finish_reason"] is not None]
        assert len(reasons) <= 1, f"a stream ended {len(reasons)} times: {reasons}"
        return reasons[0] if reasons else None

    @property
    def error(self) -> dict[str, Any] | None:
        """What was said to have gone wrong, before the stream or in it."""
        if self.status != 200:
            return json.loads(self.body)["error"] if self.body else None
        return next((event["error"] for event in self.events if "error" in event), None)

    def _choices(self) -> Iterator[dict[str, Any]]:
        for event in self.events:
            yield from (choice for choice in event.get("choices", ()) if choice["index"] == 0)


def _text_of(choice: dict[str, Any]) -> str:
    return choice["delta"].get("content", "") if "delta" in choice else choice["text"]


# --- one request ------------------------------------------------------------------------------------------------------


async def ask(url: str, request: Ask) -> Answer:
    """Ask, and read the answer as the request says.

    Raises:
        OSError: the server cannot be reached.
    """
    started = time.perf_counter()
    sock = socket.socket()
    sock.setblocking(False)
    if request.reads_slowly_for:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SLOW_BUFFER)
    if request.is_rude:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
    with sock:
        parts = urlsplit(url)
        await asyncio.get_running_loop().sock_connect(sock, (parts.hostname, parts.port))
        raw, ttft = await _exchange(sock, request, parts.netloc)
    answer = _parse(raw)
    answer.ttft = None if ttft is None else ttft - started
    answer.seconds = time.perf_counter() - started
    return answer


async def _exchange(sock: socket.socket, request: Ask, host: str) -> tuple[bytes, float | None]:
    """All bytes that came, and when the first text was among them."""
    loop, raw, ttft = asyncio.get_running_loop(), bytearray(), None
    body = json.dumps(request.body).encode()
    head = f"POST {request.path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\nContent-Type: application/json\r\n"
    await loop.sock_sendall(sock, f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
    slow_until = time.perf_counter() + request.reads_slowly_for
    while request.leaves_after is None or len(raw) < request.leaves_after:
        size = READ_SIZE if request.leaves_after is None else min(READ_SIZE, request.leaves_after - len(raw))
        if time.perf_counter() < slow_until:
            size = min(size, SLOW_READ_SIZE)
            await asyncio.sleep(0.02)
        try:
            block = await loop.sock_recv(sock, size)
        except ConnectionError:
            break
        if not block:
            break
        raw += block
        if ttft is None and _has_text(raw):
            ttft = time.perf_counter()
    return bytes(raw), ttft


def _has_text(raw: bytearray) -> bool:
    """Whether an event with text is there; the one that opens a chat has none."""
    return b'"delta":{"content":"' in raw or b'"text":"' in raw


def _parse(raw: bytes) -> Answer:
    head, found, rest = raw.partition(b"\r\n\r\n")
    if not found:
        return Answer()
    first, *lines = head.decode("latin-1").split("\r\n")
    headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
    body, is_whole = rest, len(rest) == int(headers.get("content-length", -1))
    if headers.get("transfer-encoding") == "chunked":
        body, is_whole = _unchunked(rest)
    return Answer(int(first.split()[1]), headers, body, is_whole)


def _unchunked(rest: bytes) -> tuple[bytes, bool]:
    """The chunks joined, and whether the one that ends them is there."""
    at, parts = 0, []
    while (end := rest.find(b"\r\n", at)) >= 0:
        size = int(rest[at:end], 16)
        if size == 0:
            return b"".join(parts), True
        parts.append(rest[end + 2 : end + 2 + size])
        at = end + 2 + size + 2
    return b"".join(parts), False


# --- many -------------------------------------------------------------------------------------------------------------


async def ask_all(url: str, requests: Iterable[Ask], at_once: int) -> list[Answer]:
    """Ask all of them, ``at_once`` at a time; the answers come in the order of the requests."""
    waiting = iter(enumerate(requests))
    answers: dict[int, Answer] = {}

    async def work() -> None:
        for index, request in waiting:
            answers[index] = await ask(url, request)

    async with asyncio.TaskGroup() as group:
        for _ in range(at_once):
            group.create_task(work())
    return [answers[index] for index in sorted(answers)]


def ask_all_now(url: str, requests: Sequence[Ask], at_once: int | None = None) -> list[Answer]:
    """``ask_all`` for callers without an event loop; all at once unless told otherwise."""
    return asyncio.run(ask_all(url, requests, at_once or len(requests)))


def main() -> None:
    """For each line on stdin, a JSON list ``[url, at_once, [ask, ...]]``, print one: the answers and what they took."""
    for line in sys.stdin:
        url, at_once, requests = json.loads(line)
        cpu, wall = time.process_time(), time.perf_counter()
        answers = ask_all_now(url, [Ask(**request) for request in requests], at_once)
        cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
        told = [asdict(answer) | {"body": answer.body.decode()} for answer in answers]
        print(json.dumps({"cpu": cpu, "wall": wall, "answers": told}), flush=True)


if __name__ == "__main__":
    main()
