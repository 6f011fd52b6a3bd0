"""The ghost: recorded again, the kept recordings say the same, and the film says nothing else."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("manim", reason="manim is not installed: pip install 'astrai[video]'")

from animations.ghost_story import GhostStory
from animations.record_ghost import ASKED, TRACES, record, run
from animations.trace_scene import kept_trace
from astrai.trace.events import Event, PhaseEnded
from astrai.trace.log import EventLog
from astrai.trace.replay import ReplayError, replay


def events(log: EventLog) -> list[Event]:
    """What happened, without how long it took."""
    found = (item.event for item in log.records)
    return [replace(event, seconds=0.0) if isinstance(event, PhaseEnded) else event for event in found]


@pytest.fixture(scope="module")
def again() -> tuple[EventLog, EventLog, dict[str, Any]]:
    return record()


def test_recording_again_gives_the_kept_runs_and_words(again):
    checked, believed, words = again
    assert events(checked) == events(kept_trace("ghost_checked"))
    assert events(believed) == events(kept_trace("ghost_believed"))
    assert words == json.loads((TRACES / "ghost.json").read_text())


def test_with_the_check_all_happens_as_in_the_engine_itself(again):
    engine, answers = run()
    assert events(engine.trace) == events(again[0])
    assert answers == again[2]["checked"]


def test_without_the_check_cleo_is_told_what_ben_was_told(again):
    words = again[2]
    assert words["believed"]["Cleo"] == words["believed"]["Ben"] != words["checked"]["Cleo"]
    assert words["checked"]["Cleo"] == words["checked"]["Ann"]
    assert "frog" in words["believed"]["Cleo"] and "fox" in ASKED["Cleo"]


def test_a_replay_refuses_the_ghost(again):
    with pytest.raises(ReplayError, match="the handle is stale"):
        replay(again[1])
    assert replay(again[0]).counters.arrived == 3


def test_the_story_is_told_in_the_words_and_numbers_of_the_runs():
    story = GhostStory()
    assert [turn.version for turn in story.believed.values()] == [1, 2, 3]
    assert story.believed["Ben"].kept == story.checked["Cleo"].kept == "Tell me a story about a"
    assert story.believed["Cleo"].kept == ASKED["Ben"]
    assert story.believed["Cleo"].kept_len == story.note["length"]
    assert f"seen at version {story.note['version']}" in story.words["refused"]


def test_at_its_end_the_film_shows_all_answers_and_the_slot_as_it_is(tmp_path: Path):
    from manim import tempconfig

    from animations.the_ghost_prefix import TheGhostPrefix

    told: dict[str, dict[str, Any]] = {}
    settings = {"dry_run": True, "quality": "low_quality", "progress_bar": "none", "verbosity": "ERROR"}
    with tempconfig({**settings, "media_dir": str(tmp_path)}):
        film = TheGhostPrefix(quick=True)
        film.after_beat = lambda beat: told.setdefault(beat.caption, film.shown())
        film.render()
    story = GhostStory()
    assert film.shown()["answers"] == story.words["checked"]
    assert film.shown()["slot"][0] == story.checked["Cleo"].version
    wrong = [shown["answers"]["Cleo"] for shown in told.values() if shown["answers"]["Cleo"]]
    assert wrong[0] == story.words["believed"]["Cleo"]
