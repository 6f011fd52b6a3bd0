"""Our OpenAPI document: FastAPI makes it, and the bodies and answers that it cannot see are told to it here.

Bodies are read by hand (their size, time and JSON are checked more strictly than FastAPI would), so their schemas come
from the same pydantic models by another way.
"""

from __future__ import annotations

from typing import Any, Literal

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from astrai.inference.server.protocol import ChatBody, CompletionBody, Wire

REF = "#/components/schemas/{model}"


class ErrorFields(BaseModel):
    """What is wrong."""

    message: str
    type: str
    param: str | None
    code: str | None


class ErrorBody(BaseModel):
    """Every error looks like this."""

    error: ErrorFields


class PromptTokensDetails(BaseModel):
    """Of the prompt's tokens, those whose KV was found in the prefix cache."""

    cached_tokens: int


class UsageBody(BaseModel):
    """Counts of tokens."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: PromptTokensDetails


class TokenLogprob(BaseModel):
    """One token."""

    token: str
    logprob: float
    bytes: list[int] | None


class ContentLogprob(TokenLogprob):
    """One token of the answer, and the most likely ones in its place."""

    top_logprobs: list[TokenLogprob]


class ChatLogprobsBody(BaseModel):
    """One entry a token."""

    content: list[ContentLogprob]
    refusal: None


class AnswerMessage(BaseModel):
    """What the model says."""

    role: Literal["assistant"]
    content: str
    refusal: None


class ChatChoice(BaseModel):
    """One answer."""

    index: int
    message: AnswerMessage
    logprobs: ChatLogprobsBody | None
    finish_reason: Literal["stop", "length"]


class ChatCompletion(BaseModel):
    """The answers to a conversation."""

    id: str
    object: Literal["chat.completion"]
    created: int
    model: str
    choices: list[ChatChoice]
    usage: UsageBody


class CompletionLogprobsBody(BaseModel):
    """Lists with one entry a token."""

    tokens: list[str]
    token_logprobs: list[float]
    top_logprobs: list[dict[str, float]]
    text_offset: list[int]


class CompletionChoice(BaseModel):
    """One continuation."""

    index: int
    text: str
    logprobs: CompletionLogprobsBody | None
    finish_reason: Literal["stop", "length"]


class Completion(BaseModel):
    """The continuations of one prompt or several."""

    id: str
    object: Literal["text_completion"]
    created: int
    model: str
    choices: list[CompletionChoice]
    usage: UsageBody


_error = {"model": ErrorBody}
_EVENT = {"type": "object", "properties": {"data": {"type": "string"}}, "required": ["data"]}
_stream = {"text/event-stream": {"schema": _EVENT}}
ERRORS: dict[int | str, dict[str, Any]] = {
    401: {**_error, "description": "The API key is missing or wrong"},
    503: {"description": "Loading, closing or dead; the body says which"},
}
METRICS: dict[int | str, dict[str, Any]] = {
    200: {"content": {"text/plain": {"schema": {"type": "string"}}}, "description": "Prometheus's text format"},
    **ERRORS,
}
TRACE: dict[int | str, dict[str, Any]] = {
    200: {"content": _stream, "description": "One event a record"},
    400: {**_error, "description": "There is no such view or slot"},
    403: {**_error, "description": "The trace is off"},
    **ERRORS,
}
TRACE_QUERY: dict[str, Any] = {
    "parameters": [
        {"name": "view", "in": "query", "schema": {"type": "string", "enum": ["events", "snapshot"]}},
        {"name": "focus", "in": "query", "schema": {"type": "integer", "minimum": 0}},
    ]
}
NAMED: dict[int | str, dict[str, Any]] = {404: {**_error, "description": "Another model is served here"}, **ERRORS}
_MISTAKES: dict[int | str, dict[str, Any]] = {
    400: {**_error, "description": "A field is wrong, missing or not supported; `param` names it"},
    404: {**_error, "description": "Another model is served here"},
    408: {**_error, "description": "The body did not arrive in time"},
    413: {**_error, "description": "The body is too large"},
    415: {**_error, "description": "The body is not application/json"},
    429: {**_error, "description": "Too many requests wait; see Retry-After"},
    500: {**_error, "description": "The model failed on this request"},
    504: {**_error, "description": "The request's deadline has passed"},
}
ANSWERS: dict[str, dict[int | str, dict[str, Any]]] = {
    "chat": {200: {"model": ChatCompletion, "content": _stream}, **_MISTAKES, **ERRORS},
    "completion": {200: {"model": Completion, "content": _stream}, **_MISTAKES, **ERRORS},
}


def body_of(model: type[Wire]) -> dict[str, Any]:
    """What tells FastAPI of a body that it does not read itself."""
    schema = {"$ref": REF.format(model=model.__name__)}
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": schema}}}}


def openapi_of(app: FastAPI, model_name: str) -> dict[str, Any]:
    """FastAPI's document with the schemas of the bodies added, and the name that the model has here."""
    document = get_openapi(title=app.title, version=app.version, routes=app.routes)
    _, bodies = models_json_schema([(ChatBody, "validation"), (CompletionBody, "validation")], ref_template=REF)
    for body in (ChatBody, CompletionBody):
        schema = bodies["$defs"][body.__name__]
        schema["properties"]["model"] = {"type": "string", "enum": [model_name]}
        schema["allOf"] = [_needs("stream_options", "object", "stream")]
    bodies["$defs"]["ChatBody"]["allOf"] += [_needs("top_logprobs", "integer", "logprobs"), _ONE_LIMIT]
    document["components"]["schemas"] |= bodies["$defs"]
    for operation in (operation for path in document["paths"].values() for operation in path.values()):
        operation["responses"].pop("422", None)  # FastAPI's own, which we never send
    return document


_LIMITS = ("max_tokens", "max_completion_tokens")
_ONE_LIMIT = {"not": {"required": list(_LIMITS), "properties": {name: {"type": "integer"} for name in _LIMITS}}}


def _needs(field: str, kind: str, flag: str) -> dict[str, Any]:
    """``field`` may only be given with ``flag`` set to true."""
    given = {"required": [field], "properties": {field: {"type": kind}}}
    return {"if": given, "then": {"required": [flag], "properties": {flag: {"const": True}}}}
