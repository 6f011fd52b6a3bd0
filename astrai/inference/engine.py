"""The engine as its users see it: text in, text out, from any thread, for many requests at once.

It puts the parts together (model, cache, scheduler, trace), turns text into token ids and tokens into text, and hands
results to the callers. What runs when is the scheduler's business, HTTP the server's.
"""

from __future__ import annotations

import asyncio
import itertools
import operator
import queue
import random
import weakref
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from time import monotonic
from typing import Any, Self

from astrai.config import EngineConfig, SamplingParams
from astrai.inference.accumulator import Accumulator
from astrai.inference.cache.kv_cache import KVCache
from astrai.inference.cache.prefix_cache import PrefixCacheManager
from astrai.inference.cache.radix_tree import PrefixTree, RadixTree
from astrai.inference.cache.slots import SlotAllocator, Slots
from astrai.inference.daemon import SchedulerDaemon
from astrai.inference.request import Request
from astrai.inference.rerun import rerun
from astrai.inference.runner import TransformerRunner
from astrai.inference.sampler import Sampler
from astrai.inference.scheduler import InferenceScheduler
from astrai.model.transformer import Transformer
from astrai.tokenizer import Tokenizer
from astrai.trace.events import FinishReason
from astrai.trace.log import EventLog
from astrai.trace.replay import replay
from astrai.trace.snapshot import Snapshot

Prompt = str | Sequence[int]
Message = dict[str, Any]


class GenerationError(RuntimeError):
    """A request ended by an error, or was ended by the engine rather than by its caller."""


@dataclass(frozen=True, slots=True)
class GenerationRequest:
    """What to generate from: a ``prompt`` (text or token ids), or ``messages`` for the chat template, not both.

    ``timeout`` is in seconds from the submit. ``on_token`` is called on the engine's thread with each token id: keep
    it quick; an exception in it ends this request and no other.
    """

    prompt: Prompt | None = None
    messages: Sequence[Message] | None = None
    sampling: SamplingParams = field(default_factory=SamplingParams)
    timeout: float | None = None
    on_token: Callable[[int], None] | None = None

    def __post_init__(self) -> None:
        if (self.prompt is None) == (self.messages is None):
            raise ValueError("give either prompt= or messages=, one of the two")
        if self.timeout is not None and not self.timeout > 0:
            raise ValueError(f"timeout is {self.timeout}, but must be a positive number of seconds")


@dataclass(frozen=True, slots=True)
class GenerationResult:
    """What came out, and what it took. ``token_ids`` include the token that ended the request; ``text`` does not."""

    request_id: int
    text: str
    token_ids: tuple[int, ...]
    finish_reason: FinishReason
    error: str  # empty unless something went wrong
    prompt_tokens: int
    cached_tokens: int  # prompt tokens that were found in the prefix cache
    token_times: tuple[float, ...]  # seconds from submit to each token
    logprobs: tuple[float, ...]  # of the tokens, under the model; empty unless asked for
    top_logprobs: tuple[tuple[tuple[int, float], ...], ...]

    @property
    def completion_tokens(self) -> int:
        """Tokens that were generated."""
        return len(self.token_ids)

    @property
    def ttft(self) -> float | None:
        """Seconds from submit to the first token."""
        return self.token_times[0] if self.token_times else None


@dataclass(frozen=True, slots=True)
class EngineStats:
    """Where the engine stands. Read while it runs, the numbers may be one step apart."""

    alive: bool
    error: str
    steps: int
    waiting: int
    running: int
    free_slots: int
    num_slots: int
    tree_tokens: int
    arrived: int
    rejected: int
    finished: dict[str, int]
    prefilled_tokens: int
    cached_tokens: int
    decoded_tokens: int
    kv_cache_bytes: int

    @property
    def hit_rate(self) -> float:
        """The share of admitted prompt tokens that needed no computing."""
        total = self.cached_tokens + self.prefilled_tokens
        return self.cached_tokens / total if total else 0.0


