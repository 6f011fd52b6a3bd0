"""What schemathesis makes of our own OpenAPI document never breaks the server, and the document keeps its word."""

from collections.abc import Callable

import httpx
import pytest
from schemathesis import GenerationMode

from astrai.inference.server.background import BackgroundServer
from benchmarks.http_fuzz import GENERATE, LOOK, OPERATIONS, check_error, check_stream, fuzz

POSITIVE, NEGATIVE = GenerationMode.POSITIVE, GenerationMode.NEGATIVE


@pytest.mark.parametrize("path", GENERATE)
def test_requests_that_the_document_allows_are_served(path: str, url: str) -> None:
    statuses = fuzz(url, [(path, "POST", POSITIVE)], count=40, seed_value=7)
    assert statuses.total() >= 40
    assert statuses[200] > 0.8 * statuses.total()


@pytest.mark.parametrize("path", GENERATE)
def test_requests_that_the_document_does_not_allow_are_refused(path: str, url: str) -> None:
    statuses = fuzz(url, [(path, "POST", NEGATIVE)], count=40, seed_value=7)
    assert statuses.total() >= 40
    assert all(400 <= status < 500 for status in statuses)


def test_everything_else_in_the_document_answers_as_it_says(url: str) -> None:
    statuses = fuzz(url, [(path, "GET", POSITIVE) for path in LOOK], count=10, seed_value=7)
    assert set(statuses) == {200, 403, 404}


def test_every_path_of_the_document_is_fuzzed(serve: Callable[..., BackgroundServer]) -> None:
    document = httpx.get(f"{serve().url}/openapi.json").json()
    listed = {(path, method.upper()) for path, methods in document["paths"].items() for method in methods}
    assert listed - {("/", "GET")} == {(path, method) for path, method, _ in OPERATIONS}


@pytest.mark.nightly
def test_two_thousand_generated_requests(url: str, record_testsuite_property: Callable[[str, object], None]) -> None:
    statuses = fuzz(url, OPERATIONS, count=500, seed_value=0)
    record_testsuite_property("requests", statuses.total())
    assert statuses.total() >= 2000


@pytest.mark.parametrize(
    "body",
    [
        b'{"detail": "Not Found"}',
        b'{"error": {"message": "a long enough message", "type": "server_error", "param": null}}',
        b'{"error": {"message": "", "type": "server_error", "param": null, "code": null}}',
        b'{"error": {"message": "a long enough message", "type": "server_error", "param": null, "code": 500}}',
    ],
)
def test_the_judge_of_errors_notices_another_shape(body: bytes) -> None:
    with pytest.raises((AssertionError, KeyError)):
        check_error(body, "here")


CHUNK = 'data: {"choices": [{"index": 0, "finish_reason": "stop"}]}\n\n'


@pytest.mark.parametrize(
    "text",
    [
        CHUNK,
        "data: [DONE]\n\n",
        CHUNK + CHUNK + "data: [DONE]\n\n",
        'data: {"error": {}, "choices": []}\n\n' + CHUNK + "data: [DONE]\n\n",
        CHUNK + "data: [DONE]\n\ndata: {",
    ],
)
def test_the_judge_of_streams_notices_a_wrong_end(text: str) -> None:
    with pytest.raises(AssertionError):
        check_stream(text, "here")
