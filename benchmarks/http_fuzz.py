"""Requests that schemathesis makes from the server's own OpenAPI document, valid ones and invalid ones, and a judge.

Whatever comes: no 500, no hang, nothing but what the document promises, and every error in OpenAI's shape. Valid
requests for text are made small first, so that they run instead of being refused for another model's name.
"""

from __future__ import annotations

import json
import logging
from collections import Counter
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import httpx
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis.strategies import SearchStrategy
from schemathesis import Case, GenerationMode
from schemathesis.specs.openapi.checks import positive_data_acceptance

TIMEOUT = 30.0  # seconds that count as a hang
MAX_EVENTS = 100_000  # of a stream are read: more than any has, since schemathesis stops early unless told
GENERATE = ("/v1/chat/completions", "/v1/completions")
LOOK = ("/v1/models", "/v1/models/{model}", "/health", "/stats", "/metrics", "/v1/trace")
VOCAB = 256  # every model that is fuzzed has at least as many tokens
NOT_IN_THE_SCHEMA = ("context_length_exceeded", "has no tokens: give at least one")
Operation = tuple[str, str, GenerationMode]
OPERATIONS: tuple[Operation, ...] = (
    *((path, "POST", mode) for path in GENERATE for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE)),
    *((path, "GET", GenerationMode.POSITIVE) for path in LOOK),
)


def fuzz(url: str, operations: Iterable[Operation], count: int, seed_value: int) -> Counter[int]:
    """Send up to ``count`` requests to each operation; a few have no more than one. Returns the answers' statuses.

    Raises:
        AssertionError: an answer that must not be, with the request as a curl command.
    """
    logging.getLogger("urllib3").setLevel(logging.ERROR)  # which tells of strange headers that we sent on purpose
    config = schemathesis.Config.from_dict({"max-stream-events": MAX_EVENTS})
    schema = schemathesis.openapi.from_dict(httpx.get(f"{url}/openapi.json").json(), config=config)
    model = httpx.get(f"{url}/v1/models").json()["data"][0]["id"]
    statuses: Counter[int] = Counter()
    with requests.Session() as session:
        for path, method, mode in operations:
            cases = schema[path][method].as_strategy(generation_mode=mode)
            if mode is GenerationMode.POSITIVE and path in GENERATE:
                cases = cases.map(lambda case: _made_small(case, model))
            send = partial(_send, mode=mode, url=url, session=session)
            _for_each(cases, lambda case, send=send: statuses.update([send(case)]), count, seed_value)  # type: ignore[misc]
    return statuses


def _for_each(cases: SearchStrategy[Case], act: Callable[[Case], None], count: int, seed_value: int) -> None:
    @seed(seed_value)
    @settings(
        max_examples=count,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(cases)
    def act_on(case: Case) -> None:
        act(case)

    act_on()


def _send(case: Case, mode: GenerationMode, url: str, session: requests.Session) -> int:
    response = case.call(base_url=url, session=session, timeout=TIMEOUT)
    status = response.status_code
    where = f"{case.as_curl_command()} gave {status} {response.text[:300]!r}"
    assert status < 500, where
    if mode is GenerationMode.NEGATIVE:
        assert status >= 400, where
    elif case.method == "POST":
        assert status == 200 or any(reason in response.text for reason in NOT_IN_THE_SCHEMA), where
    if "text/event-stream" in response.headers.get("content-type", [""])[0]:
        check_stream(response.text, where)
    elif status >= 400:
        check_error(response.content, where)
    case.validate_response(response, excluded_checks=[positive_data_acceptance])  # the lines above say it exactly
    return status


def _made_small(case: Case, model: str) -> Case:
    """The same request for our model and a few tokens, without what only two fields together make wrong."""
    body = {key: _exact(value) for key, value in case.body.items()} | {"model": model}
    longest = "max_completion_tokens" if body.get("max_completion_tokens") is not None else "max_tokens"
    body |= {"max_tokens": None, "n": min(body.get("n") or 1, 3)}
    body[longest] = min(_exact(case.body.get(longest)) or 4, 4)
    if not body.get("stream"):
        body.pop("stream_options", None)
    if body.get("logprobs") in (None, False):
        body.pop("top_logprobs", None)
    if body.get("logit_bias"):
        body["logit_bias"] = {_key_in_vocabulary(key): bias for key, bias in body["logit_bias"].items()}
    if isinstance(body.get("prompt"), list):
        body["prompt"] = _in_vocabulary(body["prompt"][:40])
    case.body = body
    return case


def _in_vocabulary(prompt: Any) -> Any:
    if isinstance(prompt, list):
        return [_in_vocabulary(entry) for entry in prompt]
    return prompt % VOCAB if isinstance(prompt, int) else prompt


def _key_in_vocabulary(key: str) -> str:
    return str(int(key) % VOCAB) if key.isascii() and key.isdigit() else key


def _exact(value: Any) -> Any:
    """JSON Schema counts 2.0 as an integer and the server does not: it is sent as 2."""
    if isinstance(value, list):
        return [_exact(entry) for entry in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


def check_error(body: bytes, where: str) -> None:
    """That it is ``{"error": {message, type, param, code}}`` and tells something."""
    error = json.loads(body)["error"]
    assert set(error) == {"message", "type", "param", "code"}, where
    assert isinstance(error["message"], str) and len(error["message"]) > 10, where
    assert isinstance(error["type"], str), where
    assert all(error[name] is None or isinstance(error[name], str) for name in ("param", "code")), where


def check_stream(text: str, where: str) -> None:
    """That it is a run of JSON events with one end."""
    *blocks, rest = text.split("\n\n")
    assert rest == "" and blocks[-1] == "data: [DONE]", where
    events = [json.loads(block.removeprefix("data: ")) for block in blocks[:-1]]
    assert not [event for event in events if "error" in event], where
    ends = Counter(choice["index"] for event in events for choice in event["choices"] if choice["finish_reason"])
    assert ends and set(ends.values()) == {1}, where
