"""The benchmark and the soak of the server, small: both sides do the same, and nothing wrong passes."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from astrai.config import ModelConfig
from astrai.inference.engine import InferenceEngine
from astrai.inference.server.background import serve_in_background
from astrai.training.tokenizer import train_tokenizer
from benchmarks import measure, serve, soak
from benchmarks.measure import Spread
from benchmarks.serve import PATH, Sizes, client_process, load, report, run_engine, run_http, save_beside
from benchmarks.sse import Answer, Ask, ask_all_now
from tests.inference.models import random_model


@pytest.fixture(scope="module")
def engine() -> Iterator[InferenceEngine]:
    tokenizer = train_tokenizer(["Once upon a time, a fox"], vocab_size=300)
    config = ModelConfig(
        vocab_size=tokenizer.vocab_size,
        hidden_size=24,
        num_layers=1,
        num_heads=6,
        num_kv_heads=1,
        head_dim=8,
        intermediate_size=32,
        max_seq_len=128,
    )
    with InferenceEngine(random_model(config, seed=1), tokenizer, num_slots=16, prefix_cache=False) as engine:
        yield engine


def test_both_sides_give_the_same_texts_and_are_measured(engine: InferenceEngine) -> None:
    figures = serve.measure(engine, Sizes(tokens=6, first_tokens=2), repeats=1)
    through, first = figures["throughput"], figures["first_token"]
    assert (through["streams"], through["tokens_a_stream"]) == (16, 6)
    rates = through["tokens_per_second"]
    kept = rates["http"]["median"] / rates["engine"]["median"]
    assert through["share_kept"]["wall"]["median"] == pytest.approx(kept)
    assert through["cpu_microseconds_a_token"]["client"]["median"] > 0
    added = first["http_milliseconds"]["median"] - first["engine_milliseconds"]["median"]
    assert first["added_milliseconds"]["median"] == pytest.approx(added)
    assert "share kept" in report(figures)


def test_a_stream_that_is_cut_short_is_not_counted_as_served(engine: InferenceEngine) -> None:
    bodies = load(engine, 2, tokens=4)
    with serve_in_background(engine) as server, client_process(server.url) as client:
        assert run_http(engine, client, bodies).texts == run_engine(engine, bodies).texts
        with pytest.raises(AssertionError, match="1 streams did not end"):
            client.ask([Ask(PATH, bodies[0]), Ask(PATH, bodies[1], leaves_after=200)], 2)


def test_the_client_tells_an_end_from_a_cut(engine: InferenceEngine) -> None:
    (body,) = load(engine, 1, tokens=8)
    with serve_in_background(engine) as server:
        whole, cut, refused = ask_all_now(
            server.url, [Ask(PATH, body), Ask(PATH, body, leaves_after=400), Ask(PATH, body | {"top_p": 7})]
        )
    assert whole.is_whole and whole.has_done and whole.finish_reason == "length" and whole.error is None
    assert whole.ttft is not None and 0 < whole.ttft <= whole.seconds
    assert not cut.is_whole and not cut.has_done and whole.text.startswith(cut.text)
    assert refused.is_whole and refused.status == 400 and refused.error and refused.error["param"] == "top_p"


def test_a_chunk_that_arrives_in_two_halves_is_read_once() -> None:
    answer = Answer(200, {}, b'data: {"choices": [{"index": 0, "text": "A", "finish_reason": null}]}\n\ndata: {"cho')
    assert (answer.text, len(answer.events), answer.has_done) == ("A", 1, False)


def test_figures_of_one_command_leave_those_of_the_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serve, "RESULTS", tmp_path)
    monkeypatch.setattr(measure, "RESULTS", tmp_path)
    save_beside("overhead", {"a": 1})
    save_beside("soak", {"b": 2})
    path = save_beside("overhead", {"a": 3})
    written = json.loads(path.read_text())
    assert (written["overhead"], written["soak"], set(written)) == ({"a": 3}, {"b": 2}, {"machine", "overhead", "soak"})


GOOD: dict[str, Any] = {
    "load": {
        "streams": 10,
        "at_once": 2,
        "seconds": 1.0,
        "kinds": {"stays": 10},
        "wrong": 0,
        "complaints": [],
        "memory": {"after_warm_up_mib": 300.0, "at_the_end_mib": 301.0, "highest_mib": 302.0, "growth": 0.003},
        "threads": [8, 8],
        "open_files": [7, 7],
        "rows_free": [16, 16],
        "left_in_the_engine": 0,
        "health": {"statuses": {"200": 4}, "milliseconds": Spread(2.0, 1.0, 3.0)._asdict()},
        "exit_code": 0,
        "log_is_clean": True,
    },
    "faults": {"tests": 3, "failures": 0, "errors": 0, "skipped": 0, "seconds": 1.0, "recorded": {}},
    "generated_requests": {
        "tests": 1,
        "failures": 0,
        "errors": 0,
        "skipped": 0,
        "seconds": 1.0,
        "recorded": {"requests": 2000.0},
    },
}


def test_a_soak_in_which_all_is_well_is_passed() -> None:
    assert soak.problems(GOOD) == []
    assert "2,000" in soak.report(GOOD)


@pytest.mark.parametrize(
    ("part", "worse"),
    [
        ("load", {"wrong": 1}),
        ("load", {"memory": {"growth": 0.06}}),
        ("load", {"threads": [8, 9]}),
        ("load", {"open_files": [7, 9]}),
        ("load", {"rows_free": [15, 16]}),
        ("load", {"left_in_the_engine": 1}),
        ("load", {"health": {"statuses": {"200": 4, "503": 1}}}),
        ("load", {"exit_code": -9}),
        ("load", {"log_is_clean": False}),
        ("faults", {"failures": 1}),
        ("faults", {"skipped": 1}),
        ("generated_requests", {"errors": 1}),
        ("generated_requests", {"recorded": {}}),
    ],
)
def test_a_soak_in_which_something_is_wrong_is_not_passed(part: str, worse: dict[str, Any]) -> None:
    assert len(soak.problems({**GOOD, part: {**GOOD[part], **worse}})) == 1
