"""The choices of one HTTP request while the engine works on them, seen from the event loop.

All of them are queued or none. News wake the event loop once, however many tokens and choices they are: a step of the
engine that serves sixteen streams costs one wake-up, not sixteen. It knows no protocol: text and tokens go out as they
are.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import NamedTuple

from astrai.inference.accumulator import Accumulator
from astrai.inference.engine import GenerationRequest, GenerationStream, InferenceEngine
from astrai.inference.request import Ending, Sampled
from astrai.inference.server.errors import ApiError, internal_error, unavailable


class Bell:
    """Sets events of one event loop from any thread: all that were asked for since the last time in one go.

    Two goes lie ``interval`` seconds apart. What arises in between travels together, which is cheaper for everybody: a
    send costs as much of the machine as many tokens, and the model needs the machine too.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.interval = 0.0
        self._rung: deque[asyncio.Event] = deque()
        self._is_called = False
        self._last = 0.0

    def ring(self, event: asyncio.Event, at_once: bool = False) -> None:
        """Set ``event`` soon, on the loop's own thread."""
        self._rung.append(event)
        if at_once or not self._is_called:
            self._is_called = True
            with suppress(RuntimeError):  # the event loop was closed: nobody is left to wake
                self.loop.call_soon_threadsafe(self._wake_all if at_once else self._wake_soon)

    def _wake_soon(self) -> None:
        self.loop.call_at(self._last + self.interval, self._wake_all)  # in the past: at once

    def _wake_all(self) -> None:
        self._is_called = False  # NOTE: first, so that whoever rings from now on calls again
        self._last = self.loop.time()
        while self._rung:
            self._rung.popleft().set()


class News(NamedTuple):
    """What one choice has to tell since it was last asked."""

    index: int
    text: str
    tokens: Sequence[Sampled]  # that the text is made of
    ending: Ending | None


@dataclass(slots=True)
class _Choice:
    """How much of one stream was told."""

    index: int
    stream: GenerationStream
    pieces: int = 0
    tokens: int = 0
    has_ended: bool = False

    def news(self) -> News | None:
        output = self.stream.output
        ending = output.ending  # NOTE: before the pieces, so that none is missed
        count = len(output.pieces)
        if self.has_ended or (count == self.pieces and ending is None):
            return None
        text = "".join(output.pieces[self.pieces : count])
        end = output.piece_ends[count - 1] if count else 0
        if ending is not None:
            end, self.has_ended = output.num_text_tokens, True
        tokens = output.sampled[self.tokens : end]
        self.pieces, self.tokens = count, end
        return News(self.index, text, tokens, ending)


class Choices:
    """The streams of one request. Close it, whatever happens: that ends what still runs.

    Raises:
        QueueFullError: too many requests wait; none of these was queued.
        EngineDeadError: the engine takes no requests.
        ValueError: one of them can never run.
    """

    def __init__(self, engine: InferenceEngine, requests: Sequence[GenerationRequest], bell: Bell) -> None:
        self.wake = asyncio.Event()
        self.error: ApiError | None = None
        self.streams: list[GenerationStream] = []
        self._bell = bell
        try:
            for request in requests:
                self.streams.append(engine.submit(request))
        except BaseException:
            self.close()
            raise
        self._choices = [_Choice(index, stream) for index, stream in enumerate(self.streams)]

    def end(self, error: ApiError) -> None:
        """End all of it, and let whoever reads it say why."""
        self.error = error
        self.close()
        self.wake.set()

    def close(self) -> None:
        """Take the slots back, within one step."""
        for stream in self.streams:
            stream.cancel()

    def listen(self) -> None:
        """Set ``wake`` at every piece of text and at every end."""
        for stream in self.streams:
            stream.output.listen(lambda output=stream.output: self._ring(output))  # type: ignore[misc]

    def news(self) -> Iterator[News]:
        """What there is to tell now, by choice.

        Raises:
            ApiError: one of them was cut short, or all were ended from outside.
        """
        self.wake.clear()
        if self.error is not None:
            raise self.error
        for choice in self._choices:
            if news := choice.news():
                if news.ending and (error := failure(news.ending)):
                    raise error
                yield news

    @property
    def have_ended(self) -> bool:
        """Whether all was told."""
        return all(choice.has_ended for choice in self._choices)

    async def until_ended(self) -> list[News]:
        """All of every choice, at the end; or the first failure, at once.

        Raises:
            ApiError: one of them was cut short, or all were ended from outside.
        """
        for stream in self.streams:
            stream.output.listen(lambda output=stream.output: self._ring_at_end(output))  # type: ignore[misc]
        while self.error is None:
            endings = [stream.output.ending for stream in self.streams]
            if all(endings) or any(ending and failure(ending) for ending in endings):
                break
            await self.wake.wait()
            self.wake.clear()
        return list(self.news())

    def _ring(self, output: Accumulator) -> None:
        """The first token and the end are awaited; all between may travel together."""
        self._bell.ring(self.wake, at_once=len(output.pieces) == 1 or output.ending is not None)

    def _ring_at_end(self, output: Accumulator) -> None:
        if output.ending is not None:
            self._bell.ring(self.wake)


def failure(ending: Ending) -> ApiError | None:
    """What to say of a request that was cut short. The message of a failing model is for the log, not for clients."""
    if ending.reason == "timeout":
        return ApiError(504, ending.message, code="timeout", headers={"x-should-retry": "false"})
    if ending.reason == "cancelled":
        return unavailable(ending.message or "the request was cancelled in the engine", code="cancelled")
    if ending.reason == "error":
        error = internal_error()
        error.detail = ending.message
        return error
    return None
