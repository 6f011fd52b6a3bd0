"""What all requests to one server share: the engine, the limits, the figures, and who is being answered now.

It knows whether requests can be served, and why not; it knows no HTTP.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing, contextmanager
from typing import Any

from astrai.inference.engine import EngineStats, InferenceEngine
from astrai.inference.inbox import EngineDeadError, QueueFullError
from astrai.inference.server.choices import Bell, Choices
from astrai.inference.server.config import ServerConfig
from astrai.inference.server.errors import ApiError, unavailable
from astrai.inference.server.forms import Form, Usage
from astrai.inference.server.jobs import Job
from astrai.inference.server.metrics import Metrics

KEEPALIVE = b": nothing yet\n\n"
SEND_INTERVAL = 0.001  # seconds a stream: one sends every token, sixteen have two or so to send after 16 ms
RETRY_AFTER = "1"  # seconds: a row is free again after a few


class Service:
    """One server's state. Everything but ``engine`` is used on the event loop alone."""

    def __init__(self, engine: InferenceEngine | None, config: ServerConfig) -> None:
        self.engine = engine  # None while it loads
        self.config = config
        self.metrics = Metrics(self.stats)
        self.closing: str | None = None
        self._reading: set[asyncio.Task[Any]] = set()
        self._answering: set[Choices] = set()
        self._the_bell: Bell | None = None

    def stats(self) -> EngineStats | None:
        """The engine's, if there is one."""
        return self.engine.stats() if self.engine else None

    def problem(self) -> tuple[str, str] | None:
        """Why nothing can be served now, as a word and a reason; ``None`` when all is well."""
        if self.closing is not None:
            return "closing", self.closing
        if self.engine is None:
            return "loading", "the model is being loaded: try again in a moment"
        stats = self.engine.stats()
        if not stats.alive:
            return "dead", stats.error or "the engine's loop does not run"
        return None

    def ready_engine(self) -> InferenceEngine:
        """The engine, if requests can be served.

        Raises:
            ApiError: (503) they cannot.
        """
        problem = self.problem()
        if problem is not None or self.engine is None:
            word, reason = problem or ("loading", "")
            error = unavailable("the engine has stopped: restart the server" if word == "dead" else reason, code=word)
            error.headers["retry-after"] = RETRY_AFTER
            error.detail = reason if word == "dead" else ""
            raise error
        return self.engine

    # --- the end ------------------------------------------------------------------------------------------------------

    def close(self, reason: str) -> None:
        """Take no more requests; those under way go on."""
        self.closing = self.closing or reason

    def end_all(self) -> None:
        """End every request under way, which says why."""
        for task in self._reading:
            task.cancel()
        for choices in list(self._answering):
            choices.end(unavailable(self.closing or "the server is shutting down", code="closing"))

    @contextmanager
    def reading(self) -> Iterator[None]:
        """A request is read in this block: at the server's end its task is cancelled, and the gate says why."""
        task = asyncio.current_task()
        assert task is not None
        self._reading.add(task)
        try:
            yield
        finally:
            self._reading.discard(task)

    # --- answers ------------------------------------------------------------------------------------------------------

    async def stream(self, job: Job, form: Form, record: dict[str, Any]) -> AsyncGenerator[bytes, None]:
        """The answer as blocks of server-sent events."""
        with self._choices(job, record) as choices, _ticking(choices.wake, self.config.keepalive) as ticked:
            choices.listen()
            while True:
                await choices.wake.wait()
                block = b"".join([form.block(news) for news in choices.news()])
                if choices.have_ended:
                    yield block + form.end(_usage(job, choices))
                    return
                if block or ticked():
                    yield block or KEEPALIVE

    async def whole(self, job: Job, form: Form, record: dict[str, Any]) -> bytes:
        """The answer as JSON."""
        with self._choices(job, record) as choices:
            all_news = await choices.until_ended()
            usage = _usage(job, choices)
            if job.requests[0].sampling.logprobs is None:
                return form.whole(all_news, usage)
            # Log-probabilities can be many megabytes, for which other streams should not wait.
            return await asyncio.to_thread(form.whole, all_news, usage)

    async def until_closing(self, source: AsyncGenerator[bytes, None]) -> AsyncGenerator[bytes, None]:
        """A source that never ends by itself, up to the moment when the server closes."""
        async with aclosing(source):
            async for block in source:
                if self.closing is not None:
                    raise unavailable(self.closing, code="closing")
                yield block

    @contextmanager
    def _choices(self, job: Job, record: dict[str, Any]) -> Iterator[Choices]:
        engine = self.ready_engine()
        try:
            choices = Choices(engine, job.requests, self._bell())
        except QueueFullError as error:
            headers = {"retry-after": RETRY_AFTER}
            raise ApiError(429, str(error), kind="rate_limit_error", code="queue_full", headers=headers) from None
        except EngineDeadError as error:
            dead = unavailable("the engine has stopped: restart the server", code="dead")
            dead.detail = str(error)
            raise dead from None
        except ValueError as error:
            raise ApiError(400, str(error)) from None
        self._answering.add(choices)
        self._set_pace(engine)
        try:
            yield choices
        finally:
            self._answering.discard(choices)
            self._set_pace(engine)
            choices.close()
            self._count(job, choices, record)

    def _set_pace(self, engine: InferenceEngine) -> None:
        """Those that wait in the queue have nothing to send, so they slow nobody down."""
        self._bell().interval = SEND_INTERVAL * min(len(self._answering), engine.config.running_limit)

    def _count(self, job: Job, choices: Choices, record: dict[str, Any]) -> None:
        reasons = []
        for stream in choices.streams:
            ending = stream.output.ending
            reasons.append("cancelled" if ending is None else ending.reason)
            self.metrics.count_choice(reasons[-1], stream.output.token_times[:])
        record |= {
            "prompt_tokens": sum(map(len, job.prompts)),
            "completion_tokens": sum(len(stream.output.sampled) for stream in choices.streams),
            "finish_reason": reasons[0] if len(set(reasons)) == 1 else ",".join(reasons),
        }

    def _bell(self) -> Bell:
        loop = asyncio.get_running_loop()
        if self._the_bell is None or self._the_bell.loop is not loop:
            self._the_bell = Bell(loop)
        return self._the_bell


def _usage(job: Job, choices: Choices) -> Usage:
    results = [stream.result() for stream in choices.streams]
    return Usage(
        prompt_tokens=sum(map(len, job.prompts)),
        cached_tokens=sum(result.cached_tokens for result in results[:: job.n]),
        completion_tokens=sum(result.completion_tokens for result in results),
    )


@contextmanager
def _ticking(wake: asyncio.Event, interval: float) -> Iterator[Any]:
    """Set ``wake`` every ``interval`` seconds; gives a question: has it ticked since it was last asked?"""
    loop, ticks = asyncio.get_running_loop(), 0

    def tick() -> None:
        nonlocal ticks, timer
        ticks += 1
        wake.set()
        timer = loop.call_later(interval, tick)

    def has_ticked() -> bool:
        nonlocal ticks
        was, ticks = ticks, 0
        return was > 0

    timer = loop.call_later(interval, tick)
    try:
        yield has_ticked
    finally:
        timer.cancel()
