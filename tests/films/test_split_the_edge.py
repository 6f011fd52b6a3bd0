"""The recording of a small cache, and how the film tells it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("manim", reason="manim is not installed: pip install 'astrai[video]'")

from animations.record_small_cache import CAPACITY, small_cache
from animations.split_the_edge import SplitTheEdge
from animations.trace_scene import kept_trace
from astrai.trace import events as e
from astrai.trace.log import EventLog
from astrai.trace.replay import replay_steps


def events(log: EventLog) -> list[e.Event]:
    """What happened, without how long it took."""
    found = (item.event for item in log.records)
    return [replace(event, seconds=0.0) if isinstance(event, e.PhaseEnded) else event for event in found]


def test_recording_again_gives_the_kept_run():
    assert events(small_cache()) == events(kept_trace("small_cache"))


def test_the_run_has_all_that_the_film_tells_of():
    happened = events(kept_trace("small_cache"))
    kinds = {type(event) for event in happened}
    assert {e.NodeSplit, e.PrefixCopied, e.SlotReused, e.SlotTruncated, e.NodeEvicted} <= kinds
    assert len(happened) < 500


def test_at_every_step_the_whole_tree_is_shown_or_counted(tmp_path: Path):
    from manim import tempconfig

    settings = {"dry_run": True, "quality": "low_quality", "progress_bar": "none", "verbosity": "ERROR"}
    shown: dict[int, dict[str, Any]] = {}
    counters: dict[int, str] = {}
    with tempconfig({**settings, "media_dir": str(tmp_path)}):
        film = SplitTheEdge(quick=True)

        def look(step: int) -> None:
            shown[step] = film.shown()
            counters[step] = film.stage.labels["counter"].text

        film.after_step = look
        film.render()
    for step, now in replay_steps(film.log):
        told = shown[step]
        truth = {node.node_id: (node.parent_id, len(node.token_ids), node.holders) for node in now.nodes}
        assert told["tree"] == truth and "not_shown" not in told
        total = sum(len(node.token_ids) for node in now.nodes)
        assert counters[step] == f"{total} of {CAPACITY} tokens"
        assert total <= CAPACITY
