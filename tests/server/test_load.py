"""Many streams at once, some of whose readers leave or dawdle: every other one gets what it would get alone."""

import asyncio
import gc
import random
from collections.abc import Callable

import pytest

from astrai.inference.engine import InferenceEngine
from astrai.inference.server.background import BackgroundServer
from benchmarks.http_load import Client, Outcome, Solo, crowd, prompts, solos
from benchmarks.sse import Answer, Ask, ask_all_now
from tests.server.waiting import until

STREAMS, AT_ONCE = 60, 32


def test_every_stream_is_complete_and_equal_to_its_solo_output(
    engine: InferenceEngine, serve: Callable[..., BackgroundServer]
) -> None:
    solo = solos(engine, "tiny", prompts(random.Random(1)), count=8)
    clients = crowd(solo, STREAMS, seed=2, slow_for=0.5)
    outcome = Outcome.of(clients, ask_all_now(serve().url, [client.ask for client in clients], AT_ONCE))
    assert outcome.complaints == []
    assert outcome.kinds == {"leaves": 6, "slow": 3, "stays": 51}
    # Whoever left is forgotten, not computed to the end; the fixtures look for rows, threads and sockets that stayed.
    until(lambda: sum(engine.stats().finished.values()) == engine.stats().arrived)
    until(lambda: len(pending_tasks()) == 1)  # the server's own


def pending_tasks() -> list[object]:
    """The tasks of all event loops in this process."""
    return [each for each in gc.get_objects() if type(each) is asyncio.Task and not each.done()]


def test_rows_of_clients_that_left_are_free_before_their_text_would_end(
    engine: InferenceEngine, serve: Callable[..., BackgroundServer]
) -> None:
    body = {"model": "tiny", "prompt": "The fox", "temperature": 0, "max_tokens": 500, "stream": True}
    asks = [Ask("/v1/completions", body, leaves_after=300, is_rude=index % 2 == 0) for index in range(20)]
    ask_all_now(serve().url, asks)
    until(lambda: engine.stats().free_slots == 8 and not engine.stats().waiting)
    assert engine.stats().finished["cancelled"] == 20


SOLO = Solo("/v1/completions", {}, "One fox.", "stop")
GOOD = (
    b'data: {"choices": [{"index": 0, "text": "One", "finish_reason": null}]}\n\n'
    b'data: {"choices": [{"index": 0, "text": " fox.", "finish_reason": "stop"}]}\n\ndata: [DONE]\n\n'
)
STAYS, LEAVES = Client(SOLO, Ask("", {})), Client(SOLO, Ask("", {}, leaves_after=5))


def test_the_judge_is_content_with_a_good_stream() -> None:
    assert STAYS.complaint(Answer(200, {}, GOOD, True)) is None
    assert LEAVES.complaint(Answer(200, {}, GOOD[:80], False)) is None
    assert LEAVES.complaint(Answer()) is None


@pytest.mark.parametrize(
    ("client", "answer"),
    [
        (STAYS, Answer()),
        (STAYS, Answer(200, {}, GOOD, False)),
        (STAYS, Answer(200, {}, GOOD[:-16], True)),
        (STAYS, Answer(200, {}, GOOD.replace(b" fox.", b" fax."), True)),
        (STAYS, Answer(200, {}, GOOD.replace(b'"One"', b'"OneOne"'), True)),
        (STAYS, Answer(200, {}, GOOD.replace(b'"stop"', b'"length"'), True)),
        (STAYS, Answer(200, {}, b'data: {"error": {"message": "no"}}\n\n' + GOOD, True)),
        (STAYS, Answer(503, {}, b'{"error": {"message": "no"}}', True)),
        (LEAVES, Answer(200, {}, GOOD[:80].replace(b"One", b"Two"), False)),
        (LEAVES, Answer(500, {}, b'{"error": {"message": "no"}}', True)),
    ],
)
def test_the_judge_notices_what_is_wrong(client: Client, answer: Answer) -> None:
    assert client.complaint(answer)


def test_the_judge_notices_two_ends() -> None:
    with pytest.raises(AssertionError, match="ended 2 times"):
        STAYS.complaint(Answer(200, {}, GOOD.replace(b"null", b'"stop"'), True))