class GenerationStream:
    """One request under way. Iterate over it (``for`` or ``async for``) for pieces of text, as often as you like."""

    def __init__(self, request: Request, output: Accumulator, cancel: Callable[[int], None]) -> None:
        self.request_id = request.request_id
        self.output = output
        self._request = request
        self._cancel = cancel
        self._was_cancelled = False

    def cancel(self) -> None:
        """End the request within one step, if it has not ended yet."""
        if self.output.ending is None:
            self._was_cancelled = True
            self._cancel(self.request_id)

    def __iter__(self) -> Iterator[str]:
        for index in itertools.count():
            piece = self.output.wait_for_piece(index)
            if piece is None:
                return self.raise_for_error()
            yield piece

    async def __aiter__(self) -> AsyncIterator[str]:
        loop, wake, index = asyncio.get_running_loop(), asyncio.Event(), 0

        def wake_up() -> None:
            with suppress(RuntimeError):  # the event loop was closed: nobody is left to wake
                loop.call_soon_threadsafe(wake.set)

        self.output.listen(wake_up)
        try:
            while True:
                ended = self.output.ending is not None
                while index < len(self.output.pieces):
                    yield self.output.pieces[index]
                    index += 1
                if ended:
                    break
                await wake.wait()
                wake.clear()
        finally:
            self.output.unlisten(wake_up)
        self.raise_for_error()

    def result(self, timeout: float | None = None) -> GenerationResult:
        """All of it, once it has ended. An error is told in ``finish_reason`` and ``error``, not raised.

        Raises:
            TimeoutError: it has not ended within ``timeout`` seconds.
        """
        output, ending = self.output, self.output.wait_for_end(timeout)
        wants_logprobs = self._request.sampling.logprobs is not None
        return GenerationResult(
            request_id=self.request_id,
            text="".join(output.pieces),
            token_ids=tuple(sampled.token_id for sampled in output.sampled),
            finish_reason=ending.reason,
            error=ending.message,
            prompt_tokens=self._request.prompt_len,
            cached_tokens=self._request.cached_len,
            token_times=tuple(output.token_times),
            logprobs=tuple(s.logprob for s in output.sampled if s.logprob is not None) if wants_logprobs else (),
            top_logprobs=tuple(s.top_logprobs for s in output.sampled) if wants_logprobs else (),
        )

    def raise_for_error(self) -> None:
        """Raise ``GenerationError`` if something other than the caller cut the request short."""
        ending = self.output.ending
        if ending and (ending.reason == "error" or (ending.reason == "cancelled" and not self._was_cancelled)):
            raise GenerationError(f"request {self.request_id} ended with {ending.reason!r}: {ending.message}")


