"""The HTTP API: OpenAI's endpoints and our own, each a few lines over what the other modules do.

It knows routes, statuses and the shape of our OpenAPI document. What runs when is the engine's business.
"""

from __future__ import annotations

import asyncio
import json
import time
from dataclasses import asdict
from typing import Any

from fastapi import FastAPI, Request, Response
from starlette.exceptions import HTTPException
from starlette.responses import HTMLResponse
from starlette.routing import Route

from astrai import __version__
from astrai.inference.engine import InferenceEngine
from astrai.inference.server.config import ServerConfig
from astrai.inference.server.errors import ApiError, invalid, unavailable
from astrai.inference.server.forms import ChatForm, CompletionForm, Form
from astrai.inference.server.gate import Gate
from astrai.inference.server.jobs import Job, check_model, read_job
from astrai.inference.server.logprobs import ChatLogprobs, CompletionLogprobs
from astrai.inference.server.page import page
from astrai.inference.server.protocol import ChatBody, CompletionBody
from astrai.inference.server.responses import RECORD, EventStream, WholeAnswer, error_response, json_response
from astrai.inference.server.schema import ANSWERS, ERRORS, METRICS, NAMED, TRACE, TRACE_QUERY, body_of, openapi_of
from astrai.inference.server.service import Service
from astrai.inference.server.trace_stream import trace_events
from astrai.inference.server.view_stream import SharedRun, read_focus, view_events

__all__ = ["ServerConfig", "create_app"]


def create_app(engine: InferenceEngine | None, config: ServerConfig | None = None) -> FastAPI:
    """The application around an engine; ``None`` while it loads: then set ``app.state.service.engine`` later.

    The app does not end the engine. Its state is in ``app.state.service``.
    """
    service = Service(engine, config or ServerConfig())
    app = FastAPI(title="AstrAI", version=__version__, docs_url=None, redoc_url=None, redirect_slashes=False)
    app.state.service = service
    app.add_middleware(Gate, service=service)
    app.add_exception_handler(ApiError, _say_api_error)
    app.add_exception_handler(HTTPException, _say_http_error)
    _add_generation(app, service)
    _add_models(app, service)
    _add_insight(app, service)
    _add_trace(app, service)
    _add_page(app)
    app.openapi = lambda: openapi_of(app, service.config.model_name)  # type: ignore[method-assign]
    return app


def _add_generation(app: FastAPI, service: Service) -> None:
    @app.post("/v1/chat/completions", openapi_extra=body_of(ChatBody), responses=ANSWERS["chat"])
    async def chat_completions(request: Request) -> Response:
        """Answer a conversation."""
        job = await _job_of(request, service, ChatBody)
        form = ChatForm(*_form_arguments(job, service, ChatLogprobs))
        return _answer(request, service, job, form)

    @app.post("/v1/completions", openapi_extra=body_of(CompletionBody), responses=ANSWERS["completion"])
    async def completions(request: Request) -> Response:
        """Continue one prompt or several."""
        job = await _job_of(request, service, CompletionBody)
        form = CompletionForm(*_form_arguments(job, service, CompletionLogprobs))
        return _answer(request, service, job, form)


def _add_models(app: FastAPI, service: Service) -> None:
    card = {"id": service.config.model_name, "object": "model", "created": int(time.time()), "owned_by": "astrai"}

    @app.head("/v1/models", include_in_schema=False)
    @app.get("/v1/models", responses=ERRORS)
    async def models() -> Response:
        """The one model that is served."""
        return _json({"object": "list", "data": [card]})

    @app.head("/v1/models/{model:path}", include_in_schema=False)
    @app.get("/v1/models/{model:path}", responses=NAMED)
    async def model(model: str) -> Response:
        """The model of this name, which may have slashes."""
        check_model(model, service.config)
        return _json(card)


def _add_insight(app: FastAPI, service: Service) -> None:
    @app.head("/health", include_in_schema=False)
    @app.get("/health", responses=ERRORS)
    async def health() -> Response:
        """200 when requests are served, 503 with the reason when not."""
        problem = service.problem()
        if problem is not None:
            return _json({"status": problem[0], "reason": problem[1]}, status=503)
        return _json({"status": "ok", "model": service.config.model_name})

    @app.head("/stats", include_in_schema=False)
    @app.get("/stats", responses=ERRORS)
    async def stats() -> Response:
        """Where the engine stands."""
        stats = service.stats()
        if stats is None:
            raise unavailable("the model is being loaded", code="loading")
        return _json({**asdict(stats), "hit_rate": stats.hit_rate})

    @app.head("/metrics", include_in_schema=False)
    @app.get("/metrics", responses=METRICS, response_class=Response)
    async def metrics() -> Response:
        """Figures for Prometheus."""
        return Response(service.metrics.to_text(), media_type="text/plain; version=0.0.4; charset=utf-8")


