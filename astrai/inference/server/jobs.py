"""From the bytes of a request to what the engine is asked to do. It runs on a worker thread: cutting text takes time.

Every check that can refuse a request stands here, before anything is queued. It knows no HTTP library, and asks the
engine only for its tokenizer and its limits.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from astrai.inference.engine import GenerationRequest, InferenceEngine
from astrai.inference.server.config import ServerConfig
from astrai.inference.server.errors import ApiError, invalid
from astrai.inference.server.json_body import parse_object
from astrai.inference.server.protocol import Body, ChatBody, CompletionBody, validate
from astrai.tokenizer import Tokenizer


@dataclass(frozen=True, slots=True)
class Job:
    """One HTTP request's work: ``n`` requests for each prompt, in the order of the choices' indices."""

    body: Body
    prompts: tuple[tuple[int, ...], ...]
    requests: tuple[GenerationRequest, ...]

    @property
    def n(self) -> int:
        """Choices for each prompt."""
        return len(self.requests) // len(self.prompts)


def read_job(
    kind: type[ChatBody] | type[CompletionBody], raw: bytes, engine: InferenceEngine, config: ServerConfig
) -> Job:
    """Parse, check and tokenize.

    Raises:
        ApiError: the request cannot run; it says which field is at fault.
    """
    body = validate(kind, parse_object(raw))
    check_model(body.model, config)
    tokenizer = engine.tokenizer
    if tokenizer is None:
        raise ApiError(503, "this engine has no tokenizer, so it cannot serve text: give it one", code="no_tokenizer")
    _check_bias(body, engine)
    _check_choices(body, 1 if isinstance(body, ChatBody) else len(body.prompt), config)
    prompts = []
    # NOTE: each is checked before the next is cut, so that a list of prompts that are too long costs little.
    for prompt_ids in _ids_of_each_prompt(body, tokenizer, config):
        _check_room(prompt_ids, "messages" if isinstance(body, ChatBody) else "prompt", engine)
        prompts.append(prompt_ids)
    return Job(body, tuple(prompts), tuple(_requests(body, prompts, config)))


def check_model(name: str, config: ServerConfig) -> None:
    """Refuse (404) every model but ours."""
    if name != config.model_name:
        message = f"this server has no model of that name: it serves {config.model_name!r}"
        raise ApiError(404, message, param="model", code="model_not_found")


def _requests(body: Body, prompts: Sequence[tuple[int, ...]], config: ServerConfig) -> list[GenerationRequest]:
    sampling = body.to_sampling()
    requests = []
    for prompt_ids in prompts:
        for index in range(body.n or 1):
            own = sampling if sampling.seed is None else replace(sampling, seed=sampling.seed + index)
            requests.append(GenerationRequest(prompt_ids, sampling=own, timeout=config.request_timeout))
    return requests


def _ids_of_each_prompt(body: Body, tokenizer: Tokenizer, config: ServerConfig) -> Iterator[tuple[int, ...]]:
    if isinstance(body, ChatBody):
        yield _chat_ids(body, tokenizer, config)
        return
    for index, prompt in enumerate(body.prompt):
        yield _prompt_ids(prompt, index, tokenizer, config)


def _chat_ids(body: ChatBody, tokenizer: Tokenizer, config: ServerConfig) -> tuple[int, ...]:
    if len(body.messages) > config.max_messages:
        raise invalid(
            "messages", f"messages has {len(body.messages):,} entries, more than the {config.max_messages:,} allowed"
        )
    _check_chars("messages", sum(len(message.content) for message in body.messages), config)
    try:
        return tuple(tokenizer.apply_chat_template([message.for_template() for message in body.messages]))
    except ValueError as error:
        raise invalid("messages", f"messages: {error}") from None


def _prompt_ids(prompt: str | Sequence[int], index: int, tokenizer: Tokenizer, config: ServerConfig) -> tuple[int, ...]:
    if not isinstance(prompt, str):
        return tuple(prompt)
    _check_chars("prompt", len(prompt), config)
    try:
        return tuple(tokenizer.encode(prompt, add_special=True))
    except ValueError as error:
        raise invalid("prompt", f"prompt {index}: {error}") from None


def _check_chars(param: str, chars: int, config: ServerConfig) -> None:
    if chars > config.max_prompt_chars:
        raise invalid(
            param,
            f"{param} has {chars:,} characters, more than the {config.max_prompt_chars:,} allowed: shorten it",
            code="context_length_exceeded",
        )


def _check_room(prompt_ids: Sequence[int], param: str, engine: InferenceEngine) -> None:
    vocab_size = engine.model.config.vocab_size
    if not prompt_ids:
        raise invalid(param, f"{param} has no tokens: give at least one")
    if (wrong := next((i for i in prompt_ids if not 0 <= i < vocab_size), None)) is not None:
        raise invalid(param, f"{param} has token id {wrong}, but the vocabulary is 0 to {vocab_size - 1}")
    if len(prompt_ids) >= engine.max_seq_len:
        raise invalid(
            param,
            f"This model's maximum context length is {engine.max_seq_len:,} tokens, prompt and answer together, but "
            f"{param} has {len(prompt_ids):,} tokens: shorten it",
            code="context_length_exceeded",
        )


def _check_choices(body: Body, num_prompts: int, config: ServerConfig) -> None:
    n = body.n or 1
    if num_prompts * n > config.max_choices:
        raise invalid(
            "n" if n > 1 else "prompt",
            f"{num_prompts:,} prompt(s) with n={n:,} make {num_prompts * n:,} choices, but one request may ask for "
            f"{config.max_choices}: send several requests",
        )


def _check_bias(body: Body, engine: InferenceEngine) -> None:
    vocab_size = engine.model.config.vocab_size
    if wrong := [key for key in body.logit_bias or {} if int(key) >= vocab_size]:
        raise invalid("logit_bias", f"logit_bias has token id {wrong[0]}, but the vocabulary is 0 to {vocab_size - 1}")
