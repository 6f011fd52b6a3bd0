"""What a picture is told is what the trace says; it lives and ends with its engine; its page needs nothing else."""

from __future__ import annotations

import gc
import json
import subprocess
import sys
import time
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

import astrai
from astrai.trace.log import EventLog
from astrai.trace.replay import replay
from astrai.widgets.picture import Dashboard, PhaseTimeline, RadixTree, SlotMap
from tests.inference.models import random_config
from tests.widgets.runs import story_log


@pytest.fixture
def engine() -> Iterator[astrai.InferenceEngine]:
    model, tokenizer = astrai.load("tiny", device="cpu")
    engine = astrai.InferenceEngine(model, tokenizer, num_slots=2)
    yield engine
    engine.shutdown()
    if present := getattr(engine, "dashboard", None):
        present.close()


def test_what_is_no_engine_is_refused_by_watch_in_its_own_words() -> None:
    for wrong in ("run.jsonl", None, 3):
        with pytest.raises(TypeError, match=f"an engine at work, not a {type(wrong).__name__}; play\\(\\) shows"):
            astrai.watch(wrong)


def wait_until(question: Callable[[], Any], seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not question():
        assert time.monotonic() < deadline, "it did not come about in time"
        time.sleep(0.01)


def told(picture: Any) -> dict[str, Any]:
    return json.loads(picture.view)


def test_a_live_dashboard_is_told_what_the_trace_says_until_the_engine_ends(engine: astrai.InferenceEngine) -> None:
    dashboard = astrai.watch(engine)
    assert dashboard.note == "live"
    engine.generate(["Once upon a time", "Once upon a hill"], max_tokens=12)
    engine.shutdown()
    wait_until(lambda: dashboard.note != "live")
    assert dashboard.note == "ended: the engine was shut down"
    state, truth = told(dashboard)["state"], replay(engine.trace)
    assert state["seq"] == engine.trace.next_seq
    assert [(s["version"], s["owner"], s["len"]) for s in state["slots"]] == [
        (s.version, s.request_id, s.context_len) for s in truth.slots
    ]
    assert {int(node) for node in state["nodes"]} == {node.node_id for node in truth.nodes}


def test_the_tokens_of_a_slot_are_sent_when_the_page_asks_for_them(engine: astrai.InferenceEngine) -> None:
    dashboard = astrai.watch(engine)
    engine.generate("Once upon a time", max_tokens=4)
    assert not any("ids" in slot for slot in told(dashboard)["state"]["slots"])
    dashboard.focus = 0
    wait_until(lambda: "ids" in told(dashboard)["state"]["slots"][0])
    view = told(dashboard)
    text = "".join(view["vocab"][str(token_id)] for token_id in view["state"]["slots"][0]["ids"])
    assert "Once upon a time" in text
    dashboard.focus = -1
    wait_until(lambda: not any("ids" in slot for slot in told(dashboard)["state"]["slots"]))
    dashboard.focus = 99  # whatever a page says
    dashboard.stop()


def test_watching_again_is_the_same_picture_until_it_was_closed(engine: astrai.InferenceEngine) -> None:
    first = astrai.watch(engine)
    assert astrai.watch(engine) is first
    first.close()
    second = astrai.watch(engine)
    assert second is not first and second.watcher is not None and second.watcher.is_alive


def test_a_dashboard_keeps_no_engine_alive() -> None:
    model, tokenizer = astrai.load("tiny", device="cpu")
    engine = astrai.InferenceEngine(model, tokenizer, num_slots=2)
    dashboard, gone = astrai.watch(engine), weakref.ref(engine)
    del engine
    gc.collect()
    assert gone() is None
    wait_until(lambda: dashboard.note.startswith("ended"))
    dashboard.close()


def test_a_live_run_is_rewound_on_request(engine: astrai.InferenceEngine) -> None:
    dashboard = astrai.watch(engine)
    engine.generate("Once upon a time", max_tokens=4)
    assert dashboard.recording == "" and dashboard.can_rewind
    dashboard.asked = "recording"
    assert json.loads(dashboard.recording)["count"] >= 5
    dashboard.asked = "live"
    assert dashboard.recording == ""


def test_a_recorded_file_is_played_with_the_bundled_tokenizer(engine: astrai.InferenceEngine, tmp_path: Path) -> None:
    with engine.trace.record(tmp_path / "run.jsonl"):
        engine.generate("Once upon a time", max_tokens=6)
        engine.shutdown()
    player = astrai.play(tmp_path / "run.jsonl")
    recording = json.loads(player.recording)
    assert recording["labels"][-1][0] == replay(engine.trace).step
    assert "Once upon a time" in player.text()
    assert player.watcher is None and not player.can_rewind


def test_pictures_stand_alone_and_show_their_part(engine: astrai.InferenceEngine) -> None:
    engine.generate("Once upon a time", max_tokens=3)
    for kind, words in ((SlotMap, "slot 0"), (RadixTree, "Once upon"), (PhaseTimeline, "request 0")):
        picture = kind(engine)
        assert words in picture.text()
        data, _ = picture._repr_mimebundle_()
        assert set(data) >= {"text/plain", "image/svg+xml", "application/vnd.jupyter.widget-view+json"}
        ElementTree.fromstring(data["image/svg+xml"])
        picture.close()


def test_the_svg_and_the_text_of_a_step_are_those_of_that_step() -> None:
    story = story_log()
    dashboard = Dashboard(story.log)
    for step in (1, 20, 63):
        assert f"step {step}" in dashboard.text(step).lower()
        ElementTree.fromstring(dashboard.svg(step))
    with pytest.raises(ValueError, match="step 999 is not in the log"):
        dashboard.svg(999)
    dashboard.close()


def test_a_saved_page_plays_a_run_from_the_file_system_alone(page: Any, tmp_path: Path) -> None:
    dashboard = Dashboard(story_log().log)
    dashboard.save(tmp_path / "run.html", title="A <run> & more")
    page.context.set_offline(True)
    page.goto((tmp_path / "run.html").as_uri())
    page.wait_for_selector(".dashboard canvas")
    last = json.loads(dashboard.recording)["labels"][-1][0]
    assert page.title() == "A <run> & more"
    slider = page.get_by_role("slider", name="Frame")
    slider.press("End")
    assert page.locator(".dashboard").get_attribute("data-step") == str(last)
    slider.press("ArrowLeft")
    assert page.locator(".dashboard").get_attribute("data-step") == str(last - 1)
    page.get_by_role("button", name="Play (space)").click()
    page.wait_for_function("step => document.querySelector('.dashboard').dataset.step === step", arg=str(last))
    dashboard.close()


def test_a_text_that_looks_like_markup_stays_text_in_a_saved_page(page: Any, tmp_path: Path) -> None:
    evil = "</script><script>document.title = 'broken'</script><img src=x onerror=\"document.title = 'broken'\">"
    log = story_log().log
    from astrai.widgets.run import Run

    Run(log, lambda ids: evil).save(tmp_path / "run.html")
    page.goto((tmp_path / "run.html").as_uri())
    page.wait_for_selector(".dashboard canvas")
    page.get_by_role("slider", name="Frame").press("End")
    assert page.title() == "A run of AstrAI"


def test_an_engine_without_tokenizer_is_watched_by_ids() -> None:
    from astrai.model.transformer import Transformer

    engine = astrai.InferenceEngine(Transformer.random(random_config(1), seed=0), num_slots=2)
    dashboard = astrai.watch(engine)
    engine.generate([3, 4, 5], max_tokens=2, ignore_eos=True)
    assert "[3 4 5" in dashboard.text()
    engine.shutdown()
    dashboard.close()


def test_a_log_is_needed_or_something_that_has_one(tmp_path: Path) -> None:
    with pytest.raises(OSError):
        astrai.play(tmp_path / "nothing.jsonl")
    assert astrai.play(EventLog(2)).text()


def test_without_anywidget_the_error_says_what_to_install() -> None:
    code = "import sys; sys.modules['anywidget'] = None; import astrai; astrai.watch"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert "pip install 'astrai[lab]'" in result.stderr