class InferenceEngine:
    """A model behind a scheduler that batches continuously and remembers prefixes.

    Keywords other than the parts are fields of :class:`EngineConfig`. Each part can be your own: ``slots`` is called
    with the number of rows, ``tree`` with nothing, ``prefix_cache`` and ``scheduler`` with what the package's own
    classes take, and ``sampler`` is called with logits (rows, V) and their requests. ``prefix_cache=False`` remembers
    nothing.

    Example:
        >>> model, tokenizer = astrai.load("tiny")  # doctest: +SKIP
        >>> with InferenceEngine(model, tokenizer, num_slots=4) as engine:  # doctest: +SKIP
        ...     print(engine.generate("Once upon a time", max_tokens=20))
    """

    def __init__(
        self,
        model: Transformer,
        tokenizer: Tokenizer | None = None,
        config: EngineConfig | None = None,
        *,
        slots: Callable[[int], Slots] = SlotAllocator,
        tree: Callable[[], PrefixTree] = RadixTree,
        prefix_cache: Callable[..., PrefixCacheManager] | bool = PrefixCacheManager,
        scheduler: Callable[..., InferenceScheduler] = InferenceScheduler,
        sampler: Callable[..., Any] | None = None,
        start: bool = True,
        **settings: Any,
    ) -> None:
        if isinstance(prefix_cache, bool):
            settings["prefix_cache"], prefix_cache = prefix_cache, PrefixCacheManager
        self._parts = {"slots": slots, "tree": tree, "prefix_cache": prefix_cache, "scheduler": scheduler}
        if config is not None and settings:
            raise ValueError(f"give config= or single settings ({', '.join(settings)}), not both")
        config = config if config is not None else EngineConfig(**settings)
        self.config = config.on(next(model.parameters()).device.type)
        self.model = model
        self.tokenizer = tokenizer
        self.max_seq_len = self.config.max_seq_len or model.config.max_seq_len
        self.eos_ids = tuple(dict.fromkeys((*model.config.eos_ids, *(tokenizer.eos_ids if tokenizer else ()))))
        self.kv_cache = self._make_kv_cache()
        self.trace = self._make_trace()
        cache = prefix_cache(
            slots(self.config.num_slots),
            tree(),
            capacity_tokens=self.config.capacity_tokens,
            enabled=self.config.prefix_cache,
        )
        self.scheduler = scheduler(
            TransformerRunner(model, self.kv_cache, sampler or Sampler()),
            cache,
            max_seq_len=self.max_seq_len,
            max_running=self.config.running_limit,
            max_waiting=self.config.max_waiting,
            prefill_budget=self.config.prefill_budget,
            decode_policy=self.config.decode_policy,
            eos_ids=self.eos_ids,
            emit=self.trace.emit,
        )
        self.daemon = SchedulerDaemon(self.scheduler)
        self._ids = itertools.count()
        self._seeds = random.SystemRandom()
        # An engine that nobody holds any more, or that runs when Python exits, ends its loop. Streams hold it.
        weakref.finalize(self, _end_loop, self.daemon)
        if start:
            self.daemon.start()

    def _make_kv_cache(self) -> KVCache:
        weight = next(self.model.parameters())
        return KVCache(
            self.model.config,
            self.config.num_slots,
            self.max_seq_len,
            device=weight.device,
            dtype=weight.dtype,
            memory_limit=self.config.kv_memory_bytes,
            poison=self.config.poison,
            spare_column=weight.device.type == "cuda",  # CUDA graphs want fixed shapes
        )

    def _make_trace(self) -> EventLog:
        header = {
            "engine_config": self.config.to_dict(),
            "model_config": self.model.config.to_dict(),
            "tokenizer_hash": self.tokenizer.hash if self.tokenizer else None,
        }
        return EventLog(self.config.num_slots, capacity=self.config.trace_events, header=header)

    # --- one request --------------------------------------------------------------------------------------------------

    def submit(self, request: GenerationRequest) -> GenerationStream:
        """Queue a request and return at once.

        Raises:
            ValueError: the request can never run; nothing was queued.
            QueueFullError: too many requests wait.
            EngineDeadError: the engine was shut down or has died.
        """
        sampling = self._checked(request.sampling)
        prompt_ids = self._prompt_ids(request)
        silent_ids = {*sampling.stop_ids, *(() if sampling.ignore_eos else self.eos_ids)}
        decoder = self.tokenizer.stream() if self.tokenizer else None
        output = Accumulator(decoder, sampling.stop, silent_ids, request.on_token)
        deadline = None if request.timeout is None else monotonic() + request.timeout
        queued = Request(next(self._ids), prompt_ids, sampling, output, deadline)
        self.scheduler.submit(queued)
        return GenerationStream(queued, output, self.cancel)

    def cancel(self, request_id: int) -> None:
        """End a request within one step, if it has not ended yet."""
        self.scheduler.cancel(request_id)

    def generate_with_request(self, request: GenerationRequest) -> GenerationResult:
        """Generate and wait for all of it. How it ended is told in the result."""
        return _wait_for([self.submit(request)])[0]

    # --- text ---------------------------------------------------------------------------------------------------------

    def generate(self, prompt: Prompt | Sequence[Prompt], *, stream: bool = False, **sampling: Any) -> Any:
        """Continue one prompt or several; keywords are fields of :class:`SamplingParams`.

        Returns:
            One prompt: its text, or with ``stream=True`` an iterator of pieces. A list of prompts: a list of texts, or
            an iterator of ``(index, piece)`` in the order in which the pieces arise.

        Raises:
            GenerationError: a request ended by an error, or the engine was shut down under it.
            QueueFullError: there are more prompts than may wait (``max_waiting``); none of them runs.
        """
        params = SamplingParams(**sampling)
        if isinstance(prompt, str) or len(prompt) == 0 or hasattr(prompt[0], "__index__"):
            (only,) = self._submit_all([prompt], params)  # type: ignore[list-item]
            return _until_closed(only) if stream else _texts_of([only])[0]
        streams = self._submit_all(prompt, params)  # type: ignore[arg-type]
        return _merge(streams) if stream else _texts_of(streams)

    async def generate_async(self, prompt: Prompt, **sampling: Any) -> AsyncIterator[str]:
        """Like ``generate(stream=True)`` for one prompt, for ``async for``. Leaving the loop cancels the request."""
        stream = self.submit(GenerationRequest(prompt, sampling=SamplingParams(**sampling)))
        try:
            async for piece in stream:
                yield piece
        finally:
            stream.cancel()

    def _submit_all(self, prompts: Sequence[Prompt], params: SamplingParams) -> list[GenerationStream]:
        streams: list[GenerationStream] = []
        try:
            for prompt in prompts:
                streams.append(self.submit(GenerationRequest(prompt, sampling=params)))
        except BaseException:
            for stream in streams:
                stream.cancel()
            raise
        return streams

    # --- checks -------------------------------------------------------------------------------------------------------

    def _prompt_ids(self, request: GenerationRequest) -> tuple[int, ...]:
        prompt = request.prompt
        if request.messages is not None:
            ids = self._need_tokenizer("messages").apply_chat_template(request.messages)
        elif isinstance(prompt, str):
            ids = self._need_tokenizer("a text prompt").encode(prompt, add_special=True)
        else:
            assert prompt is not None
            ids = _integers(prompt)
        self._check_ids(ids, "the prompt")
        return tuple(ids)

    def _checked(self, sampling: SamplingParams) -> SamplingParams:
        self._check_ids([token_id for token_id, _ in sampling.logit_bias], "logit_bias")
        self._check_ids(sampling.stop_ids, "stop_ids")
        if sampling.stop:
            self._need_tokenizer("a stop string")
        if sampling.is_greedy or sampling.seed is not None:
            return sampling
        return sampling.with_seed(self._seeds.getrandbits(63))

    def _check_ids(self, token_ids: Sequence[int], where: str) -> None:
        vocab_size = self.model.config.vocab_size
        for token_id in token_ids:
            if not 0 <= token_id < vocab_size:
                raise ValueError(f"{where} has token id {token_id}, but the vocabulary is 0 to {vocab_size - 1}")

    def _need_tokenizer(self, what: str) -> Tokenizer:
        if self.tokenizer is None:
            raise ValueError(f"{what} needs a tokenizer, and this engine has none: pass token ids, or give it one")
        return self.tokenizer

    # --- the engine itself --------------------------------------------------------------------------------------------

    def stats(self) -> EngineStats:
        """Where the engine stands, without disturbing it."""
        scheduler, cache = self.scheduler, self.scheduler.cache
        return EngineStats(
            alive=self.daemon.is_alive and scheduler.inbox.why_closed is None,
            error=scheduler.inbox.why_closed or "",
            steps=scheduler.step_count,
            waiting=len(scheduler.waiting),
            running=len(scheduler.running),
            free_slots=cache.slots.free_mask.bit_count(),
            num_slots=cache.slots.num_slots,
            tree_tokens=cache.tree.num_tokens,
            arrived=scheduler.totals["arrived"],
            rejected=scheduler.totals["rejected"],
            finished=dict(scheduler.finished),
            prefilled_tokens=scheduler.totals["prefilled_tokens"],
            cached_tokens=scheduler.totals["cached_tokens"],
            decoded_tokens=scheduler.totals["decoded_tokens"],
            kv_cache_bytes=self.kv_cache.k_cache.nbytes + self.kv_cache.v_cache.nbytes,
        )

    def snapshot(self) -> Snapshot:
        """The state after the last event in the trace."""
        return replay(self.trace)

    def rerun(self, until_step: int, **then: Any) -> EventLog:
        """The run so far once more: ``until_step`` steps as they were, then with other settings, without computing.

        ``then`` takes ``decode_policy``, ``prefill_budget``, ``max_running`` and ``scheduler``: see ``rerun.rerun``.
        """
        return rerun(self.trace, until_step, then=then, **self._parts)

    def shutdown(self, timeout: float | None = None) -> bool:
        """End all requests as ``cancelled`` and stop the loop; ``False`` if a step outlasted ``timeout`` seconds."""
        return self.daemon.stop(timeout)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.shutdown()


