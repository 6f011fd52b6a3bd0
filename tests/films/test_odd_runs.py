"""Films of runs that are not as tidy as the kept ones: what they say is true of those too, or they refuse plainly."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from astrai import GenerationRequest, InferenceEngine, SamplingParams, load
from astrai.trace.log import EventLog
from tests.films.test_truth_and_layout import Seen

pytest.importorskip("manim", reason="manim is not installed: pip install 'astrai[video]'")
LONG = "Once upon a time a small fox and a red kite lived in a little hut near the cold sea with a kind old bear. "


def run(
    lengths: list[int],
    steps: int = 1000,
    prompt: str = "A fox and ",
    during: Callable[[Any, int], None] | None = None,
    **config: Any,
) -> EventLog:
    """A run of so many requests with answers of these lengths, which is over or is left after so many steps."""
    model, tokenizer = load("tiny", device="cpu")
    engine = InferenceEngine(model, tokenizer, start=False, **config)
    for number, length in enumerate(lengths):
        sampling = SamplingParams(max_tokens=length, ignore_eos=True)
        engine.submit(GenerationRequest(prompt=f"{prompt}{number}", sampling=sampling))
    for step in range(steps):
        if not engine.scheduler.has_work:
            break
        if during:
            during(engine.scheduler, step)
        engine.scheduler.step()
    return engine.trace


def captions(name: str, log: EventLog, folder: Path) -> str:
    """All that a film says of a run; it can be read, and agrees with a replay."""
    seen = Seen(name, folder, log)
    assert not seen.faults
    assert seen.film.beats[-1].end <= 90
    return " | ".join(beat.caption for beat in seen.film.beats)


def test_the_whole_loop_says_how_a_run_was_left(tmp_path: Path) -> None:
    assert "Here the recording ends: 3 running, 1 waiting." in captions(
        "TheWholeLoop", run([20] * 4, steps=6, num_slots=3), tmp_path
    )


def test_four_phases_compares_no_run_that_is_not_over(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"not over \(running: 0, 1, 2; waiting: 3\)"):
        Seen("FourPhases", tmp_path, run([20] * 4, steps=6, num_slots=3))


def test_four_phases_has_nothing_to_compare_where_nothing_ran(tmp_path: Path) -> None:
    log = run([5], num_slots=2, during=lambda scheduler, step: scheduler.cancel(0))
    with pytest.raises(ValueError, match="run a request first"):
        Seen("FourPhases", tmp_path, log)


def test_a_prompt_in_pieces_is_told_as_pieces(tmp_path: Path) -> None:
    log = run([3, 4, 3], prompt=LONG, num_slots=3, prefill_budget=8)
    told = captions("TheWholeLoop", log, tmp_path)
    assert "Prefill: the first 8 tokens of its prompt are computed in one pass." in told
    assert "Prefill: the next 8 tokens of a long prompt are computed." in told
    assert "Every request got the same tokens in both." in captions("FourPhases", log, tmp_path)


def test_a_cancelled_request_has_no_answer(tmp_path: Path) -> None:
    def cancel(scheduler: Any, step: int) -> None:
        if step == 9:
            scheduler.cancel(1)

    log = run([20, 20, 12], num_slots=2, during=cancel)
    assert "Request 1 has ended: it was cancelled." in (told := captions("TheWholeLoop", log, tmp_path))
    assert "All have ended." in told and "All have their answers" not in told
    captions("FourPhases", log, tmp_path)


def test_an_answer_that_a_cancellation_cut_in_one_of_both_is_said_to_differ(tmp_path: Path) -> None:
    def cancel(scheduler: Any, step: int) -> None:
        if step == 12:
            scheduler.cancel(2)

    told = captions("FourPhases", run([30, 4, 20, 5], num_slots=2, during=cancel), tmp_path)
    assert "Request 2 was ended from outside, so its answer is not the same in both." in told


def test_without_a_prefix_cache_nothing_is_said_to_be_remembered(tmp_path: Path) -> None:
    told = captions("TheWholeLoop", run([5] * 4, num_slots=2, prefix_cache=False), tmp_path)
    assert "memory" not in told and "cache." not in told.split("A slot is a row of the cache")[1].split("|", 1)[1]


def test_grouped_decoding_is_told_with_its_passes(tmp_path: Path) -> None:
    log = run([6] * 3, prompt="", num_slots=3, decode_policy="grouped")
    assert "all in " in captions("TheWholeLoop", log, tmp_path)


def test_a_long_queue_of_large_numbers_can_be_read(tmp_path: Path) -> None:
    log = run([1 + number % 3 for number in range(120)], num_slots=3)
    assert "The run goes on" in captions("TheWholeLoop", log, tmp_path)
    told = captions("FourPhases", log, tmp_path)
    assert "120 requests, 3 slots" in told and "So it goes on: below to step" in told


def test_of_many_slots_only_what_is_shown_is_spoken_of(tmp_path: Path) -> None:
    told = captions("TheWholeLoop", run([4] * 40, num_slots=32), tmp_path)
    assert "Shown: 4 of 32." in told
    assert "slot 9" not in told and "slot 20" not in told
