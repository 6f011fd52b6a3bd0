"""The recording of a small cache, and how the film tells it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("manim", reason="manim is not installed: pip install 'astrai[video]'")

from manim import tempconfig

from animations.film import layout_faults
from animations.record_small_cache import CAPACITY, small_cache
from animations.split_the_edge import SplitTheEdge
from animations.trace_scene import kept_trace
from astrai import GenerationRequest, InferenceEngine, SamplingParams, load
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


def run(prompts: Sequence[str | list[int]], longest: int = 1, together: bool = False, **settings: Any) -> EventLog:
    """Prompts with answers of ``longest`` tokens, one after the other or all at once."""
    engine = InferenceEngine(*load("tiny", device="cpu"), start=False, **settings)
    for number, prompt in enumerate(prompts, start=1):
        engine.submit(GenerationRequest(prompt, sampling=SamplingParams(temperature=0, max_tokens=longest)))
        while engine.scheduler.has_work and (not together or number == len(prompts)):
            engine.scheduler.step()
    return engine.trace


def alone(text: str) -> list[int]:
    """The ids of a text without the token that each prompt given as text begins with: so it may share nothing."""
    return load("tiny", device="cpu")[1].encode(text)


@pytest.fixture
def told(tmp_path: Path) -> Callable[..., SplitTheEdge]:
    """A film, told quickly. Its layout is looked at after each beat, and at each full step its tree is a replay's."""

    def tell(trace: EventLog) -> SplitTheEdge:
        settings = {"dry_run": True, "quality": "low_quality", "progress_bar": "none", "verbosity": "ERROR"}
        now = dict(replay_steps(trace))
        with tempconfig({**settings, "media_dir": str(tmp_path)}):
            film = SplitTheEdge(trace, quick=True)
            film.compared, faults = [], []

            def compare(step: int) -> None:
                film.compared.append((step, film.stage.labels["counter"].text))
                shown = film.shown()
                nodes = {node.node_id: (node.parent_id, len(node.token_ids), node.holders) for node in now[step].nodes}
                assert shown["tree"].items() <= nodes.items()
                assert len(nodes) - len(shown["tree"]) == shown.get("not_shown", 0)

            film.after_step, film.after_beat = compare, lambda _: faults.extend(layout_faults(film))
            film.render()
        assert not faults
        assert film.beats[-1].end <= 90
        return film

    return tell


def captions(film: SplitTheEdge) -> list[str]:
    return [beat.caption for beat in film.beats]


def count(film: SplitTheEdge, words: str) -> int:
    return sum(words in caption for caption in captions(film))


def test_at_every_step_the_whole_tree_is_shown_or_counted(told):
    log = kept_trace("small_cache")
    totals = [sum(len(node.token_ids) for node in now.nodes) for _, now in replay_steps(log)]
    film = told(log)
    assert [counter for _, counter in film.compared] == [f"{total} of {CAPACITY} tokens" for total in totals]
    assert max(totals) <= CAPACITY
    assert "not_shown" not in film.shown()


def test_a_run_with_much_in_one_step_is_cut_within_it_and_the_film_says_where(told):
    things = ("fox", "frog", "bear", "kite", "boat", "cat", "mole", "bird", "tree", "mill")
    prompts = [f"{who} saw a {what}" for who in ("A boy", "The dog", "She", "Mum") for what in things]
    log = run(prompts, together=True, num_slots=32)
    film = told(log)
    assert [step for step, _ in film.compared] == list(range(1, len(film.compared) + 1))
    cut, last = len(film.compared) + 1, log.records[-1].step
    assert captions(film)[-2] == f"The film ends here, in step {cut}. The run goes on, to step {last}."
    assert film.beats[-2].start < 85


def test_a_run_cut_in_its_last_step_does_not_promise_more(told, monkeypatch):
    monkeypatch.setattr("animations.tree_scene.LONGEST", 6.0)
    log = run(["A fox", "A frog", "The boy"], together=True, num_slots=3)
    film = told(log)
    assert captions(film)[-2] == f"The film ends here, in step 1. The run goes on, to step {log.records[-1].step}."
    assert not film.compared
    seen = EventLog(3, header=log.header)
    for record in log.records:
        if record.step == 1:
            seen.emit(record.event)
    assert captions(told(seen))[-2] == "The film ends here, in step 1. The rest of this last step is not shown."