def _end_loop(daemon: SchedulerDaemon) -> None:
    if daemon.is_alive:  # a scheduler that is stepped by hand may outlive its engine
        daemon.stop(timeout=10)


def _integers(prompt: Sequence[int]) -> list[int]:
    try:
        return [operator.index(token_id) for token_id in prompt]
    except TypeError as error:
        raise ValueError(
            f"a prompt is text or a list of token ids, but this one holds something else: {error}"
        ) from None


def _wait_for(streams: Sequence[GenerationStream]) -> list[GenerationResult]:
    try:
        return [stream.result() for stream in streams]
    finally:  # if the caller was interrupted, nobody waits for the rest
        for stream in streams:
            stream.cancel()


def _texts_of(streams: Sequence[GenerationStream]) -> list[str]:
    results = _wait_for(streams)
    for stream in streams:
        stream.raise_for_error()
    return [result.text for result in results]


def _until_closed(stream: GenerationStream) -> Iterator[str]:
    try:
        yield from stream
    finally:
        stream.cancel()


def _merge(streams: Sequence[GenerationStream]) -> Iterator[tuple[int, str]]:
    """The pieces of several streams as they arise, each with the index of its stream."""
    news: queue.SimpleQueue[int] = queue.SimpleQueue()
    for index, stream in enumerate(streams):
        stream.output.listen(lambda index=index: news.put(index))  # type: ignore[misc]
    given, open_streams = [0] * len(streams), set(range(len(streams)))
    try:
        while open_streams:
            index = news.get()
            output, ended = streams[index].output, streams[index].output.ending is not None
            for piece in output.pieces[given[index] :]:
                given[index] += 1
                yield index, piece
            if ended and index in open_streams:
                open_streams.remove(index)
                streams[index].raise_for_error()
    finally:
        for stream in streams:
            stream.cancel()
