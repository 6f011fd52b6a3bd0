"""Every film, beat by beat: what is on the screen can be read, and is what a replay of the trace says."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module
from itertools import groupby
from pathlib import Path
from typing import Any

import pytest

from animations import FILMS
from astrai import GenerationRequest, InferenceEngine, SamplingParams, load
from astrai.trace.log import EventLog
from astrai.trace.replay import Replayer
from astrai.trace.snapshot import Snapshot

pytest.importorskip("manim", reason="manim is not installed: pip install 'astrai[video]'")

LETTERS_A_SECOND = 22  # a caption stays at least so long
OTHERS = ("six_chats", "small_cache", "fresh")
TRACE_FILMS = [name for name, film in FILMS.items() if film.trace]


@pytest.fixture(scope="module")
def fresh() -> EventLog:
    """A run of now, on five slots: more requests than cards fit, one that is cancelled, one that waits in vain."""
    model, tokenizer = load("tiny", device="cpu")
    engine = InferenceEngine(model, tokenizer, num_slots=5, start=False)
    asked = [
        "a fox",
        "a kite",
        "a fox and a kite",
        "a cat",
        "a red boat",
        "a frog",
        "a bear",
        "a fox",
        "a bird",
        "a mole",
    ]
    for number, thing in enumerate(asked):
        messages = [{"role": "user", "content": f"Tell me a story about {thing}."}]
        engine.submit(GenerationRequest(messages=messages, sampling=SamplingParams(max_tokens=3 + number % 4)))
    for step in range(3):
        engine.scheduler.step()
        if step == 1:
            engine.scheduler.cancel(1)
            engine.scheduler.cancel(9)
    engine.submit(GenerationRequest(prompt="Once upon a time", sampling=SamplingParams(max_tokens=4)))
    while engine.scheduler.has_work:
        engine.scheduler.step()
    return engine.trace


class Seen:
    """One quick pass through a film: its faults of layout, and where it said something else than a replay."""

    def __init__(self, name: str, media: Path, trace: EventLog | None = None) -> None:
        from manim import tempconfig

        settings = {"dry_run": True, "quality": "low_quality", "progress_bar": "none", "verbosity": "ERROR"}
        with tempconfig({**settings, "media_dir": str(media)}):
            scene = getattr(import_module(f"animations.{FILMS[name].module}"), name)
            self.film = scene(quick=True, **({} if trace is None else {"trace": trace}))
            self.faults: list[str] = []
            self.steps: list[int] = []
            self.film.after_beat = self._look
            if FILMS[name].trace:
                self.states = states(self.film.log)
                self.film.after_step = self._compare
            self.film.render()
        if name == "FourPhases":
            self._compare_lanes()

    def _compare_lanes(self) -> None:
        """At the end both charts are there, from the first step on."""
        film, charts = self.film, (self.film.lower, self.film.upper)
        for lanes, log in zip(charts, (film.log, film.static_log), strict=True):
            told, roles = dict(states(log)), work_done(log)
            for lane in lanes:
                for step in range(1, min(lane.steps, max(told)) + 1):
                    owner = told[step].slots[lane.slot].request_id
                    role = None if owner is None else roles.get((step, lane.slot), "owned")
                    drawn = [span.role for span in lane.spans if span.start < step <= round(span.end)]
                    assert (lane.shown(step - 1), drawn) == (owner, [role] if role else []), f"{lane.slot} in {step}"

    def _look(self, beat: Any) -> None:
        from animations.film import layout_faults

        self.faults += [f"{beat.start:.1f} s: {fault}" for fault in layout_faults(self.film)]

    def _compare(self, step: int) -> None:
        told = next(snapshot for number, snapshot in self.states if number == step)
        shown = self.film.shown()
        if "not_shown" in shown:
            assert shown.pop("not_shown") == len(told.nodes) - len(shown["tree"])
        assert shown == {what: TRUTH[what](told, value) for what, value in shown.items()}, f"in step {step}"
        self.steps.append(step)


def states(log: EventLog) -> Iterator[tuple[int, Snapshot]]:
    """The state after each step, from the events alone."""
    view = log.view()
    replayer = Replayer.from_snapshot(view.base, view.first_seq)
    for step, records in groupby(view.records, key=lambda record: record.step):
        for record in records:
            replayer.apply(record.event)
        yield step, replayer.snapshot()


def work_done(log: EventLog) -> dict[tuple[int, int], str]:
    """What was done for a slot in a step: a prefill, or else a decode."""
    decoded = [r for r in log.records if type(r.event).__name__ == "TokensDecoded"]
    prefilled = [r for r in log.records if type(r.event).__name__ == "Prefilled"]
    return {(r.step, slot): "decode" for r in decoded for slot in r.event.slots} | {
        (r.step, r.event.slot): "prefill" for r in prefilled
    }


def _tree(now: Snapshot, shown: dict[int, Any]) -> dict[int, Any]:
    nodes = {node.node_id: (node.parent_id, len(node.token_ids), tuple(node.holders)) for node in now.nodes}
    return {node_id: nodes.get(node_id) for node_id in shown}


TRUTH = {
    "step": lambda now, _: now.step,
    "slots": lambda now, shown: {
        slot: (now.slots[slot].version, now.slots[slot].request_id, now.slots[slot].context_len) for slot in shown
    },
    "waiting": lambda now, shown: list(now.waiting)[:7],
    "owners": lambda now, shown: {slot: now.slots[slot].request_id for slot in shown},
    "free_mask": lambda now, _: sum(1 << slot.slot for slot in now.slots if slot.request_id is None),
    "tree": _tree,
}


@pytest.mark.parametrize("name", FILMS)
def test_a_film_can_be_read_and_tells_what_happened(name: str, tmp_path: Path) -> None:
    seen = Seen(name, tmp_path)
    assert not seen.faults
    beats = seen.film.beats
    assert 45 <= beats[-1].end <= 90
    assert all(beat.end - beat.start >= 0.4 and beat.caption for beat in beats)
    first = {beat.caption: beat for beat in reversed(beats)}
    for caption, beat in first.items():
        assert beat.end - beat.start >= len(caption) / LETTERS_A_SECOND, caption
    assert not FILMS[name].trace or len(seen.steps) > 10


@pytest.mark.parametrize(
    ("name", "trace"),
    [(name, other) for name in TRACE_FILMS for other in OTHERS if other != FILMS[name].trace],
)
def test_a_film_of_another_run_is_as_true(name: str, trace: str, fresh: EventLog, tmp_path: Path) -> None:
    from animations.trace_scene import kept_trace

    seen = Seen(name, tmp_path, fresh if trace == "fresh" else kept_trace(trace))
    assert not seen.faults
    assert seen.steps