def test_an_eviction_while_prompts_are_computed_does_not_speak_of_an_answer(told):
    prompts = [alone("Once upon a time there was a fox"), alone("The big red boat")]
    log = run(prompts, num_slots=3, capacity_tokens=10)
    film = told(log)
    total = next(int(c.split("But ")[1].split()[0]) for c in captions(film) if "too many" in c)
    assert total > 10
    assert count(film, f"The new words are kept. But {total} tokens are too many: 10 may stay.") == 1
    assert count(film, "answer") == 0
    assert count(film, "What it shared with others stays.") == 0


def test_a_leaf_that_two_slots_hold_is_evicted_once(told):
    fox = alone("Once upon a time there was a fox")
    log = run([fox, fox, alone("The big red boat")], num_slots=3, capacity_tokens=10)
    kinds = [type(record.event) for record in log.records]
    assert (kinds.count(e.SlotTruncated), kinds.count(e.NodeEvicted)) == (2, 1)
    film = told(log)
    for words in ("too many", "Which one was used longest ago?", "This one.", "The leaf is gone."):
        assert count(film, words) == 1, words
    assert captions(film)[-1] == "What was computed stays while there is room. That is the prefix cache."


def test_each_leaf_that_must_go_has_its_question_and_one_that_is_not_shown_has_none(told):
    firsts = ("A", "The", "She", "Mum", "One", "They", "He", "It")
    log = run([f"{first} big red boat" for first in firsts], num_slots=9, capacity_tokens=30)
    evicted = sum(isinstance(record.event, e.NodeEvicted) for record in log.records)
    film = told(log)
    hidden = count(film, "It is one of those not shown.")
    assert evicted and hidden
    assert count(film, "Which one was used longest ago?") == count(film, "This one.")
    assert count(film, "too many") == hidden + count(film, "This one.")


def test_edges_that_become_one_are_told_as_that(told):
    log = run([alone(text) for text in ("A big red boat", "A big red kite", "The dog")], num_slots=2)
    assert sum(isinstance(record.event, e.NodeMerged) for record in log.records) == 1
    assert count(told(log), "they become one") == 1


def test_a_run_without_the_prefix_cache_is_refused_with_what_to_do():
    log = run(["A fox", "A fox"], num_slots=2, prefix_cache=False)
    with pytest.raises(ValueError, match=r"prefix cache off: there is no tree to show.*prefix_cache=True"):
        SplitTheEdge(log, quick=True)


def test_a_run_in_which_nothing_was_computed_is_refused():
    engine = InferenceEngine(*load("tiny", device="cpu"), num_slots=2, start=False)
    engine.submit(GenerationRequest("A fox", sampling=SamplingParams(max_tokens=0)))
    engine.scheduler.step()
    with pytest.raises(ValueError, match=r"there is no tree to show\. Run a request first"):
        SplitTheEdge(engine.trace, quick=True)


def test_where_nothing_was_shared_the_film_does_not_say_so(told):
    film = told(run([alone("A fox"), alone("The big red boat")], longest=3, num_slots=3))
    assert count(film, "share") == 0
    assert captions(film)[-1] == "What was computed stays while there is room. That is the prefix cache."
    film = told(run(["A big fox", "A big boat"], num_slots=3))
    assert captions(film)[-1].startswith("What many prompts share is used often, and stays.")


def test_nothing_like_it_is_said_only_where_no_cached_text_begins_like_it(told):
    ids = alone("Once upon a time")
    film = told(run([ids, ids[:1]], num_slots=3))
    assert count(film, "Nothing like it is in the cache") == 1
    assert count(film, "A prompt comes. All of it is computed (M).") == 1


def test_a_slot_that_is_handed_out_as_it_is_is_not_told_as_a_copy(told):
    fox = "Once upon a time there was a fox"
    log = run([fox, fox, "Once upon a time a bear"], num_slots=3)
    assert sum(isinstance(record.event, e.PrefixCopied) for record in log.records) == 1
    film = told(log)
    assert count(film, "are copied") == count(film, "Nothing is copied.") == 1