def _add_trace(app: FastAPI, service: Service) -> None:
    shared = SharedRun()

    @app.get("/v1/trace", responses=TRACE, response_class=Response, openapi_extra=TRACE_QUERY)
    async def trace(request: Request) -> Response:
        """The engine's events as they happen, or with ``view=snapshot`` what its pictures are drawn from."""
        if not service.config.trace:
            message = "the trace is off, since it shows every prompt: start the server with --trace (or trace=True)"
            raise ApiError(403, message, code="trace_off")
        engine = service.ready_engine()
        match request.query_params.get("view", "events"):
            case "events":
                return EventStream(service.until_closing(trace_events(engine, request)))
            case "snapshot":
                focus = read_focus(request, engine.config.num_slots)
                return EventStream(service.until_closing(view_events(shared.of(engine), focus)))
        raise invalid("view", "view is neither 'events' nor 'snapshot', which are what there is")


def _add_page(app: FastAPI) -> None:
    @app.head("/", include_in_schema=False)
    @app.get("/", include_in_schema=False)
    async def root() -> Response:
        """A chat, and the engine at work beside it."""
        html, policy = page()
        return HTMLResponse(html, headers={"content-security-policy": policy, "cache-control": "no-cache"})


# --- the parts of a route ---------------------------------------------------------------------------------------------


async def _job_of(request: Request, service: Service, kind: type[ChatBody] | type[CompletionBody]) -> Job:
    engine = service.ready_engine()
    with service.reading():
        raw = await _read_body(request, service.config)
        # Parsing and cutting into tokens take time that other streams need: a thread does them.
        job = await asyncio.to_thread(read_job, kind, raw, engine, service.config)
    record: dict[str, Any] = request.scope[RECORD]
    record |= {"stream": bool(job.body.stream), "choices": len(job.requests)}
    if job.body.user is not None:
        record["user"] = job.body.user
    if service.config.log_prompts:
        record["prompt"] = json.loads(raw).get("messages" if kind is ChatBody else "prompt")
    return job


async def _read_body(request: Request, config: ServerConfig) -> bytes:
    """The body, as long as it stays within the limits of size and time."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":
        raise ApiError(415, "the body must be JSON: send it with the header Content-Type: application/json")
    limit = config.max_body_bytes
    length = request.headers.get("content-length", "")
    if length.isdigit() and int(length) > limit:
        raise _too_large(limit)
    body = bytearray()
    try:
        async with asyncio.timeout(config.body_timeout):
            async for chunk in request.stream():
                body += chunk
                if len(body) > limit:
                    raise _too_large(limit)
    except TimeoutError:
        message = f"the body did not arrive within {config.body_timeout:g} s"
        raise ApiError(408, message, code="body_timeout", headers={"connection": "close"}) from None
    return bytes(body)


def _too_large(limit: int) -> ApiError:
    message = f"the body is larger than the {limit:,} bytes allowed: send less"
    return ApiError(413, message, code="body_too_large", headers={"connection": "close"})


def _form_arguments(
    job: Job, service: Service, logprobs: type[ChatLogprobs] | type[CompletionLogprobs]
) -> tuple[Any, ...]:
    wants_logprobs = job.requests[0].sampling.logprobs is not None
    tokenizer = service.ready_engine().tokenizer
    return service.config.model_name, logprobs(tokenizer) if wants_logprobs else None, job.body.include_usage


def _answer(request: Request, service: Service, job: Job, form: Form) -> Response:
    record = request.scope[RECORD]
    if job.body.stream:
        return EventStream(service.stream(job, form, record))
    return WholeAnswer(lambda: service.whole(job, form, record))


def _json(values: dict[str, Any], status: int = 200) -> Response:
    return json_response(json.dumps(values).encode("ascii"), status)


async def _say_api_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, ApiError)
    request.scope.setdefault(RECORD, {})["error"] = error.code
    return error_response(error)


async def _say_http_error(request: Request, error: Exception) -> Response:
    """What the router refuses, in OpenAI's shape."""
    assert isinstance(error, HTTPException)
    message, code, headers = str(error.detail), None, {}
    if error.status_code == 404:
        message, code = "there is nothing at this path: GET /openapi.json lists what there is", "not_found"
    if error.status_code == 405:
        path = request.scope["path"]
        routes = [route for route in request.app.routes if isinstance(route, Route) and route.path_regex.match(path)]
        headers["allow"] = ", ".join(sorted({method for route in routes for method in route.methods or ()}))
        message, code = f"this path takes {headers['allow']}, not {request.method}", "method_not_allowed"
    return error_response(ApiError(error.status_code, message, code=code, headers=headers))
